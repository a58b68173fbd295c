"""The kernel of paged attention: one query per request against keys and values that stay in their blocks.

What a GPU kernel does with a thread block for each request and head, these loops do one after the other; Numba makes machine code of them.
"""
from __future__ import annotations

import math

import numba
import numpy as np


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def paged_decode(query: np.ndarray, kv_layer: np.ndarray, tables: np.ndarray, contexts: np.ndarray, output: np.ndarray) -> None:
    """query, output [R, num_heads, head_dim]; kv_layer [num_blocks, 2, num_kv_heads, block_size, head_dim]; all of one float type.

    tables [R, N]: block ids in logical order; contexts [R]: how many slots of them a query sees, at least 1. Nothing else is read.
    """
    num_requests, num_heads, head_dim = query.shape
    num_kv_heads, block_size = kv_layer.shape[2], kv_layer.shape[3]
    group_size = num_heads // num_kv_heads
    real = query.dtype.type
    scale = real(1 / math.sqrt(head_dim))
    q = np.empty((group_size, head_dim), query.dtype)  # in one piece, which `query` need not be
    weights = np.empty((group_size, tables.shape[1] * block_size), query.dtype)
    for request in range(num_requests):
        context = contexts[request]
        num_blocks = -(-context // block_size)
        for kv_head in range(num_kv_heads):  # the heads that share it go over its keys and values together
            heads = slice(kv_head * group_size, (kv_head + 1) * group_size)
            q[:] = query[request, heads]
            for logical in range(num_blocks):
                keys = kv_layer[tables[request, logical], 0, kv_head]
                for slot in range(min(block_size, context - logical * block_size)):
                    key = keys[slot]
                    for head in range(group_size):
                        score = real(0)
                        for i in range(head_dim):
                            score += q[head, i] * key[i]
                        weights[head, logical * block_size + slot] = score
            out = output[request, heads]
            out[:] = 0
            for head in range(group_size):
                softmax(weights[head], context, scale)
            for logical in range(num_blocks):
                values = kv_layer[tables[request, logical], 1, kv_head]
                for slot in range(min(block_size, context - logical * block_size)):
                    value = values[slot]
                    for head in range(group_size):
                        weight = weights[head, logical * block_size + slot]
                        for i in range(head_dim):
                            out[head, i] += weight * value[i]


@numba.njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def softmax(scores: np.ndarray, count: int, scale: float) -> None:
    """Of the first `count` scores times `scale`, in place."""
    peak = scores[0]
    for i in range(count):
        peak = max(peak, scores[i])
    total = peak - peak
    for i in range(count):
        scores[i] = math.exp((scores[i] - peak) * scale)  # never more than 1
        total += scores[i]
    for i in range(count):
        scores[i] /= total
