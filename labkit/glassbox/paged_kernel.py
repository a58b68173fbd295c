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
    real = query.dtype.type
    scale = real(1 / math.sqrt(head_dim))
    weights = np.empty(tables.shape[1] * block_size, query.dtype)
    for request in range(num_requests):
        context = contexts[request]
        num_blocks = -(-context // block_size)
        for head in range(num_heads):
            kv_head = head // (num_heads // num_kv_heads)
            q, out = query[request, head], output[request, head]
            peak = real(-np.inf)  # of the scores: subtracted, so that exp cannot overflow
            for logical in range(num_blocks):
                keys = kv_layer[tables[request, logical], 0, kv_head]
                for slot in range(min(block_size, context - logical * block_size)):
                    key, score = keys[slot], real(0)
                    for i in range(head_dim):
                        score += q[i] * key[i]
                    score *= scale
                    weights[logical * block_size + slot] = score
                    peak = max(peak, score)
            total = real(0)
            for token in range(context):
                weights[token] = math.exp(weights[token] - peak)
                total += weights[token]
            share = real(1) / total
            out[:] = 0
            for logical in range(num_blocks):
                values = kv_layer[tables[request, logical], 1, kv_head]
                for slot in range(min(block_size, context - logical * block_size)):
                    value, weight = values[slot], share * weights[logical * block_size + slot]
                    for i in range(head_dim):
                        out[i] += weight * value[i]
