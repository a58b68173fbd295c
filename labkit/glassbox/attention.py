"""Paged attention in plain torch: gather each request's blocks, then one call per group of requests of like size.

Nothing here loops over requests, and only blocks that stand in a block table are ever read. Requests are grouped by query length,
so that a decode (one query token) is not padded to the length of a prefill chunk, and by context length.
"""
from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass(slots=True)
class AttentionGroup:
    """Requests computed in one call, padded to `num_queries` query tokens and `num_blocks` blocks.

    A padded query repeats the request's first one and is thrown away; a padded block is block 0, hidden by the mask.
    """

    num_requests: int
    num_queries: int
    block_ids: torch.Tensor  # [num_requests * num_blocks] physical ids
    query_rows: torch.Tensor  # [num_requests * num_queries] rows of the flat batch to read
    output_rows: torch.Tensor  # rows of the flat batch to write: this group's tokens
    output_picks: torch.Tensor | None  # where those stand in the padded queries; None where nothing is padded
    mask: torch.Tensor  # [num_requests, 1, num_queries * heads per KV head (or 1), num_blocks * block_size], 0 or -inf


@dataclass(slots=True)
class AttentionMetadata:
    """Where one step's tokens are written and what they may see. T: tokens of the step."""

    slot_mapping: torch.Tensor  # [T] block_id * block_size + offset
    groups: list[AttentionGroup]


def write_kv(kv_layer: torch.Tensor, key_value: torch.Tensor, slot_mapping: torch.Tensor) -> None:
    """Store `key_value` [T, 2, num_kv_heads, head_dim] into the slots of one layer."""
    kv_layer.flatten(0, 1).index_copy_(0, slot_mapping, key_value)


def paged_attention(query: torch.Tensor, kv_layer: torch.Tensor, groups: list[AttentionGroup], scale: float) -> torch.Tensor:
    """query [T, num_heads, head_dim], kv_layer [num_blocks, block_size, 2, num_kv_heads, head_dim] -> [T, num_heads, head_dim]."""
    num_heads, head_dim = query.shape[1:]
    num_kv_heads = kv_layer.shape[3]
    output = torch.empty_like(query)
    for group in groups:
        n, length = group.num_requests, group.num_queries
        gathered = kv_layer.flatten(1).index_select(0, group.block_ids).view(n, -1, 2, num_kv_heads, head_dim)
        key, value = (side.transpose(1, 2) for side in gathered.unbind(2))  # [n, num_kv_heads, context, head_dim]
        # Heads that share a KV head are queries of that head: no key or value is repeated.
        queries = query.index_select(0, group.query_rows).view(n, length, num_kv_heads, -1, head_dim)
        queries = queries.permute(0, 2, 1, 3, 4).reshape(n, num_kv_heads, -1, head_dim)
        attended = F.scaled_dot_product_attention(queries, key, value, attn_mask=group.mask, scale=scale)
        attended = attended.view(n, num_kv_heads, length, -1, head_dim).permute(0, 2, 1, 3, 4).reshape(n * length, num_heads, head_dim)
        if group.output_picks is not None:
            attended = attended.index_select(0, group.output_picks)
        output.index_copy_(0, group.output_rows, attended)
    return output
