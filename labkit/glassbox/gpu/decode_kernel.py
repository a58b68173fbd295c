"""Attention of decodes over the paged cache, for a GPU: one program for each request and each head of the cache.

A program goes through its request's block table, a tile of slots at a time, and keeps a running softmax: the largest score so far, the sum
of the weights, the weighted values; when a larger score comes, what is there shrinks (Milakov and Gimelshein, arXiv:1805.02867; Dao and
others, FlashAttention, arXiv:2205.14135). Long contexts of few requests would want several programs each.
"""
from __future__ import annotations

import torch
import triton
import triton.language as tl

LEAST = 16  # rows and columns of a product of tensor cores


@triton.jit(do_not_specialize=["table_request"])  # it is another number whenever the longest request gets a block
def decode_kernel(
    query, cache, tables, contexts, output, scale,
    query_request, query_head, cache_block, cache_side, cache_head, cache_slot, table_request, output_request, output_head,
    GROUP: tl.constexpr, DIM: tl.constexpr, BLOCK: tl.constexpr, HEADS: tl.constexpr, WIDTH: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """Pointers, then strides in numbers. HEADS and WIDTH: GROUP and DIM, rounded up to what a product takes. TILE: slots at a time."""
    request, kv_head = tl.program_id(0), tl.program_id(1)
    heads, dims, slots = tl.arange(0, HEADS), tl.arange(0, WIDTH), tl.arange(0, TILE)
    own = (heads[:, None] < GROUP) & (dims[None, :] < DIM)
    head = kv_head * GROUP + heads[:, None]
    q = tl.load(query + request * query_request + head * query_head + dims[None, :], mask=own, other=0.0)
    context = tl.load(contexts + request).to(tl.int32)
    peak = tl.full([HEADS], float("-inf"), tl.float32)
    total = tl.zeros([HEADS], tl.float32)
    sums = tl.zeros([HEADS, WIDTH], tl.float32)
    for start in range(0, context, TILE):
        positions = start + slots
        seen = positions < context
        block = tl.load(tables + request * table_request + positions // BLOCK, mask=seen, other=0)
        at = cache + block * cache_block + kv_head * cache_head + (positions % BLOCK) * cache_slot
        there = seen[:, None] & (dims[None, :] < DIM)
        keys = tl.load(at[:, None] + dims[None, :], mask=there, other=0.0)
        values = tl.load(at[:, None] + cache_side + dims[None, :], mask=there, other=0.0)
        scores = tl.dot(q, tl.trans(keys), input_precision="ieee") * scale  # float32 stays float32
        scores = tl.where(seen[None, :], scores, float("-inf"))
        largest = tl.maximum(peak, tl.max(scores, axis=1))
        shrink = tl.exp(peak - largest)
        weights = tl.exp(scores - largest[:, None])
        total = total * shrink + tl.sum(weights, axis=1)
        sums = sums * shrink[:, None] + tl.dot(weights.to(values.dtype), values, input_precision="ieee")
        peak = largest
    result = (sums / total[:, None]).to(output.dtype.element_ty)
    tl.store(output + request * output_request + head * output_head + dims[None, :], result, mask=own)


def paged_decode(query: torch.Tensor, kv_layer: torch.Tensor, tables: torch.Tensor, contexts: torch.Tensor) -> torch.Tensor:
    """query [R, num_heads, head_dim], kv_layer [num_blocks, 2, num_kv_heads, block_size, head_dim], tables [R, N] int64 block ids, contexts
    [R] int64, how many slots of them each sees, at least 1 -> [R, num_heads, head_dim]. All on one GPU."""
    num_requests, num_heads, head_dim = query.shape
    num_kv_heads, block_size = kv_layer.shape[2:4]
    group = num_heads // num_kv_heads
    output = torch.empty((num_requests, num_heads, head_dim), dtype=query.dtype, device=query.device)
    decode_kernel[(num_requests, num_kv_heads)](
        query, kv_layer, tables, contexts, output, head_dim**-0.5,
        *query.stride()[:2], *kv_layer.stride()[:4], tables.stride(0), *output.stride()[:2],
        **constants(group, head_dim, block_size, query.dtype),
    )  # fmt: skip
    return output


def constants(group: int, head_dim: int, block_size: int, dtype: torch.dtype) -> dict[str, int]:
    """What the kernel is compiled for. Tiles are as large as keeps a program's numbers in registers."""
    return {
        "GROUP": group,
        "DIM": head_dim,
        "BLOCK": block_size,
        "HEADS": max(LEAST, triton.next_power_of_2(group)),
        "WIDTH": max(LEAST, triton.next_power_of_2(head_dim)),
        "TILE": 64 if dtype.itemsize == 2 else 32,
    }
