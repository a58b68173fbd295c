"""LLM.int8(): products in 8 bits, but the few input features with very large values stay out of them.

"LLM.int8(): 8-bit Matrix Multiplication for Transformers at Scale" (Dettmers et al., 2022, arXiv:2208.07339). Each output channel of the
weight and each token of the input has a scale of its own. Features with a value of 6 or more anywhere in the batch would make those
scales coarse for all others: their columns are multiplied apart, in full precision.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from labkit.quantization import int8
from labkit.quantization.errors import check_statistic, check_weight
from labkit.quantization.packed import Packed

THRESHOLD = 6.0


@dataclass(slots=True)
class LLMInt8(Packed):
    """weight = codes * absmax / 127, but for the columns that are kept as they are."""

    quantizes_inputs: ClassVar[bool] = True

    shape: tuple[int, int]
    threshold: float
    codes: Tensor  # int8 [outputs, inputs]; 0 in kept columns
    absmax: Tensor  # float32 [outputs, 1]
    columns: Tensor  # int32 [kept]: input features known to have outliers
    kept: Tensor  # float16 [outputs, kept]: their weights

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        weight = self.codes * (self.absmax / 127)
        weight[:, self.columns] = self.kept.float()
        return weight.to(dtype)

    def levels(self, row: int, column: int) -> Tensor:
        return torch.arange(-127.0, 128.0, device=self.codes.device) * self.absmax[row] / 127

    def linear(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """Rounds each token of x [..., inputs] to 8 bits, except for its outlier features: those calibrated, and those that x shows."""
        rows = x.reshape(-1, x.shape[-1])
        outlier = (rows.abs() >= self.threshold).any(0)
        outlier[self.columns] = True
        features = outlier.nonzero().flatten()
        product = int8.linear(rows.masked_fill(outlier, 0), self.codes, self.absmax)
        product += F.linear(rows[:, features].float(), self.dequantize()[:, features])
        product = product.to(x.dtype).view(*x.shape[:-1], -1)
        return product if bias is None else product + bias


def quantize(weight: Tensor, threshold: float = THRESHOLD, input_peak: Tensor | None = None) -> LLMInt8:
    """weight [outputs, inputs] to int8 per output channel.

    `input_peak` [inputs], the greatest absolute value of each input feature in a calibration, tells which columns to keep in float16.
    Without it none are; then the outlier features of an input are multiplied with the rounded weights, as bitsandbytes does.
    """
    check_weight(weight)
    if input_peak is None:
        columns = torch.empty(0, dtype=torch.int32, device=weight.device)
    else:
        check_statistic("input_peak", input_peak, weight.shape[1:], "LLM.int8()")
        columns = (input_peak >= threshold).nonzero().flatten().int()
    rest = weight.float().clone()
    rest[:, columns] = 0
    codes, absmax = int8.by_row(rest)
    return LLMInt8(tuple(weight.shape), threshold, codes, absmax, columns, weight[:, columns].half())
