"""The KV cache in 8 bits: twice or four times as many tokens in the same memory.

Some channels of the keys are large for every token, so keys get a scale per channel over a run of tokens; values have no such channels
and get one per token ("KIVI: A Tuning-Free Asymmetric 2bit Quantization for KV Cache", Liu et al., 2024, arXiv:2402.02750). FP8 brings
its range with it: there one scale for all may do, which is what servers use.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from labkit.quantization import fp8
from labkit.quantization.errors import QuantizationError, check_choice
from labkit.quantization.packed import Stored

PEAKS = {"int8": 127.0} | {name: greatest for name, (_, _, greatest) in fp8.FORMATS.items()}
"""The greatest code of each format."""


@dataclass(slots=True)
class QuantizedKV(Stored):
    """Keys or values [..., tokens, heads, head_dim] = codes * scales."""

    format: str
    codes: Tensor  # int8, or uint8 with the bits of 8-bit floats
    scales: Tensor  # float16, broadcast: per channel [..., 1, heads, head_dim], per token [..., tokens, heads, 1], per tensor [1, ...]

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        values = self.codes.float() if self.format == "int8" else fp8.look_up(self.codes, self.format)
        return (values * self.scales.float()).to(dtype)


def quantize_keys(keys: Tensor, format: str = "int8") -> QuantizedKV:
    """keys [..., tokens, heads, head_dim], for example the blocks of a cache; a scale for each channel of each head over the tokens."""
    return quantize(keys, format, "channel")


def quantize_values(values: Tensor, format: str = "int8") -> QuantizedKV:
    """values [..., tokens, heads, head_dim]; a scale for each token and head."""
    return quantize(values, format, "token")


def quantize(tensor: Tensor, format: str = "int8", per: str = "token") -> QuantizedKV:
    """[..., tokens, heads, head_dim] in `format` "int8", "e4m3" or "e5m2", with scales `per` "channel", "token" or "tensor"."""
    check_choice("KV format", format, PEAKS)
    check_choice("granularity of the KV cache", per, ("channel", "token", "tensor"))
    if tensor.ndim < 3 or not tensor.is_floating_point():
        raise QuantizationError(f"{tensor.dtype} of shape {list(tensor.shape)} is no cache: give floats [..., tokens, heads, head_dim]")
    dims = {"channel": (-3,), "token": (-1,), "tensor": tuple(range(tensor.ndim))}[per]
    scales = (tensor.float().abs().amax(dims, keepdim=True) / PEAKS[format]).half()
    scales = torch.where(scales == 0, torch.finfo(torch.float16).tiny, scales)
    scaled = tensor.float() / scales.float()
    if format == "int8":
        return QuantizedKV(format, scaled.round().clamp(-127, 127).to(torch.int8), scales)
    return QuantizedKV(format, fp8.encode(scaled, format), scales)
