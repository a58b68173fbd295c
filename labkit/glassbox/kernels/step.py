"""A whole step, from embeddings to logits, as one function of machine code: what `model.py` says layer by layer."""
from __future__ import annotations

from typing import NamedTuple

import numpy as np

from labkit.glassbox.kernels.compiler import kernel
from labkit.glassbox.kernels.linear import linear
from labkit.glassbox.kernels.paged import paged_attention
from labkit.glassbox.kernels.vectors import add_bias, rms_norm, rotate, store, swiglu


class Weights(NamedTuple):
    """Of all layers, float32; L layers. What a model does not have has size 0 instead of its own."""

    attention_norm: np.ndarray  # [L, hidden]
    qkv: np.ndarray  # [L, ...] each layer's `linear.pack` of [(num_heads + 2 * num_kv_heads) * head_dim, hidden]
    qkv_bias: np.ndarray  # [L, (num_heads + 2 * num_kv_heads) * head_dim]
    q_norm: np.ndarray  # [L, head_dim]
    k_norm: np.ndarray  # [L, head_dim]
    o: np.ndarray  # [L, ...] of [hidden, num_heads * head_dim]
    mlp_norm: np.ndarray  # [L, hidden]
    gate_up: np.ndarray  # [L, ...] of [2 * intermediate, hidden]
    down: np.ndarray  # [L, ...] of [hidden, intermediate]
    norm: np.ndarray  # [hidden]
    lm_head: np.ndarray  # of [vocab_size, hidden]


class Tokens(NamedTuple):
    """The T tokens of R requests, see `paged.paged_attention`."""

    turns: np.ndarray  # [T, 2, head_dim] rows of `rope.rope_table`
    kv_rows: np.ndarray  # [T * 2 * num_kv_heads] where keys and values go, see `attention.kv_rows`
    starts: np.ndarray  # [R]
    counts: np.ndarray  # [R]
    tables: np.ndarray  # [R, N]


@kernel
def forward(x: np.ndarray, tokens: Tokens, cache: np.ndarray, weights: Weights, eps: float, rows: np.ndarray, logits: np.ndarray) -> None:
    """x [T, hidden]: embeddings, written over. cache [L, num_blocks, 2, num_kv_heads, block_size, head_dim]. `rows` of the tokens are those
    whose logits are wanted -> logits [len(rows), vocab_size]."""
    count, head_dim, kv_heads = x.shape[0], cache.shape[5], cache.shape[3]
    heads, intermediate = weights.o.shape[2] // head_dim, weights.down.shape[2]
    normed = np.empty_like(x)
    qkv = np.empty((count, heads + 2 * kv_heads, head_dim), np.float32)
    attended = np.empty((count, heads, head_dim), np.float32)
    gate_up = np.empty((count, 2 * intermediate), np.float32)
    hidden = np.empty((count, intermediate), np.float32)
    for layer in range(weights.qkv.shape[0]):
        rms_norm(x, weights.attention_norm[layer], eps, normed)
        linear(normed, weights.qkv[layer], False, qkv.reshape(count, -1), 0)
        if weights.qkv_bias.shape[1]:
            add_bias(qkv.reshape(count, -1), weights.qkv_bias[layer])
        if weights.q_norm.shape[1]:
            for token in range(count):
                queries, keys = qkv[token, :heads], qkv[token, heads : heads + kv_heads]
                rms_norm(queries, weights.q_norm[layer], eps, queries)
                rms_norm(keys, weights.k_norm[layer], eps, keys)
        rotate(qkv, heads + kv_heads, tokens.turns)
        store(qkv[:, heads:], tokens.kv_rows, cache[layer].reshape(-1, head_dim))
        paged_attention(qkv, cache[layer], tokens.starts, tokens.counts, tokens.tables, (0, kv_heads), attended)
        linear(attended.reshape(count, -1), weights.o[layer], True, x, 0)
        rms_norm(x, weights.mlp_norm[layer], eps, normed)
        linear(normed, weights.gate_up[layer], False, gate_up, 0)
        swiglu(gate_up, hidden)
        linear(hidden, weights.down[layer], True, x, 0)
    last = np.empty((len(rows), x.shape[1]), np.float32)
    for i in range(len(rows)):
        last[i] = x[rows[i]]
    rms_norm(last, weights.norm, eps, last)
    linear(last, weights.lm_head, False, logits, 0)
