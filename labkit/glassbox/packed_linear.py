"""Linear layers whose weights are packed for the lab's own kernel, see `kernels/linear.py`."""
from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from labkit.glassbox.kernels.linear import WIDTH, linear, pack
from labkit.glassbox.layers import Linear
from labkit.glassbox.threads import together

WORTH = 64 << 20  # bytes of weights times rows: below, threads would take longer to meet than they save
LARGE = 4 << 20  # bytes of a weight that takes long enough to read
MANY = 32  # rows for each thread, who then reads the whole weight for its own; fewer rows share out the weight


class PackedLinear(nn.Module):
    """x [..., inputs] -> [..., outputs] in float32 on a CPU."""

    def __init__(self, panels: np.ndarray, bias: nn.Parameter | None, outputs: int) -> None:
        super().__init__()
        self.panels, self.bias, self.outputs = panels, bias, outputs

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, x.shape[-1]).contiguous().numpy()
        output = torch.empty(len(rows), self.outputs)
        multiply(rows, self.panels, output.numpy(), torch.get_num_threads())
        if self.bias is not None:
            output += self.bias
        return output.view(*x.shape[:-1], self.outputs)


def multiply(x: np.ndarray, panels: np.ndarray, output: np.ndarray, threads: int) -> None:
    """x [M, K] times a packed weight -> output [M, N], shared out among threads where that is worth it."""
    if threads == 1 or (len(x) * panels.nbytes < WORTH and panels.nbytes < LARGE):
        return linear(x, panels, False, output, 0)
    by_rows = len(x) >= MANY * threads
    bounds = np.linspace(0, len(x) if by_rows else len(panels), threads + 1).astype(int).tolist()

    def part(start: int, end: int) -> None:
        if by_rows:
            linear(x[start:end], panels, False, output[start:end], 0)
        else:
            linear(x, panels[start:end], False, output, start * WIDTH)

    together(part, [(start, end) for start, end in zip(bounds[:-1], bounds[1:], strict=True) if start < end])


def pack_linears(model: nn.Module) -> dict[str, np.ndarray]:
    """Replace every `Linear` of a loaded model, in place; returns the panels of those that all layers have, [L, ...] by their path in a
    layer. One kind of layer is held twice meanwhile."""
    paths = {path for layer in model.layers for path, module in layer.named_modules() if type(module) is Linear}
    stacked = {}
    for path in sorted(paths):
        linears = [layer.get_submodule(path) for layer in model.layers]
        first = pack(linears[0].weight.detach().numpy())
        stacked[path] = panels = np.empty((len(linears), *first.shape), np.float32)
        for layer, old, new in zip(model.layers, linears, panels, strict=True):
            new[:] = pack(old.weight.detach().numpy())
            put(layer, path, old, new)
    if type(model.lm_head) is Linear:
        put(model, "lm_head", model.lm_head, pack(model.lm_head.weight.detach().numpy()))
    return stacked


def put(parent: nn.Module, path: str, old: Linear, panels: np.ndarray) -> None:
    before, _, name = path.rpartition(".")
    setattr(parent.get_submodule(before), name, PackedLinear(panels, old.bias, len(old.weight)))


def can_pack(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether the kernel computes such weights."""
    return device.type == "cpu" and dtype == torch.float32
