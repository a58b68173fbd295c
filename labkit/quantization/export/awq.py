"""The AWQ checkpoint format ("gemm"), as AutoAWQ wrote it and vLLM, TGI and transformers read it.

Of each linear layer: `qweight` int32 [inputs, outputs / 8], `qzeros` int32 [groups, outputs / 8], `scales` float16 [groups, outputs]. The
eight outputs of a word lie in the order that AWQ's CUDA kernel unpacks them in.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from labkit.quantization.affine import Affine, store
from labkit.quantization.errors import QuantizationError
from labkit.quantization.packed import Packed
from labkit.quantization.packing import from_words, words

SUFFIXES = ("qweight", "qzeros", "scales")
ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
"""Which of eight outputs is in the lowest four bits, in the next, and so on."""


def tensors(packed: Packed) -> dict[str, Tensor]:
    """What stands for one linear layer, by the end of its name."""
    packed = fitting(packed)
    return {
        "qweight": words(interleaved(packed.integers().T), 4),
        "qzeros": words(interleaved(packed.zero_points().T), 4),
        "scales": packed.scales.half().T,
    }


def interleaved(codes: Tensor) -> Tensor:
    """codes [n, outputs] with each eight outputs in the kernel's order."""
    return codes.unflatten(-1, (-1, 8))[..., list(ORDER)].flatten(-2)


def config(packed: Packed) -> dict[str, Any]:
    """The `quantization_config` of config.json."""
    packed = fitting(packed)
    return {"quant_method": "awq", "bits": 4, "group_size": packed.group_size, "zero_point": True, "version": "gemm"}


def fitting(packed: Packed) -> Affine:
    """`packed`, if the format holds it. Raises QuantizationError otherwise."""
    if not isinstance(packed, Affine) or packed.bits != 4 or packed.groups < 2 or packed.input_scale is not None:
        raise QuantizationError("an AWQ checkpoint holds grids of 4 bits in groups: quantize a model with awq, bits 4 and a group size")
    return packed


def read(found: dict[str, Tensor], settings: dict[str, Any]) -> Affine:
    """The layer that `tensors` made these of."""
    if settings["bits"] != 4 or settings.get("version", "gemm").lower() != "gemm":
        which = f"{settings['bits']} bits, version {settings.get('version')}"
        raise QuantizationError(f"this AWQ checkpoint has {which}: take one of 4 bits, gemm")
    codes, zeros = (straightened(from_words(found[name], 4)).T for name in ("qweight", "qzeros"))
    group_size = settings["group_size"] if settings["group_size"] > 0 else codes.shape[1]
    return store(codes, found["scales"].T, zeros, 4, group_size, found["scales"].dtype)


def straightened(codes: Tensor) -> Tensor:
    """The inverse of `interleaved`."""
    return codes.unflatten(-1, (-1, 8))[..., [ORDER.index(place) for place in range(8)]].flatten(-2)
