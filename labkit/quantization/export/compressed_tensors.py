"""The compressed-tensors checkpoint format, vLLM's own: 4 or 8 bits for weights only (W4A16, W8A16), or 8-bit weights and activations
(W8A8).

"pack-quantized": `weight_packed` int32 [outputs, inputs * bits / 32], `weight_scale` [outputs, groups], `weight_shape` int64 [2], and
with an asymmetric grid `weight_zero_point` int32 [outputs * bits / 32, groups]. "int-quantized": `weight` int8 [outputs, inputs],
`weight_scale` [outputs, 1]; activations are rounded by the server, token by token.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from labkit.quantization.affine import Affine, store
from labkit.quantization.errors import QuantizationError
from labkit.quantization.packed import Packed
from labkit.quantization.packing import from_words, words
from labkit.quantization.smoothquant import W8A8

SUFFIXES = ("weight", "weight_packed", "weight_scale", "weight_shape", "weight_zero_point")


def tensors(packed: Packed) -> dict[str, Tensor]:
    """What stands for one linear layer, by the end of its name."""
    packed = fitting(packed)
    if isinstance(packed, W8A8):
        return {"weight": packed.codes, "weight_scale": packed.scales.float()}
    found = {
        "weight_packed": words(packed.integers(), packed.bits),
        "weight_scale": packed.scales.half(),
        "weight_shape": torch.tensor(packed.shape),
    }
    if not packed.symmetric:
        found["weight_zero_point"] = words(packed.zero_points().T, packed.bits).T
    return found


def config(packed: Packed) -> dict[str, Any]:
    """The `quantization_config` of config.json."""
    packed = fitting(packed)
    if isinstance(packed, W8A8):
        weights, inputs, form = arguments(8, True, "channel", None), arguments(8, True, "token", None, dynamic=True), "int-quantized"
    else:
        grouped = packed.groups > 1
        weights = arguments(packed.bits, packed.symmetric, "group" if grouped else "channel", packed.group_size if grouped else None)
        inputs, form = None, "pack-quantized"
    group = {"targets": ["Linear"], "weights": weights, "input_activations": inputs, "output_activations": None}
    return {
        "quant_method": "compressed-tensors",
        "format": form,
        "quantization_status": "compressed",
        "config_groups": {"group_0": group},
        "ignore": ["lm_head"],
        "kv_cache_scheme": None,
    }


def arguments(bits: int, symmetric: bool, strategy: str, group_size: int | None, dynamic: bool = False) -> dict[str, Any]:
    """One side of a scheme, in the format's own words."""
    return {"num_bits": bits, "type": "int", "symmetric": symmetric, "strategy": strategy, "group_size": group_size, "dynamic": dynamic}


def fitting(packed: Packed) -> Affine | W8A8:
    """`packed`, if the format holds it. Raises QuantizationError otherwise."""
    if isinstance(packed, W8A8) and packed.input_scale is None:
        return packed
    if isinstance(packed, Affine) and packed.bits in (4, 8) and packed.scales.shape[0] == packed.shape[0] and packed.input_scale is None:
        return packed
    raise QuantizationError("a compressed-tensors checkpoint holds 4 or 8 bits, or W8A8: quantize with rtn, gptq, awq or smoothquant")


def read(found: dict[str, Tensor], settings: dict[str, Any]) -> Affine | W8A8:
    """The layer that `tensors` made these of. Raises QuantizationError for schemes that the lab does not compute."""
    groups = list(settings["config_groups"].values())
    weights, inputs = groups[0]["weights"], groups[0].get("input_activations")
    scales = found["weight_scale"]
    if len(groups) > 1 or weights["type"] != "int" or weights["num_bits"] not in (4, 8) or weights.get("actorder") in ("group", True):
        raise QuantizationError("this checkpoint has another scheme than W4A16, W8A16 or W8A8 in whole numbers: take one of those")
    if "weight" in found:
        if not inputs or not inputs.get("dynamic") or scales.shape != (found["weight"].shape[0], 1):
            raise QuantizationError("this W8A8 checkpoint has no scale per channel and token: take one with dynamic activations")
        return W8A8(tuple(found["weight"].shape), found["weight"], scales.float())
    bits = weights["num_bits"]
    codes = from_words(found["weight_packed"], bits)
    zeros = from_words(found["weight_zero_point"].T, bits).T if "weight_zero_point" in found else None
    return store(codes, scales, zeros, bits, codes.shape[1] // scales.shape[1], scales.dtype)
