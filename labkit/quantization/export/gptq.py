"""The GPTQ checkpoint format, as AutoGPTQ wrote it and vLLM, TGI and transformers read it.

Of each linear layer: `qweight` int32 [inputs * bits / 32, outputs], words filled along the inputs; `qzeros` int32 [groups, outputs * bits
/ 32] with every zero less one; `scales` float16 [groups, outputs]; `g_idx` int32 [inputs], the group of each input.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from labkit.quantization.affine import Affine, store
from labkit.quantization.errors import QuantizationError
from labkit.quantization.packed import Packed
from labkit.quantization.packing import from_words, words

SUFFIXES = ("qweight", "qzeros", "scales", "g_idx")


def tensors(packed: Packed) -> dict[str, Tensor]:
    """What stands for one linear layer, by the end of its name."""
    packed = fitting(packed)
    zeros = torch.full((packed.groups, packed.shape[0]), 2 ** (packed.bits - 1) - 1)
    return {
        "qweight": words(packed.integers(), packed.bits).T,
        "qzeros": words(zeros, packed.bits),
        "scales": packed.scales.half().T,
        "g_idx": torch.arange(packed.shape[1], dtype=torch.int32) // packed.group_size,
    }


def config(packed: Packed) -> dict[str, Any]:
    """The `quantization_config` of config.json."""
    packed = fitting(packed)
    return {
        "quant_method": "gptq",
        "bits": packed.bits,
        "group_size": packed.group_size if packed.groups > 1 else -1,
        "desc_act": False,  # whatever the order was, the groups are those of the inputs as they stand
        "sym": True,
        "lm_head": False,
        "checkpoint_format": "gptq",
    }


def fitting(packed: Packed) -> Affine:
    """`packed`, if the format holds it. Raises QuantizationError otherwise."""
    if not isinstance(packed, Affine) or packed.bits not in (4, 8) or not packed.symmetric or packed.scales.shape[0] != packed.shape[0]:
        raise QuantizationError("a GPTQ checkpoint holds symmetric grids of 4 or 8 bits: quantize with gptq or rtn, 4 bits, symmetric")
    return packed


def read(found: dict[str, Tensor], settings: dict[str, Any]) -> Affine:
    """The layer that `tensors` made these of. Raises QuantizationError for groups that are not those of neighbouring inputs."""
    bits = settings["bits"]
    codes = from_words(found["qweight"].T, bits)
    inputs = codes.shape[1]
    group_size = settings["group_size"] if settings["group_size"] > 0 else inputs
    if "g_idx" in found and not torch.equal(found["g_idx"], torch.arange(inputs, dtype=torch.int32) // group_size):
        raise QuantizationError("this GPTQ checkpoint has its inputs in an order of their own (desc_act): take one with desc_act false")
    shift = 0 if settings.get("checkpoint_format") == "gptq_v2" else 1
    zeros = (from_words(found["qzeros"], bits).T + shift) & (2**bits - 1)
    return store(codes, found["scales"].T, None if (zeros == 2 ** (bits - 1)).all() else zeros, bits, group_size, found["scales"].dtype)
