"""Attention of a chunk of a prompt: many queries for each key, so two matrix products with a softmax between them."""
from __future__ import annotations

import math

import numpy as np

from labkit.glassbox.kernels.compiler import kernel
from labkit.glassbox.kernels.linear import product
from labkit.glassbox.kernels.tile import WIDTH
from labkit.glassbox.kernels.vectors import softmax

BAND = 32  # tokens whose scores stand in the cache together


@kernel
def chunk(query, token, count, kv_layer, table, start, kv_head, output):
    """Rows [token, token + count) of query [T, num_heads or more, head_dim] -> the same rows of output [T, num_heads, head_dim], for the
    heads that share `kv_head`. They are tokens [start, start + count) of their request; each sees those up to itself.

    kv_layer as in `paged.paged_attention`; table [N] block ids. Keys and values are packed once for all queries.
    """
    num_heads, head_dim = output.shape[1], output.shape[2]
    group_size = num_heads // kv_layer.shape[2]
    scale = np.float32(1 / math.sqrt(head_dim))
    keys, values = pack_keys(kv_layer, table, start + count, kv_head), pack_values(kv_layer, table, start + count, kv_head)
    key_numbers, value_numbers = keys.reshape(-1), values.reshape(-1)
    for first in range(0, count, BAND):
        tokens = min(BAND, count - first)
        rows, panels = tokens * group_size, -(-(start + first + tokens) // WIDTH)  # as many as the last of them sees
        q = np.empty((rows, head_dim), np.float32)
        for row in range(rows):
            q[row] = query[token + first + row // group_size, kv_head * group_size + row % group_size]
        scores = np.empty((rows, panels * WIDTH), np.float32)
        for panel in range(panels):
            product(q, 0, rows, key_numbers, panel * head_dim * WIDTH, False, scores, panel * WIDTH)
        for row in range(rows):
            seen = start + first + row // group_size + 1
            softmax(scores[row], seen, scale)
            scores[row, seen:] = 0
        sums = np.empty((rows, values.shape[0] * WIDTH), np.float32)
        for panel in range(values.shape[0]):
            product(scores, 0, rows, value_numbers, panel * values.shape[1] * WIDTH, False, sums, panel * WIDTH)
        for row in range(rows):
            output[token + first + row // group_size, kv_head * group_size + row % group_size] = sums[row, :head_dim]


@kernel
def pack_keys(kv_layer, table, context, kv_head):
    """Keys of `context` slots as panels [slots / WIDTH, head_dim, WIDTH]: the slots take the place of a weight's outputs."""
    block_size, head_dim = kv_layer.shape[3], kv_layer.shape[4]
    panels = np.zeros((-(-context // WIDTH), head_dim, WIDTH), np.float32)
    for slot in range(context):
        key, panel = kv_layer[table[slot // block_size], 0, kv_head, slot % block_size], panels[slot // WIDTH]
        for i in range(head_dim):
            panel[i, slot % WIDTH] = key[i]
    return panels


@kernel
def pack_values(kv_layer, table, context, kv_head):
    """Values of `context` slots as panels [head_dim / WIDTH, slots, WIDTH]: the slots take the place of a weight's inputs. There are as
    many as panels of keys have, the last of them zeros."""
    block_size, head_dim = kv_layer.shape[3], kv_layer.shape[4]
    panels = np.zeros((-(-head_dim // WIDTH), -(-context // WIDTH) * WIDTH, WIDTH), np.float32)
    for slot in range(context):
        value = kv_layer[table[slot // block_size], 1, kv_head, slot % block_size]
        for i in range(head_dim):
            panels[i // WIDTH, slot, i % WIDTH] = value[i]
    return panels
