"""Attention of one token to all before it, out of blocks that stay where they are.

Bytes are all that counts here: every key and value is read for one query of each head that shares it. So what is read next is asked for
while the present is computed.
"""
from __future__ import annotations

import math

import numpy as np

from labkit.glassbox.kernels.compiler import kernel
from labkit.glassbox.kernels.prefetch import LINE, prefetch
from labkit.glassbox.kernels.vectors import softmax

ROWS = 4  # keys or values that are gone over together


@kernel
def decode(q, kv_layer, table, context, kv_heads, following, output):
    """One token: q [num_heads or more, head_dim] -> output [num_heads, head_dim], for the heads of `kv_heads` (first, end).

    kv_layer as in `paged.paged_attention`; table [N] block ids; context: slots that the token sees. `following` [block_size, head_dim] are
    the keys that whoever comes next reads first.
    """
    num_heads, head_dim = output.shape
    block_size = kv_layer.shape[3]
    group_size = num_heads // kv_layer.shape[2]
    scale = np.float32(1 / math.sqrt(head_dim))
    num_blocks = -(-context // block_size)
    weights = np.empty((group_size, num_blocks * block_size), np.float32)
    bits = np.empty(weights.shape[1], np.int32)
    for kv_head in range(kv_heads[0], kv_heads[1]):  # the heads that share it go over its keys and values together
        heads = kv_head * group_size, (kv_head + 1) * group_size
        next_keys = kv_layer[table[0], 0, kv_head + 1] if kv_head + 1 < kv_heads[1] else following
        for logical in range(num_blocks):
            keys, first, count = kv_layer[table[logical], 0, kv_head], logical * block_size, context - logical * block_size
            soon = kv_layer[table[logical + 1], 0, kv_head] if logical + 1 < num_blocks else kv_layer[table[0], 1, kv_head]
            dot(q, heads, keys, weights, first, min(block_size, count), soon)
        for head in range(group_size):
            softmax(weights[head], bits, context, scale)
        output[heads[0] : heads[1]] = 0
        for logical in range(num_blocks):
            values, first, count = kv_layer[table[logical], 1, kv_head], logical * block_size, context - logical * block_size
            soon = kv_layer[table[logical + 1], 1, kv_head] if logical + 1 < num_blocks else next_keys
            add(weights, first, min(block_size, count), values, output, heads, soon)


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
