"""Linear layers whose weights lie in the order in which oneDNN's kernels read them.

`F.linear` rearranges a weight into cache-sized panels in every call, which for the few rows of a decode batch costs as much as a third of
the product. Here that is done once, when the model is loaded.
"""
from __future__ import annotations

import torch
from torch import Tensor, nn

from labkit.glassbox.layers import Linear

ROWS = 32  # of the batch that the layout is chosen for; it serves any number


class PackedLinear(nn.Module):
    """x [..., inputs] -> [..., outputs] on a CPU."""

    def __init__(self, linear: Linear) -> None:
        super().__init__()
        self.weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), ROWS)
        self.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.mkldnn._linear_pointwise.default(x, self.weight, self.bias, "none", [], "")


def pack_linears(model: nn.Module) -> None:
    """Replace every `Linear` of a loaded model, in place, one at a time: memory holds one weight twice."""
    for module in model.modules():
        for name, child in module.named_children():
            if type(child) is Linear:
                setattr(module, name, PackedLinear(child))


def can_pack(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether this build of torch has oneDNN for such weights."""
    return device.type == "cpu" and torch.backends.mkldnn.is_available() and dtype == torch.float32
