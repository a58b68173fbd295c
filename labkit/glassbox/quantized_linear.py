"""Linear layers of a running model whose weights stay packed.

A projection that stands for several of the checkpoint's layers (q, k and v; gate and up) keeps their packed weights side by side: each was
quantized on its own, with scales and tables of its own, and its outputs are what that layer would have given.
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from labkit.glassbox.layers import Linear
from labkit.quantization.packed import Packed


class QuantizedLinear(nn.Module):
    """x [..., inputs] -> [..., outputs of all parts, in their order]. `bias` is that of all parts, or None."""

    def __init__(self, packed: Sequence[Packed], bias: nn.Parameter | None) -> None:
        super().__init__()
        self.packed = list(packed)
        self.bias = bias
        sizes = [part.shape[0] for part in packed]
        self._biases = [None] * len(sizes) if bias is None else list(bias.detach().split(sizes))

    def forward(self, x: Tensor) -> Tensor:
        outputs = [part.linear(x, bias) for part, bias in zip(self.packed, self._biases, strict=True)]
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, -1)


def keep_packed(model: nn.Module, packed: Mapping[str, Sequence[Packed]]) -> None:
    """Put packed weights in the place of linear layers, in place. `packed`: the parts of each layer, by its path in `model`."""
    for path, parts in packed.items():
        linear = model.get_submodule(path)
        assert isinstance(linear, Linear), path
        parent, _, name = path.rpartition(".")
        setattr(model.get_submodule(parent), name, QuantizedLinear(parts, linear.bias))


def weight_bytes(model: nn.Module) -> int:
    """Bytes of all weights, packed ones with all that belongs to them, tied ones once."""
    packed = [part for module in model.modules() if isinstance(module, QuantizedLinear) for part in module.packed]
    parameters = {id(parameter): parameter for parameter in model.parameters()}.values()
    return sum(part.nbytes for part in packed) + sum(parameter.nbytes for parameter in parameters)
