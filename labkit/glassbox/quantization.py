"""What an engine's bytes are: how weights are quantized, in which format the KV cache is, and what a switch from one to another changed."""
from __future__ import annotations

from dataclasses import dataclass

from labkit.quantization.errors import QuantizationError, check_choice
from labkit.quantization.methods import method as find_method
from labkit.quantization.text import ROWS

KV_FORMATS = {"auto": None, "int8": "int8", "fp8": "e4m3", "fp8_e4m3": "e4m3", "fp8_e5m2": "e5m2"}
"""Values of kv_cache_dtype, with the format's name in `labkit.quantization.kv_cache`; auto: the dtype that the model computes in."""


@dataclass(slots=True, frozen=True)
class Quantization:
    """Made by `of`, so that what means the same is equal. `bits` and `group_size` are None where the method leaves no choice."""

    method: str | None = None  # one of labkit.quantization.methods.METHODS; None: weights as the checkpoint has them
    bits: int | None = None
    group_size: int | None = None  # weights that share a scale
    kv_cache_dtype: str = "auto"
    calibration_rows: int = ROWS  # of text, for methods that look at activations

    @classmethod
    def of(
        cls,
        method: str | None = None,
        bits: int | None = None,
        group_size: int | None = None,
        kv_cache_dtype: str = "auto",
        calibration_rows: int = ROWS,
    ) -> Quantization:
        """method "none" is None, kv_cache_dtype "fp8" is "fp8_e4m3". Raises `QuantizationError` for what there is not."""
        check_choice("kv_cache_dtype", kv_cache_dtype, KV_FORMATS)
        kv_cache_dtype = "fp8_e4m3" if kv_cache_dtype == "fp8" else kv_cache_dtype
        if not isinstance(calibration_rows, int) or calibration_rows < 1:
            raise QuantizationError(f"{calibration_rows!r} rows are no calibration set: give a whole number such as {ROWS}")
        if method in (None, "none"):
            if bits is not None or group_size is not None:
                raise QuantizationError("bits and group_size belong to a quantization method: give one, such as rtn or gptq")
            return cls(kv_cache_dtype=kv_cache_dtype)
        arguments = find_method(method).check(bits, group_size)
        rows = calibration_rows if find_method(method).calibrates else ROWS
        return cls(method, arguments.get("bits"), arguments.get("group_size"), kv_cache_dtype, rows)

    def changed(
        self,
        method: str | None = None,
        bits: int | None = None,
        group_size: int | None = None,
        kv_cache_dtype: str | None = None,
        calibration_rows: int | None = None,
    ) -> Quantization:
        """What it becomes: None leaves things as they are, a method "none" goes back to the checkpoint's weights. A new method begins with
        its own bits and group size; bits and group size alone change those of the method in force."""
        if method is None:
            method = self.method
            bits = self.bits if bits is None else bits
            group_size = self.group_size if group_size is None else group_size
        rows = self.calibration_rows if calibration_rows is None else calibration_rows
        return Quantization.of(method, bits, group_size, self.kv_cache_dtype if kv_cache_dtype is None else kv_cache_dtype, rows)

    def same_weights(self, other: Quantization) -> bool:
        """Whether only the KV cache differs, if anything."""
        return (self.method, self.bits, self.group_size, self.calibration_rows) == (
            other.method, other.bits, other.group_size, other.calibration_rows
        )  # fmt: skip

    @property
    def weight_bits(self) -> int | None:
        """Bits of a code, None for weights as the checkpoint has them."""
        if self.method is None:
            return None
        return self.bits or find_method(self.method).bits[0]

    def __str__(self) -> str:
        bits = f", {self.weight_bits} bits" if self.method else ""
        groups = f" in groups of {self.group_size}" if self.group_size else ""
        return f"weights {self.method or 'as in the checkpoint'}{bits}{groups}; KV cache {self.kv_cache_dtype}"


@dataclass(slots=True)
class Switch:
    """What `Engine.quantize` did. Bytes are exact, scales and zeros included; a tied weight counts once."""

    method: str  # "none": weights as the checkpoint has them
    bits: int | None
    group_size: int | None
    kv_cache_dtype: str
    weight_bytes_before: int
    weight_bytes_after: int
    block_bytes_before: int  # of one KV block in all layers
    block_bytes_after: int
    num_blocks_before: int
    num_blocks_after: int
    preempted: int  # requests whose KV is computed again
    max_num_seqs: int  # requests that may run at once from now on
    seconds: float
