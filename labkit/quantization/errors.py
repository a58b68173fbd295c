"""What cannot be quantized as asked, said with its remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


class QuantizationError(ValueError):
    """A weight, an option or a model that cannot be quantized as asked; the message names the cause and the remedy."""


def check_weight(weight: Tensor) -> None:
    """Raises QuantizationError unless `weight` is a matrix [outputs, inputs] of finite floating-point numbers."""
    if not hasattr(weight, "is_floating_point"):
        raise QuantizationError(f"a {type(weight).__name__} is already quantized: give its .dequantize(), or better the original weight")
    if not weight.is_floating_point() or weight.itemsize < 2:
        raise QuantizationError(f"a weight of {weight.dtype} is already quantized: give the original one in float32, bfloat16 or float16")
    if weight.ndim != 2:
        raise QuantizationError(f"a weight of shape {list(weight.shape)} is no matrix: give [outputs, inputs], as torch.nn.Linear holds it")
    if not weight.isfinite().all():
        raise QuantizationError("the weight holds infinities or NaN: no grid can cover it. Load the checkpoint again, or in float32")


def check_bits(bits: int, allowed: Iterable[int]) -> None:
    """Raises QuantizationError unless `bits` is one of `allowed`."""
    allowed = tuple(allowed)
    if bits not in allowed:
        wanted = f"{allowed[0]} to {allowed[-1]}" if len(allowed) > 2 else " or ".join(map(str, allowed))
        raise QuantizationError(f"{bits!r} bits are not possible here: take {wanted}")


def check_choice(what: str, given: object, allowed: Iterable[str]) -> None:
    """Raises QuantizationError unless `given` is one of the names in `allowed`."""
    allowed = tuple(allowed)
    if given not in allowed:
        near = difflib.get_close_matches(str(given), allowed, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise QuantizationError(f"there is no {what} {given!r}: there are {', '.join(allowed)}.{hint}")


def check_groups(inputs: int, group_size: int) -> None:
    """Raises QuantizationError unless rows of `inputs` weights divide into groups of `group_size`."""
    if not isinstance(group_size, int) or group_size < 1:
        raise QuantizationError(f"{group_size!r} is no group size: give a whole number such as 64, or per='channel' for one group a row")
    if inputs % group_size:
        fits = [size for size in range(8, min(inputs, 256) + 1) if inputs % size == 0]
        remedy = f"take a group size of {', '.join(map(str, fits[-6:]))}" if fits else "quantize per channel"
        raise QuantizationError(f"{inputs} inputs do not divide into groups of {group_size}: {remedy}, or per='channel'")


def check_statistic(name: str, found: Tensor | None, shape: tuple[int, ...], method: str) -> None:
    """Raises QuantizationError unless the calibration statistic `name` is there and of this shape."""
    if found is None:
        raise QuantizationError(f"{method} needs {name} of the layer's inputs: collect it with labkit.quantization.calibration")
    if tuple(found.shape) != shape:
        raise QuantizationError(
            f"{name} has shape {list(found.shape)}, this weight needs {list(shape)}: take the statistics of the same layer"
        )
