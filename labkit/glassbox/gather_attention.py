"""Paged attention in plain torch: gather each request's blocks, then one call per group of requests of like size.

Nothing here loops over requests, and only blocks that stand in a block table are ever read. Requests are grouped by query length,
so that a decode (one query token) is not padded to the length of a prefill chunk, and by context length.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from labkit.glassbox.attention import Attend, AttentionBackend, Batch, KVLayer, read_kv
from labkit.glassbox.model_config import ModelConfig

SHORT_CONTEXT = 128  # tokens; contexts up to here are padded to each other, longer ones to their own power of two


class GatherAttention(AttentionBackend):
    """Runs everywhere. Costs a copy of all keys and values that a step looks at, in every layer; codes become numbers on the way."""

    def __init__(self, config: ModelConfig, dtype: torch.dtype, device: torch.device) -> None:
        self.config, self.dtype, self.device = config, dtype, device

    def prepare(self, batch: Batch, requests: np.ndarray | None = None) -> Attend:
        """Requests whose query lengths and contexts have the same powers of two share a call: padding at most doubles either. `requests`:
        only these are computed, the output has no numbers for the others."""
        requests = np.arange(len(batch.counts)) if requests is None else requests
        query_class = np.ceil(np.log2(batch.counts[requests]))
        context_class = np.ceil(np.log2(np.maximum(batch.contexts[requests], SHORT_CONTEXT)))
        classes, member = np.unique(query_class * 64 + context_class, return_inverse=True)
        first = batch.first
        members = [requests[member == i] for i in range(len(classes))]
        groups = [self._group(batch.select(rows), first[rows]) for rows in members]
        scale = self.config.head_dim**-0.5
        return lambda query, kv_layer: attend_groups(query, kv_layer, groups, scale)

    def _group(self, batch: Batch, first: np.ndarray) -> Group:
        length = batch.counts.max()
        valid = np.arange(length) < batch.counts[:, None]
        offsets = np.where(valid, np.arange(length), 0)
        query_rows = first[:, None] + offsets
        reach = self._tensor(batch.starts[:, None] + offsets)
        hidden = torch.arange(batch.tables.shape[1] * batch.block_size, device=self.device) > reach[:, :, None]
        mask = torch.zeros(hidden.shape, dtype=self.dtype, device=self.device).masked_fill_(hidden, -torch.inf)[:, None]
        if length > 1:  # a decode's mask is the same for all heads of a group: it broadcasts
            mask = mask.repeat_interleave(self.config.group_size, dim=2)
        return Group(
            num_requests=len(batch.counts),
            num_queries=int(length),
            pieces=self._tensor(self._pieces(batch.tables).reshape(-1)),
            query_rows=self._tensor(query_rows.reshape(-1)),
            output_rows=self._tensor(query_rows[valid]),
            output_picks=None if valid.all() else self._tensor(np.flatnonzero(valid)),
            mask=mask,
        )

    def _pieces(self, tables: np.ndarray) -> np.ndarray:
        """Block tables [R, N] -> [2, R, num_kv_heads, N] pieces: what one KV head has of a block, keys or values."""
        heads = np.arange(2 * self.config.num_key_value_heads).reshape(2, 1, -1, 1)
        return tables[None, :, None, :] * heads.size + heads

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).to(self.device)


@dataclass(slots=True)
class Group:
    """Requests computed in one call, padded to `num_queries` query tokens and as many blocks as the longest has.

    A padded query repeats the request's first one and is thrown away; a padded block is block 0, hidden by the mask.
    """

    num_requests: int
    num_queries: int
    pieces: torch.Tensor  # [2 * num_requests * num_kv_heads * num_blocks] see `GatherAttention._pieces`
    query_rows: torch.Tensor  # [num_requests * num_queries] rows of the flat batch to read
    output_rows: torch.Tensor  # rows of the flat batch to write: this group's tokens
    output_picks: torch.Tensor | None  # where those stand in the padded queries; None where nothing is padded
    mask: torch.Tensor  # [num_requests, 1, num_queries * heads per KV head (or 1), num_blocks * block_size], 0 or -inf


def attend_groups(query: torch.Tensor, kv_layer: KVLayer, groups: list[Group], scale: float) -> torch.Tensor:
    """query [T, num_heads, head_dim] -> [T, num_heads, head_dim]."""
    num_heads, head_dim = query.shape[1:]
    num_kv_heads = kv_layer.shape[2]
    output = torch.empty_like(query)
    for group in groups:
        n, length = group.num_requests, group.num_queries
        gathered = read_kv(kv_layer, group.pieces, query.dtype)
        key, value = gathered.view(2, n, num_kv_heads, -1, head_dim)  # each [n, num_kv_heads, context, head_dim]
        # Heads that share a KV head are queries of that head: no key or value is repeated.
        queries = query.index_select(0, group.query_rows).view(n, length, num_kv_heads, -1, head_dim)
        queries = queries.permute(0, 2, 1, 3, 4).reshape(n, num_kv_heads, -1, head_dim)
        attended = F.scaled_dot_product_attention(queries, key, value, attn_mask=group.mask, scale=scale)
        attended = attended.view(n, num_kv_heads, length, -1, head_dim).permute(0, 2, 1, 3, 4).reshape(n * length, num_heads, head_dim)
        if group.output_picks is not None:
            attended = attended.index_select(0, group.output_picks)
        output.index_copy_(0, group.output_rows, attended)
    return output
