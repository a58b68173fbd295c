"""The kernel of paged attention: one query per request against keys and values that stay in their blocks.

What a GPU kernel does with a thread block for each request and head, these loops do one after the other; Numba makes machine code of them.
"""
from __future__ import annotations

import math

import numpy as np

from labkit.glassbox.kernels.compiler import kernel
from labkit.glassbox.kernels.prefetch import LINE, prefetch
from labkit.glassbox.kernels.vectors import LOG2_E, exp2

ROWS = 4  # keys or values that are gone over together


@kernel
def paged_decode(query: np.ndarray, kv_layer: np.ndarray, tables: np.ndarray, contexts: np.ndarray, output: np.ndarray) -> None:
    """query [R, num_heads or more, head_dim]; output [R, num_heads, head_dim]; kv_layer [num_blocks, 2, num_kv_heads, block_size,
    head_dim]; all float32.

    tables [R, N]: block ids in logical order; contexts [R]: how many slots of them a query sees, at least 1. Nothing else is read.
    """
    num_requests, num_heads, head_dim = output.shape
    num_kv_heads, block_size = kv_layer.shape[2], kv_layer.shape[3]
    group_size = num_heads // num_kv_heads
    scale = np.float32(1 / math.sqrt(head_dim))
    weights = np.empty((group_size, tables.shape[1] * block_size), np.float32)
    bits = np.empty(weights.shape[1], np.int32)
    for request in range(num_requests):
        context = contexts[request]
        num_blocks = -(-context // block_size)
        for kv_head in range(num_kv_heads):  # the heads that share it go over its keys and values together
            heads = kv_head * group_size, (kv_head + 1) * group_size
            if kv_head + 1 < num_kv_heads:
                next_keys = kv_layer[tables[request, 0], 0, kv_head + 1]
            else:
                next_keys = kv_layer[tables[min(request + 1, num_requests - 1), 0], 0, 0]
            for logical in range(num_blocks):
                keys, first, count = kv_layer[tables[request, logical], 0, kv_head], logical * block_size, context - logical * block_size
                more = logical + 1 < num_blocks
                soon = kv_layer[tables[request, logical + 1], 0, kv_head] if more else kv_layer[tables[request, 0], 1, kv_head]
                dot(query[request], heads, keys, weights, first, min(block_size, count), soon)
            for head in range(group_size):
                softmax(weights[head], bits, context, scale)
            output[request, heads[0] : heads[1]] = 0
            for logical in range(num_blocks):
                values, first, count = kv_layer[tables[request, logical], 1, kv_head], logical * block_size, context - logical * block_size
                more = logical + 1 < num_blocks
                soon = kv_layer[tables[request, logical + 1], 1, kv_head] if more else next_keys
                add(weights, first, min(block_size, count), values, output[request], heads, soon)


@kernel
def ask(vectors: np.ndarray, row: int) -> None:
    """Have `ROWS` of [block_size, head_dim] vectors brought nearer, from `row` on, while something else is computed."""
    head_dim = vectors.shape[1]
    for offset in range(row * head_dim, (row + ROWS) * head_dim, LINE):
        prefetch(vectors, offset)


@kernel
def dot(q, heads, keys, weights, first, count, soon):
    """Rows [heads[0], heads[1]) of q [num_heads, head_dim] times the first `count` of keys [block_size, head_dim], into `weights`
    [group_size, slots] from slot `first` on. `soon`, the vectors that are read after these, are asked for on the way."""
    together = count // ROWS * ROWS
    for row in range(0, together, ROWS):
        ask(soon, row)
        for head in range(heads[0], heads[1]):
            a = b = c = d = np.float32(0)
            for i in range(q.shape[1]):
                a += q[head, i] * keys[row, i]
                b += q[head, i] * keys[row + 1, i]
                c += q[head, i] * keys[row + 2, i]
                d += q[head, i] * keys[row + 3, i]
            at, slot = head - heads[0], first + row
            weights[at, slot], weights[at, slot + 1], weights[at, slot + 2], weights[at, slot + 3] = a, b, c, d
    for row in range(together, count):
        for head in range(heads[0], heads[1]):
            a = np.float32(0)
            for i in range(q.shape[1]):
                a += q[head, i] * keys[row, i]
            weights[head - heads[0], first + row] = a


@kernel
def add(weights, first, count, values, out, heads, soon):
    """To rows [heads[0], heads[1]) of out [num_heads, head_dim] the first `count` of values [block_size, head_dim], each times its one of
    `weights` [group_size, slots], which begin at slot `first`. `soon` as in `dot`."""
    together = count // ROWS * ROWS
    for row in range(0, together, ROWS):
        ask(soon, row)
        for head in range(heads[0], heads[1]):
            at, slot = head - heads[0], first + row
            a, b, c, d = weights[at, slot], weights[at, slot + 1], weights[at, slot + 2], weights[at, slot + 3]
            for i in range(out.shape[1]):
                out[head, i] += a * values[row, i] + b * values[row + 1, i] + c * values[row + 2, i] + d * values[row + 3, i]
    for row in range(together, count):
        for head in range(heads[0], heads[1]):
            a = weights[head - heads[0], first + row]
            for i in range(out.shape[1]):
                out[head, i] += a * values[row, i]


@kernel
def softmax(scores: np.ndarray, bits: np.ndarray, count: int, scale: float) -> None:
    """Of the first `count` scores, float32, times `scale`, in place. `bits` is int32 room for as many."""
    peak = scores[0]
    for i in range(count):
        peak = max(peak, scores[i])
    factor = np.float32(scale * LOG2_E)
    for i in range(count):
        scores[i] = max((scores[i] - peak) * factor, np.float32(-126))  # at most 0, and below this nothing to speak of
    exp2(scores, bits, count)
    total = np.float32(0)
    for i in range(count):
        total += scores[i]
    share = np.float32(1) / total
    for i in range(count):
        scores[i] *= share
