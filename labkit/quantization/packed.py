"""What every method gives: packed tensors that can be counted, unpacked, and multiplied with."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Stored:
    """Something quantized. Subclasses are dataclasses; every tensor that they hold is part of what is stored."""

    __slots__ = ()

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The values that the packed ones stand for, computed in float32 and rounded to `dtype` at the end."""
        raise NotImplementedError

    def tensors(self) -> dict[str, Tensor]:
        """Everything that is stored, by name."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in found.items() if isinstance(value, Tensor)}

    @property
    def nbytes(self) -> int:
        """Bytes of all that is stored: codes, scales, zeros, indices, outliers."""
        return sum(tensor.nbytes for tensor in self.tensors().values())

    def to(self, device: torch.device | str) -> Self:
        """The same on another device."""
        return replace(self, **{name: tensor.to(device) for name, tensor in self.tensors().items()})


class Packed(Stored):
    """A quantized weight [outputs, inputs]; `dequantize` gives it back in this shape."""

    __slots__ = ()
    quantizes_inputs: ClassVar[bool] = False
    """Whether `linear` rounds its inputs too, so that it is more than a product with `dequantize()`."""

    shape: tuple[int, int]

    def levels(self, row: int, column: int) -> Tensor:
        """The values that the weight at [row, column] could have taken, ascending: the grid that it was put on. float32 [levels]."""
        raise NotImplementedError

    def linear(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """x [..., inputs] -> [..., outputs], as a server computes this layer."""
        return F.linear(x, self.dequantize(x.dtype), bias)

    @property
    def bits_per_weight(self) -> float:
        """All that is stored, spread over the weights."""
        return 8 * self.nbytes / (self.shape[0] * self.shape[1])


class PackedLinear(nn.Module):
    """A linear layer that keeps its weight packed. x [..., inputs] -> [..., outputs]."""

    def __init__(self, packed: Packed, bias: Tensor | None = None) -> None:
        super().__init__()
        self.packed = packed
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
        self.out_features, self.in_features = packed.shape

    def forward(self, x: Tensor) -> Tensor:
        return self.packed.linear(x, self.bias)
