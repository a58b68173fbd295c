"""Attention of one token to all before it, out of blocks that stay where they are.

Bytes are all that counts here: every key and value is read for one query of each head that shares it. So blocks are gone through once,
each from its beginning to its end, as they lie in memory, and what is read next is asked for while the present is computed. The softmax
grows with them, as in FlashAttention (https://arxiv.org/abs/2205.14135): one over all scores would have keys and values read apart.
"""
from __future__ import annotations

import math

import numpy as np

from labkit.glassbox.kernels.compiler import kernel
from labkit.glassbox.kernels.lanes import LANES, SPAN, add_lanes, any_beyond, dot_lanes, soften_lanes
from labkit.glassbox.kernels.vectors import LOG2_E, softmax

AHEAD = 2  # in pieces of a block, one for each KV head; asked for only one ahead, memory answers too late
SLACK = np.float32(64)  # weights are relative to the first score, and may be up to 2 ** SLACK before another one takes its place


@kernel
def decode(q, kv_layer, table, context, kv_heads, following, output):
    """One token: q [num_heads or more, head_dim] -> output [num_heads, head_dim], for the heads of `kv_heads` (first, end).

    kv_layer as in `paged.paged_attention`; table [N] block ids; context: slots that the token sees. `following` [block_size, head_dim] are
    the keys that whoever comes next reads first.
    """
    if output.shape[1] % SPAN == 0 and kv_layer.shape[3] % LANES == 0:
        decode_lanes(q, kv_layer, table, context, kv_heads, following, output)
    else:
        decode_plain(q, kv_layer, table, context, kv_heads, output)


@kernel
def decode_lanes(q, kv_layer, table, context, kv_heads, following, output):
    num_heads, head_dim = output.shape
    block_size = kv_layer.shape[3]
    group_size = num_heads // kv_layer.shape[2]
    num_blocks = -(-context // block_size)
    first, end = kv_heads[0] * group_size, kv_heads[1] * group_size
    factor = np.float32(LOG2_E / math.sqrt(head_dim))
    output[first:end] = 0
    scores = np.empty((num_heads, block_size), np.float32)
    peaks, totals = np.empty(num_heads, np.float32), np.zeros((num_heads, LANES), np.float32)  # of a head: a sum in every lane
    for logical in range(num_blocks):
        block, later = kv_layer[table[logical]], kv_layer[table[min(logical + 1, num_blocks - 1)]]
        count = min(block_size, context - logical * block_size)
        for kv_head in range(kv_heads[0], kv_heads[1]):
            keys, ahead = block[0, kv_head], kv_head + AHEAD
            soon = block[0, ahead] if ahead < kv_heads[1] else block[1, min(ahead - kv_heads[1] + kv_heads[0], kv_heads[1] - 1)]
            for row in range(0, count, LANES):
                for head in range(kv_head * group_size, (kv_head + 1) * group_size):
                    for column in range(0, head_dim, SPAN):
                        dot_lanes(q, head, keys, row, column, soon, scores)
        if logical == 0:
            peaks[first:end] = scores[first:end, 0]
        for head in range(first, end):
            for row in range(0, count, LANES):
                if any_beyond(scores, head, row, count, peaks[head] + SLACK / factor):
                    raise_peak(scores, row, count, peaks, factor, totals, output, head)
            for row in range(0, count, LANES):  # now that all of the block are known: what has become a weight does not shrink
                soften_lanes(scores, head, row, count, peaks[head], factor, totals)
        for kv_head in range(kv_heads[0], kv_heads[1]):
            values, ahead = block[1, kv_head], kv_head + AHEAD
            if ahead < kv_heads[1]:
                soon = block[1, ahead]
            else:
                soon = later[0, min(ahead - kv_heads[1] + kv_heads[0], kv_heads[1] - 1)] if logical + 1 < num_blocks else following
            rows = count // LANES * LANES
            for row in range(0, rows, LANES):
                for head in range(kv_head * group_size, (kv_head + 1) * group_size):
                    for column in range(0, head_dim, SPAN):
                        add_lanes(scores, head, values, row, column, soon, output)
            for row in range(rows, count):
                for head in range(kv_head * group_size, (kv_head + 1) * group_size):
                    for i in range(head_dim):
                        output[head, i] += scores[head, row] * values[row, i]
    for head in range(first, end):
        output[head] *= np.float32(1) / totals[head].sum()


@kernel
def raise_peak(scores, row, count, peaks, factor, totals, output, head):
    """Weights and sums so far shrink, to what is highest now."""
    peak = scores[head, row]
    for i in range(row, min(row + LANES, count)):
        peak = max(peak, scores[head, i])
    shrink = np.float32(2) ** ((peaks[head] - peak) * factor)
    totals[head] *= shrink
    output[head] *= shrink
    peaks[head] = peak


@kernel
def decode_plain(q, kv_layer, table, context, kv_heads, output):
    """The same for heads and blocks of any size: a head at a time, and nothing is asked for ahead."""
    block_size, group_size = kv_layer.shape[3], output.shape[0] // kv_layer.shape[2]
    scale = np.float32(1 / math.sqrt(output.shape[1]))
    scores = np.empty(context, np.float32)
    for head in range(kv_heads[0] * group_size, kv_heads[1] * group_size):
        for slot in range(context):
            key, score = kv_layer[table[slot // block_size], 0, head // group_size, slot % block_size], np.float32(0)
            for i in range(len(key)):
                score += q[head, i] * key[i]
            scores[slot] = score
        softmax(scores, context, scale)
        output[head] = 0
        for slot in range(context):
            value = kv_layer[table[slot // block_size], 1, head // group_size, slot % block_size]
            for i in range(len(value)):
                output[head, i] += scores[slot] * value[i]
