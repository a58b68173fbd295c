"""The methods by name: what each can do and what it needs to know of a layer's inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from labkit.quantization.errors import QuantizationError, check_bits, check_choice, check_groups

if TYPE_CHECKING:
    from labkit.quantization.packed import Packed


@dataclass(frozen=True, slots=True)
class Fold:
    """A scale of the inputs that is found for layers which share them, and that the layer before takes over (`folding`)."""

    function: str  # of the method's module: takes the weights and what `needs` and `options` name
    needs: tuple[str, ...]
    options: tuple[str, ...]
    after_linears: bool  # or after norms only


@dataclass(frozen=True, slots=True)
class Method:
    """One way to quantize a weight. `needs` names the fields of `calibration.Statistics` that are arguments of its `quantize`."""

    name: str
    module: str
    about: str
    bits: tuple[int, ...]  # the usual one first
    needs: tuple[str, ...] = ()
    takes_bits: bool = False  # whether `quantize` has `bits` and is not made for one number of them
    takes_groups: bool = False  # likewise `group_size`
    fold: Fold | None = None

    @property
    def quantize(self) -> Callable[..., Packed]:
        """The method itself."""
        return self.load("quantize")

    def load(self, name: str) -> Callable:
        """A function of the method's module."""
        return getattr(import_module(f"labkit.quantization.{self.module}"), name)

    @property
    def calibrates(self) -> tuple[str, ...]:
        """All statistics that a layer is calibrated for."""
        return tuple(dict.fromkeys((*self.needs, *(self.fold.needs if self.fold else ()))))

    def check(self, bits: int | None, group_size: int | None) -> dict[str, int]:
        """The arguments that stand for these bits and this group size (None: the method's own). Raises QuantizationError."""
        found = {}
        if bits is not None:
            allowed = sorted(self.bits)
            if not self.takes_bits and bits not in allowed:
                raise QuantizationError(f"{self.name} is made for {allowed[0]} bits, not {bits!r}: leave the bits out, or take gptq or rtn")
            check_bits(bits, allowed)
        if self.takes_bits:
            found["bits"] = self.bits[0] if bits is None else bits
        if group_size is not None and not self.takes_groups:
            raise QuantizationError(f"{self.name} has no groups: leave the group size out, or take gptq or rtn")
        if self.takes_groups:
            found["group_size"] = GROUP_SIZE if group_size is None else group_size
            check_groups(found["group_size"], found["group_size"])
        return found


GROUP_SIZE = 64
SOME = (4, 2, 3, 5, 6, 7, 8)
AWQ = Fold("search", ("second_moment", "input_mean"), ("bits", "per", "group_size", "symmetric"), after_linears=True)
SMOOTHQUANT = Fold("smoothing", ("input_peak",), ("alpha",), after_linears=False)
METHODS = {
    method.name: method
    for method in (
        Method("rtn", "round_to_nearest", "round to nearest, in groups", SOME, (), True, True),
        Method("gptq", "gptq", "later columns make up for the error of earlier ones", SOME, ("second_moment",), True, True),
        Method("awq", "awq", "weights that meet large activations get finer steps", SOME, ("second_moment",), True, True, AWQ),
        Method("squeezellm", "squeezellm", "k-means by sensitivity, outliers apart", SOME, ("sensitivity",), True),
        Method("nf4", "nf4", "levels of a normal distribution, scales quantized again", (4,)),
        Method("llm-int8", "llm_int8", "8-bit products, outlier features apart", (8,), ("input_peak",)),
        Method("smoothquant", "smoothquant", "8-bit weights and activations, outliers smoothed", (8,), fold=SMOOTHQUANT),
        Method("fp8", "fp8", "8-bit floats", (8,)),
    )
}


def method(name: str) -> Method:
    """The method of this name. Raises QuantizationError with the names there are."""
    check_choice("quantization method", name, METHODS)
    return METHODS[name]
