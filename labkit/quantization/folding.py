"""A scale on a layer's inputs costs nothing where the layer before takes it over: y = W diag(s) (x / s), and x / s is that layer's output.

AWQ (arXiv:2306.00978) and SmoothQuant (arXiv:2211.10438) both live on this: what the real servers load has no scale left to apply.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

AFTER_NORMS = (
    ("input_layernorm", ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")),
    ("post_attention_layernorm", ("mlp.gate_proj", "mlp.up_proj")),
)
AFTER_LINEARS = (("self_attn.v_proj", ("self_attn.o_proj",)), ("mlp.up_proj", ("mlp.down_proj",)))


@dataclass(slots=True)
class Place:
    """Linear layers that share their inputs, and the layer whose output these are. All names are within the decoder layer."""

    source: str
    targets: tuple[str, ...]


def places(layer: nn.Module, after_linears: bool) -> Iterator[Place]:
    """The places of a decoder layer where a scale can be folded: after its norms, and with `after_linears` after v_proj and up_proj.

    After v_proj only where each attention head has keys and values of its own: with grouped ones an output of v_proj meets several inputs
    of o_proj.
    """
    for source, targets in AFTER_NORMS + (AFTER_LINEARS if after_linears else ()):
        before = layer.get_submodule(source)
        if isinstance(before, nn.Linear) and before.out_features != layer.get_submodule(targets[0]).in_features:
            continue
        yield Place(source, targets)


@torch.no_grad()
def apply(layer: nn.Module, place: Place, scale: Tensor) -> None:
    """Divide the source's outputs by `scale` [inputs of the targets], and multiply the targets' weights by it.

    A norm's weight and a bias are rounded to float16, in which a checkpoint will hold them.
    """
    source = layer.get_submodule(place.source)
    if isinstance(source, nn.Linear):
        source.weight /= scale.unsqueeze(1)
        if source.bias is not None:
            source.bias.copy_((source.bias / scale).half())
    else:
        source.weight.copy_((source.weight / scale).half())
    for name in place.targets:
        layer.get_submodule(name).weight.mul_(scale)
