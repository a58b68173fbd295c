"""NF4: sixteen levels placed where normally distributed weights are, in blocks with a scale each, and the scales quantized again.

"QLoRA: Efficient Finetuning of Quantized LLMs" (Dettmers et al., 2023, arXiv:2305.14314). The second quantization puts the scales of 256
blocks on an 8-bit grid that is fine near zero: the dynamic tree of "8-bit Optimizers via Block-wise Quantization" (Dettmers et al., 2021,
arXiv:2110.02861). Values, packing and scales are bitsandbytes' own, bit for bit (its CPU implementation).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from labkit.quantization.errors import QuantizationError, check_weight
from labkit.quantization.packed import Packed
from labkit.quantization.packing import pack, unpack

# Table of the paper's appendix E: means of neighbouring quantiles of N(0, 1), scaled to [-1, 1], with an exact zero.
LEVELS = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334, -0.09105003625154495,
    0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
    0.7229568362236023, 1.0,
)  # fmt: skip
SCALES_PER_BLOCK = 256
LOOKUP = 65535  # bitsandbytes' CPU kernel looks a value's code up at one of 65,536 places from -1 to 1; so does `dynamic_codes`


@dataclass(slots=True)
class NF4(Packed):
    """Blocks run along the rows of the flattened weight."""

    shape: tuple[int, int]
    block_size: int
    codes: Tensor  # uint8 [weights / 2]: two codes in a byte, the first one in its upper half
    absmax: Tensor  # float32 [blocks]; with double quantization its codes, uint8
    absmax_scales: Tensor | None = None  # float32 [ceil(blocks / 256)]
    offset: Tensor | None = None  # float32 []: the mean of the scales

    def scales(self) -> Tensor:
        """The absolute maximum of each block, as far as it is stored: float32 [blocks]."""
        if self.absmax_scales is None:
            return self.absmax
        values = dynamic_tree(self.absmax.device)[self.absmax.long()]
        return values * self.absmax_scales.repeat_interleave(SCALES_PER_BLOCK)[: len(values)] + self.offset

    def integers(self) -> Tensor:
        """Codes as uint8 [outputs, inputs]."""
        return unpack(self.codes, 4, 2 * len(self.codes)).view(-1, 2).flip(-1).reshape(self.shape)

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        levels = torch.tensor(LEVELS, device=self.codes.device)
        values = levels[self.integers().long().view(-1, self.block_size)]
        return (values * self.scales().unsqueeze(-1)).view(self.shape).to(dtype)

    def levels(self, row: int, column: int) -> Tensor:
        scale = self.scales()[(row * self.shape[1] + column) // self.block_size]  # quantized too: a small one may come back below zero
        return torch.tensor(LEVELS, device=self.codes.device) * scale.abs()


def quantize(weight: Tensor, block_size: int = 64, double_quantization: bool = True) -> NF4:
    """weight [outputs, inputs] in blocks of `block_size`: 4 bits a weight, and 0.5 more for scales, or 0.127 when those are quantized too.

    Raises QuantizationError where the weights do not divide into blocks.
    """
    check_weight(weight)
    if block_size < 2 or block_size % 2 or weight.numel() % block_size:
        raise QuantizationError(f"{weight.numel()} weights do not divide into blocks of {block_size!r}: take 64 or 32")
    blocks = weight.float().reshape(-1, block_size)
    absmax = blocks.abs().amax(-1)
    scaled = (blocks * (1 / absmax.clamp(min=1e-38)).unsqueeze(-1)).clamp(-1, 1)
    codes = torch.bucketize(scaled, between(torch.tensor(LEVELS, device=weight.device)))
    packed = pack(codes.view(-1, 2).flip(-1).flatten(), 4)
    if not double_quantization:
        return NF4(tuple(weight.shape), block_size, packed, absmax)
    offset = absmax.mean()
    return NF4(tuple(weight.shape), block_size, packed, *dynamic_codes(absmax - offset), offset)


def between(levels: Tensor) -> Tensor:
    """The midpoints of neighbouring levels."""
    return (levels[:-1] + levels[1:]) / 2


def dynamic_codes(values: Tensor) -> tuple[Tensor, Tensor]:
    """Codes uint8 [n] in the dynamic tree, and the scale float32 of each 256 of them, for float32 values [n]."""
    padded = torch.nn.functional.pad(values, (0, -len(values) % SCALES_PER_BLOCK)).view(-1, SCALES_PER_BLOCK)
    scales = padded.abs().amax(-1)
    scaled = (padded * (1 / scales).unsqueeze(-1)).clamp(-1, 1)
    places = ((scaled + 1) * 0.5 * LOOKUP + 0.5).nan_to_num(0).long()  # NaN: all of them are zero, and the code does not matter
    table = torch.bucketize(torch.arange(LOOKUP + 1, device=values.device) * 2.0 / LOOKUP - 1, between(dynamic_tree(values.device)))
    return table[places].flatten()[: len(values)].to(torch.uint8), scales


def dynamic_tree(device: torch.device | str = "cpu") -> Tensor:
    """The 256 values of the 8-bit dynamic tree in ascending order: 0, 1, and in each decade from 1e-7 to 1 twice as many as in the one
    below, on both sides of zero. float32."""
    values = [0.0, 1.0]
    for exponent in range(7):
        edges = torch.linspace(0.1, 1, 2**exponent + 1)
        decade = (10.0 ** (exponent - 6)) * (edges[:-1] + edges[1:]) / 2
        values += decade.tolist() + (-decade).tolist()
    return torch.tensor(sorted(values), device=device)
