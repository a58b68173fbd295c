"""Where training starts: heads that look back and heads that match, wired before the first step.

Recall needs a circuit of two layers (an "induction head", Olsson et al., 2022, arXiv:2209.11895): one layer tells every token what stood
before it, the next finds the place that stood behind the same. From random weights a net of this size had not found it for names and
keys by the end of a whole run; started like this it finds it in the first lesson. Every weight is trained from there on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from labkit.models.net import Net

EMBEDDING = 0.04
"""Size of the embedding at the start. Much smaller, and the layers drown it: then nothing can be copied."""
FAST, SLOW = 12, 12
"""Rotary pairs that tell places apart (the fastest), and pairs that hardly turn within the context (the slowest), for matching content."""
SHARPNESS, GAIN, MATCH = 8.0, 0.1, 2.0
"""How sharply a head looks at its distance, how much of what it sees it passes on, how strongly equal content attracts."""


@torch.no_grad()
def wire(net: Net) -> None:
    """Head n of the first layer passes on the token n + 1 places before; heads of the second find where the same was passed on.

    All embeddings get one direction in common, from which the first layer's queries and keys are made: their rotary phases differ by
    the distance, so that the score is greatest there. What is passed on leaves that direction out.
    """
    shape = net.shape
    first, second = net.model.layers[0].self_attn, net.model.layers[1].self_attn
    dim, size = shape.head_dim, shape.hidden_size
    common = torch.randint(0, 2, (size,)).float() * 2 - 1
    net.model.embed_tokens.weight += EMBEDDING * common
    for head in range(shape.num_key_value_heads):
        put(first.k_proj.weight, head, look(shape, 0, common))
    for head in range(shape.num_attention_heads):
        put(first.q_proj.weight, head, look(shape, head + 1, common))

    content = rows(dim, size)
    content -= torch.outer(content @ common, common) / size
    for head in range(shape.num_key_value_heads):
        put(first.v_proj.weight, head, content)
    places = rows(min(size, shape.num_attention_heads * dim), size)
    before = [places[n * dim : (n + 1) * dim] for n in range(len(places) // dim)]  # before[n] reads the token n + 1 places before
    for head, readout in enumerate(before):
        first.o_proj.weight[:, head * dim : (head + 1) * dim] = GAIN * readout.T

    slow = min(SLOW, dim // 2)
    turning = [*range(dim // 2 - slow, dim // 2), *range(dim - slow, dim)]
    code = rows(2 * slow, dim)

    def matcher(read: Tensor) -> Tensor:
        weight = torch.zeros(dim, size)
        weight[turning] = MATCH * code @ read
        return weight

    # "Ben is" looks for what stands behind "Ben is": one place after the name there, two places after it here.
    put(second.q_proj.weight, 0, matcher(before[0]))
    put(second.k_proj.weight, 0, matcher(before[1]))
    # A word looks for what stands behind the same word.
    last = shape.num_key_value_heads - 1
    put(second.q_proj.weight, last * shape.num_attention_heads // shape.num_key_value_heads, matcher(content))
    put(second.k_proj.weight, last, matcher(before[0]))


def put(weight: Tensor, head: int, part: Tensor) -> None:
    """Make `part` [head_dim, hidden] the rows of this head."""
    weight[head * len(part) : (head + 1) * len(part)] = part


def rows(count: int, size: int) -> Tensor:
    """`count` random orthonormal rows of `size`."""
    return torch.linalg.qr(torch.randn(size, count))[0].T


def look(shape, distance: int, common: Tensor) -> Tensor:
    """Query rows [head_dim, hidden] that score highest `distance` places back, for keys made with distance 0."""
    pairs = min(FAST, shape.head_dim // 2)
    step = shape.rope_theta ** -(torch.arange(pairs) * 2 / shape.head_dim)
    direction = torch.zeros(shape.head_dim)
    direction[:pairs] = (-distance * step).cos()
    direction[shape.head_dim // 2 :][:pairs] = (-distance * step).sin()
    return SHARPNESS * torch.outer(direction, common) / shape.hidden_size
