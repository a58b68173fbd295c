"""The three layers a decoder is made of.

torch.nn has them too, but fills them with random numbers first; these start empty, with the dtype and on the device of `factory`
({"dtype": ..., "device": ...}).
"""
from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labkit.glassbox.kernels import vectors


class Linear(nn.Module):
    """x [..., inputs] -> [..., outputs]; weight [outputs, inputs]."""

    def __init__(self, inputs: int, outputs: int, bias: bool, factory: dict[str, Any]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs, **factory))
        self.bias = nn.Parameter(torch.empty(outputs, **factory)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


class Embedding(nn.Module):
    """Ids [T] -> rows [T, size] of weight [count, size]."""

    def __init__(self, count: int, size: int, factory: dict[str, Any]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(count, size, **factory))

    def forward(self, ids: Tensor) -> Tensor:
        return self.weight.index_select(0, ids)


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight over the last dimension."""

    def __init__(self, size: int, eps: float, factory: dict[str, Any]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(size, **factory))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        if vectors.serves(x):
            output = torch.empty_like(x)
            rows = -1, x.shape[-1]
            vectors.rms_norm(x.view(rows).numpy(), self.weight.detach().numpy(), self.eps, output.view(rows).numpy())
            return output
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)
