"""The kernel of paged attention: one query per request against keys and values that stay in their blocks.

What a GPU kernel does with a thread block for each request and head, these loops do one after the other; Numba makes machine code of them.
"""
from __future__ import annotations

import math

import numba
import numpy as np

LOG2_E = np.float32(math.log2(math.e))
# 2 to the power of x in [0, 1] as a polynomial, interpolated at Chebyshev's points: off by 3 parts in 10^9 at most.
POWER = np.polynomial.Chebyshev.interpolate(np.exp2, 6, [0, 1]).convert(kind=np.polynomial.Polynomial)
C0, C1, C2, C3, C4, C5, C6 = POWER.coef.astype(np.float32)


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def paged_decode(query: np.ndarray, kv_layer: np.ndarray, tables: np.ndarray, contexts: np.ndarray, output: np.ndarray) -> None:
    """query, output [R, num_heads, head_dim]; kv_layer [num_blocks, 2, num_kv_heads, block_size, head_dim]; all float32.

    tables [R, N]: block ids in logical order; contexts [R]: how many slots of them a query sees, at least 1. Nothing else is read.
    """
    num_requests, num_heads, head_dim = query.shape
    num_kv_heads, block_size = kv_layer.shape[2], kv_layer.shape[3]
    group_size = num_heads // num_kv_heads
    scale = np.float32(1 / math.sqrt(head_dim))
    weights = np.empty((group_size, tables.shape[1] * block_size), np.float32)
    bits = np.empty(weights.shape[1], np.int32)
    for request in range(num_requests):
        context = contexts[request]
        num_blocks = -(-context // block_size)
        for kv_head in range(num_kv_heads):  # the heads that share it go over its keys and values together
            heads = slice(kv_head * group_size, (kv_head + 1) * group_size)
            q = query[request, heads]
            for logical in range(num_blocks):
                keys = kv_layer[tables[request, logical], 0, kv_head]
                for slot in range(min(block_size, context - logical * block_size)):
                    key = keys[slot]
                    for head in range(group_size):
                        score = np.float32(0)
                        for i in range(head_dim):
                            score += q[head, i] * key[i]
                        weights[head, logical * block_size + slot] = score
            out = output[request, heads]
            out[:] = 0
            for head in range(group_size):
                softmax(weights[head], bits, context, scale)
            for logical in range(num_blocks):
                values = kv_layer[tables[request, logical], 1, kv_head]
                for slot in range(min(block_size, context - logical * block_size)):
                    value = values[slot]
                    for head in range(group_size):
                        weight = weights[head, logical * block_size + slot]
                        for i in range(head_dim):
                            out[head, i] += weight * value[i]


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def softmax(scores: np.ndarray, bits: np.ndarray, count: int, scale: float) -> None:
    """Of the first `count` scores, float32, times `scale`, in place. `bits` is int32 room for as many.

    exp is computed here, because a loop that calls it is not made into vector instructions: 2 to the whole part is put together from
    its bits, 2 to the rest is a polynomial.
    """
    peak = scores[0]
    for i in range(count):
        peak = max(peak, scores[i])
    factor = np.float32(scale * LOG2_E)
    for i in range(count):
        power = max((scores[i] - peak) * factor, np.float32(-126))  # at most 0, and below this nothing to speak of
        whole = np.floor(power)
        rest = power - whole
        scores[i] = C0 + rest * (C1 + rest * (C2 + rest * (C3 + rest * (C4 + rest * (C5 + rest * C6)))))
        bits[i] = (np.int32(whole) + np.int32(127)) << np.int32(23)
    powers = bits.view(np.float32)
    total = np.float32(0)
    for i in range(count):
        scores[i] *= powers[i]
        total += scores[i]
    share = np.float32(1) / total
    for i in range(count):
        scores[i] *= share
