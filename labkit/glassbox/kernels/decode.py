"""Attention of one token to all before it, out of blocks that stay where they are.

Bytes are all that counts here: every key and value is read for one query of each head that shares it. So what is read next is asked for
while the present is computed.
"""
from __future__ import annotations

import math

import numpy as np

from labkit.glassbox.kernels.compiler import kernel
from labkit.glassbox.kernels.lanes import LANES, SPAN, add_lanes, dot_lanes
from labkit.glassbox.kernels.vectors import softmax

ROWS = 4  # keys or values that plain loops go over together
AHEAD = 2  # blocks: asked for one block ahead, memory answers too late


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
    in_lanes = block_size // LANES * LANES if head_dim % SPAN == 0 else 0  # rows of a block; plain loops do the others
    scores = np.empty((group_size, num_blocks * block_size), np.float32)
    for kv_head in range(kv_heads[0], kv_heads[1]):  # the heads that share it go over its keys and values together
        first_head = kv_head * group_size
        for logical in range(num_blocks):  # all slots of the last block, too: the scores of those that are not seen stay unused
            keys, slot, later = kv_layer[table[logical], 0, kv_head], logical * block_size, logical + AHEAD - num_blocks
            soon = kv_layer[table[logical + AHEAD], 0, kv_head] if later < 0 else kv_layer[table[min(later, num_blocks - 1)], 1, kv_head]
            for row in range(0, in_lanes, LANES):
                for head in range(group_size):
                    for column in range(0, head_dim, SPAN):
                        dot_lanes(q, first_head + head, keys, row, column, soon, scores, head, slot + row)
            if in_lanes < block_size:
                dot(q, first_head, keys, in_lanes, scores, slot)
        for head in range(group_size):
            softmax(scores[head], context, scale)
        output[first_head : first_head + group_size] = 0
        for logical in range(num_blocks):
            values, slot, later = kv_layer[table[logical], 1, kv_head], logical * block_size, logical + AHEAD - num_blocks
            if later < 0:
                soon = kv_layer[table[logical + AHEAD], 1, kv_head]
            else:
                soon = kv_layer[table[min(later, num_blocks - 1)], 0, kv_head + 1] if kv_head + 1 < kv_heads[1] else following
            count = min(block_size, context - slot)
            rows = min(in_lanes, count // LANES * LANES)
            for row in range(0, rows, LANES):
                for head in range(group_size):
                    for column in range(0, head_dim, SPAN):
                        add_lanes(scores, head, slot + row, values, row, column, soon, output, first_head + head)
            if rows < count:
                add(scores, slot, values, rows, count, output, first_head)


@kernel
def dot(q, first_head, keys, start, scores, slot):
    """Rows of q [num_heads, head_dim] from `first_head` on, as many as scores [group_size, slots] has, times the rows of keys [block_size,
    head_dim] from `start` on, into the block's `scores`, which begin at `slot`."""
    block_size, head_dim = keys.shape
    for head in range(scores.shape[0]):
        query, result = q[first_head + head], scores[head, slot:]
        together = block_size - (block_size - start) % ROWS
        for row in range(start, together, ROWS):
            a = b = c = d = np.float32(0)
            for i in range(head_dim):
                a += query[i] * keys[row, i]
                b += query[i] * keys[row + 1, i]
                c += query[i] * keys[row + 2, i]
                d += query[i] * keys[row + 3, i]
            result[row], result[row + 1], result[row + 2], result[row + 3] = a, b, c, d
        for row in range(together, block_size):
            a = np.float32(0)
            for i in range(head_dim):
                a += query[i] * keys[row, i]
            result[row] = a


@kernel
def add(scores, slot, values, start, end, output, first_head):
    """To rows of output [num_heads, head_dim] from `first_head` on, rows [start, end) of values [block_size, head_dim], each times its one
    of scores [group_size, slots], those of the block beginning at `slot`."""
    for head in range(scores.shape[0]):
        weights, result = scores[head, slot:], output[first_head + head]
        together = end - (end - start) % ROWS
        for row in range(start, together, ROWS):
            a, b, c, d = weights[row], weights[row + 1], weights[row + 2], weights[row + 3]
            for i in range(output.shape[1]):
                result[i] += a * values[row, i] + b * values[row + 1, i] + c * values[row + 2, i] + d * values[row + 3, i]
        for row in range(together, end):
            for i in range(output.shape[1]):
                result[i] += weights[row] * values[row, i]
