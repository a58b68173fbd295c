"""FP8: numbers of 8 bits with an exponent, so that steps grow with the value. e4m3 for weights and activations, e5m2 where range matters
more.

"FP8 Formats for Deep Learning" (Micikevicius et al., 2022, arXiv:2209.05433). e4m3 reaches 448 and has no infinities (torch.float8_e4m3fn),
e5m2 reaches 57344 with 2 bits of fraction. A scale fits the weights into the range first.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from labkit.quantization.errors import check_choice, check_weight
from labkit.quantization.packed import Packed

FORMATS = {"e4m3": (4, 3, 448.0), "e5m2": (5, 2, 57344.0)}
"""Bits of exponent, bits of fraction, greatest value."""


@dataclass(slots=True)
class FP8(Packed):
    """weight = values * scales."""

    shape: tuple[int, int]
    format: str
    values: Tensor  # uint8 [outputs, inputs]: the bits of the floats
    scales: Tensor  # float32 [outputs, 1], or [1, 1] per tensor

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        return (look_up(self.values, self.format) * self.scales).to(dtype)

    def levels(self, row: int, column: int) -> Tensor:
        values = decode(torch.arange(256, device=self.values.device), self.format).unique()
        return values[values.abs() <= FORMATS[self.format][2]] * self.scales[min(row, len(self.scales) - 1), 0]


def quantize(weight: Tensor, format: str = "e4m3", per: str = "channel") -> FP8:
    """weight [outputs, inputs] as 8-bit floats, scaled `per` "tensor" or "channel" so that the greatest just fits."""
    check_weight(weight)
    check_choice("FP8 format", format, FORMATS)
    check_choice("granularity of FP8", per, ("tensor", "channel"))
    weight = weight.float()
    peak = weight.abs().amax(-1, keepdim=True) if per == "channel" else weight.abs().amax().view(1, 1)
    scales = torch.where(peak > 0, peak / FORMATS[format][2], 1.0)
    return FP8(tuple(weight.shape), format, encode(weight / scales, format), scales)


def encode(values: Tensor, format: str) -> Tensor:
    """float32 of any shape -> uint8: the nearest 8-bit float, ties to even; what is beyond the greatest becomes the greatest."""
    exponent_bits, fraction_bits, greatest = FORMATS[format]
    bias = 2 ** (exponent_bits - 1) - 1
    magnitude = values.abs().clamp(max=greatest)
    _, exponent = torch.frexp(magnitude)
    exponent = (exponent - 1).clamp(min=1 - bias)  # below lie the subnormals, all in steps of the smallest normal's
    steps = torch.ldexp(magnitude, fraction_bits - exponent).round()  # counted from zero, in steps of this exponent
    code = steps + torch.where(magnitude > 0, (exponent + bias - 1) * 2**fraction_bits, 0)
    return code.to(torch.uint8) | (values.signbit().to(torch.uint8) << 7)


def decode(codes: Tensor, format: str) -> Tensor:
    """Codes of any integer type, 0 to 255 -> the float32 that their bits stand for."""
    exponent_bits, fraction_bits, _ = FORMATS[format]
    bias = 2 ** (exponent_bits - 1) - 1
    exponent = ((codes & 127) >> fraction_bits).int()
    fraction = (codes & (2**fraction_bits - 1)).int()
    steps = torch.where(exponent > 0, fraction + 2**fraction_bits, fraction).float()
    magnitude = torch.ldexp(steps, exponent.clamp(min=1) - bias - fraction_bits)
    return torch.where(codes >= 128, -magnitude, magnitude)


def look_up(codes: Tensor, format: str) -> Tensor:
    """`decode` for many codes: there are 256 of them, so each is worked out once. uint8 of any shape -> float32."""
    table = decode(torch.arange(256, device=codes.device), format)
    return table.index_select(0, codes.flatten().int()).view(codes.shape)
