"""Evenly spaced grids: weight = (code - zero) * scale, one scale for a group of weights. Round-to-nearest, GPTQ and AWQ store this.

The general scheme and its vocabulary are those of "A White Paper on Neural Network Quantization" (Nagel et al., 2021, arXiv:2106.08295).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from labkit.quantization.errors import check_choice, check_groups
from labkit.quantization.packed import Packed
from labkit.quantization.packing import pack, unpack

PER = ("tensor", "channel", "group")


@dataclass(slots=True)
class Affine(Packed):
    """Codes in rows, with a scale (and a zero, unless the grid is symmetric) for every group of a row."""

    shape: tuple[int, int]
    bits: int
    group_size: int  # inputs that share a scale
    codes: Tensor  # uint8 [outputs, bytes of a row]
    scales: Tensor  # [outputs, groups]; per tensor [1, 1]
    zeros: Tensor | None = None  # codes of zero, packed like the codes: uint8 [outputs, bytes of a row]
    input_scale: Tensor | None = None  # [inputs]: the weight was multiplied by it before it was rounded (AWQ)

    @property
    def symmetric(self) -> bool:
        return self.zeros is None

    @property
    def groups(self) -> int:
        """Groups in a row."""
        return self.shape[1] // self.group_size

    def integers(self) -> Tensor:
        """Codes as uint8 [outputs, inputs]."""
        return unpack(self.codes, self.bits, self.shape[1])

    def zero_points(self) -> Tensor:
        """The codes that stand for 0, as uint8 [outputs, groups]; per tensor [1, 1]."""
        if self.zeros is None:
            return torch.full_like(self.scales, 2 ** (self.bits - 1), dtype=torch.uint8)
        return unpack(self.zeros, self.bits, self.scales.shape[1])

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        grouped = self.integers().view(self.shape[0], self.groups, self.group_size)
        steps = grouped.to(torch.float32).sub_(self.zero_points().unsqueeze(-1))
        weight = steps.mul_(self.scales.float().unsqueeze(-1)).view(self.shape)
        if self.input_scale is not None:
            weight /= self.input_scale
        return weight.to(dtype)

    def levels(self, row: int, column: int) -> Tensor:
        at = min(row, len(self.scales) - 1), column // self.group_size
        steps = torch.arange(2.0**self.bits, device=self.codes.device) - self.zero_points()[at]
        values = steps * self.scales[at].float()
        return values if self.input_scale is None else values / self.input_scale[column]


def grid(
    groups: Tensor, bits: int, symmetric: bool, shrink: float | Tensor = 1.0, dtype: torch.dtype = torch.float16
) -> tuple[Tensor, Tensor]:
    """The grid that just covers each group: scales and zeros [..., 1] for weights [..., group_size], both float32.

    Scales are rounded to `dtype`, in which they will be stored. Symmetric: from -absmax to absmax with 0 on the grid, where the topmost of
    the 2**bits - 1 steps is cut off (the convention of GPTQ and compressed-tensors checkpoints: scale = absmax / (2**bits - 1) * 2).
    Asymmetric: from the least to the greatest, 0 included. `shrink` below 1 gives up the extremes for finer steps.
    """
    levels = 2**bits - 1
    if symmetric:
        span = 2 * groups.abs().amax(-1, keepdim=True) * shrink
        low = None
    else:
        low = groups.amin(-1, keepdim=True).clamp(max=0) * shrink
        span = groups.amax(-1, keepdim=True).clamp(min=0) * shrink - low
    scales = (span / levels).to(dtype).float()
    tiny = torch.finfo(dtype).tiny
    scales = torch.where(scales < tiny, torch.where(span > 0, tiny, 1.0), scales)
    if low is None:
        return scales, torch.full_like(scales, 2 ** (bits - 1))
    return scales, (-low / scales).round().clamp(0, levels)


def nearest(weights: Tensor, scales: Tensor, zeros: Tensor, bits: int) -> Tensor:
    """The nearest codes of the grid, float32, of the shape of `weights`."""
    return ((weights / scales).round() + zeros).clamp(0, 2**bits - 1)


def rounded(weights: Tensor, scales: Tensor, zeros: Tensor, bits: int) -> Tensor:
    """The nearest values of the grid."""
    return (nearest(weights, scales, zeros, bits) - zeros) * scales


def width(shape: tuple[int, int], per: str, group_size: int) -> int:
    """How many inputs share a scale. Raises QuantizationError where they do not divide."""
    check_choice("granularity", per, PER)
    if per != "group":
        return shape[1]
    check_groups(shape[1], group_size)
    return group_size


def store(
    codes: Tensor,
    scales: Tensor,
    zeros: Tensor | None,
    bits: int,
    group_size: int,
    dtype: torch.dtype = torch.float16,
    input_scale: Tensor | None = None,
) -> Affine:
    """Pack codes [outputs, inputs] with scales and zeros [outputs or 1, groups]; `zeros` None for a symmetric grid."""
    kept = None if zeros is None else pack(zeros, bits)
    return Affine(tuple(codes.shape), bits, group_size, pack(codes, bits), scales.to(dtype), kept, input_scale)
