"""Products of 8-bit integers: rows rounded to int8, each with a scale of its own, as LLM.int8() and SmoothQuant multiply them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def by_row(rows: Tensor) -> tuple[Tensor, Tensor]:
    """int8 codes of rows [n, m], and the absolute maximum of each row [n, 1] in float32, for which code 127 stands."""
    absmax = rows.abs().amax(-1, keepdim=True).float()
    return (rows * (127 / absmax.clamp(min=1e-30))).round().to(torch.int8), absmax


def linear(x: Tensor, codes: Tensor, absmax: Tensor) -> Tensor:
    """x [n, inputs], rounded by row, times int8 codes [outputs, inputs] with their `absmax` [outputs, 1] -> float32 [n, outputs].

    Summed in float32, where integers are exact up to 2**24: any sum over 1,040 inputs, and in practice over many more.
    """
    rows, peaks = by_row(x.float())
    return F.linear(rows.float(), codes.float()) * (peaks / 127) * (absmax / 127).T
