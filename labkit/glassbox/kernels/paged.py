"""Attention over the paged cache, request by request: what a GPU's thread blocks do at the same time, one after the other."""
from __future__ import annotations

from labkit.glassbox.kernels.chunk import chunk
from labkit.glassbox.kernels.compiler import kernel
from labkit.glassbox.kernels.decode import decode


@kernel
def paged_attention(query, kv_layer, starts, counts, tables, kv_heads, output):
    """query [T, num_heads or more, head_dim], output [T, num_heads, head_dim], kv_layer [num_blocks, 2, num_kv_heads, block_size,
    head_dim]; all float32. Only the heads that share the KV heads [kv_heads[0], kv_heads[1]) are computed.

    The tokens of request i follow those of the one before it: counts[i] of them, from its token starts[i] on; tables[i] has its block ids.
    """
    token, last = 0, len(counts) - 1
    for request in range(len(counts)):
        table, start, count = tables[request], starts[request], counts[request]
        if count == 1:
            following = kv_layer[tables[min(request + 1, last), 0], 0, kv_heads[0]]
            decode(query[token], kv_layer, table, start + 1, kv_heads, following, output[token])
        else:
            for kv_head in range(kv_heads[0], kv_heads[1]):
                chunk(query, token, count, kv_layer, table, start, kv_head, output)
        token += count
