"""Decodes that read the paged cache where it is, with two kernels that torch has for sparse matrices on a CPU.

A decode is one query against the keys in its request's slots. With a row for each query head and a column for each key of the cache, the
scores that are wanted are a sparse matrix, and `sampled_addmm` computes a dense product at just those places. What comes after the softmax
is a weighted sum of rows of a table, the values: `embedding_bag`. Nothing is copied, nothing is padded.
"""
from __future__ import annotations

import warnings

import numpy as np
import torch
import torch.nn.functional as F

from labkit.glassbox.attention import Attend, AttentionBackend, Batch
from labkit.glassbox.gather_attention import GatherAttention
from labkit.glassbox.model_config import ModelConfig


class SparseAttention(AttentionBackend):
    """Paged decodes on a CPU. Prefill chunks have many queries for each key and are better off gathered.

    Its kernels take numbers as they are in memory: a quantized cache (`kv_cache_dtype`) has codes there, and is left to `GatherAttention`.
    """

    DTYPES = (torch.float32, torch.float64)  # that sampled_addmm computes

    def __init__(self, config: ModelConfig, dtype: torch.dtype, device: torch.device) -> None:
        self.config = config
        self.gather = GatherAttention(config, dtype, device)
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")

    def prepare(self, batch: Batch) -> Attend:
        decodes = np.flatnonzero(batch.counts == 1)
        if len(decodes) == 0:
            return self.gather.prepare(batch)
        attend = self._decode(batch.select(decodes))
        if len(decodes) == len(batch.counts):
            return attend
        return self._mixed(batch, decodes, attend)

    def _decode(self, batch: Batch) -> Attend:
        """Row r of the sparse matrix is head r % num_heads of request r // num_heads."""
        heads, kv_heads, scale = self.config.num_attention_heads, self.config.num_key_value_heads, self.config.head_dim**-0.5
        lengths = np.repeat(batch.contexts, heads)
        starts = np.zeros(len(lengths) + 1, dtype=np.int64)
        np.cumsum(lengths, out=starts[1:])
        keys, row_starts = torch.from_numpy(self._keys(batch, lengths, starts)), torch.from_numpy(starts)
        to_values = kv_heads * batch.block_size  # a head's values of a block lie so many rows behind its keys
        num_rows = (int(batch.tables.max()) + 1) * 2 * to_values
        scores = torch.sparse_csr_tensor(row_starts, keys, torch.zeros(len(keys)), (len(lengths), num_rows), check_invariants=False)
        longest = int(batch.contexts.max())
        padded = torch.full((len(lengths) * longest,), -torch.inf)
        places = torch.from_numpy(np.flatnonzero(np.arange(longest) < lengths[:, None]))

        def attend(query: torch.Tensor, kv_layer: torch.Tensor) -> torch.Tensor:
            rows = kv_layer.flatten(0, 3)
            torch.sparse.sampled_addmm(scores, query.flatten(0, 1), rows[:num_rows].t(), beta=0.0, alpha=scale, out=scores)
            padded.index_copy_(0, places, scores.values())
            weights = padded.view(-1, longest).softmax(-1).view(-1).index_select(0, places)
            attended = F.embedding_bag(keys, rows[to_values:], row_starts[:-1], mode="sum", per_sample_weights=weights)
            return attended.view(query.shape)

        return attend

    def _keys(self, batch: Batch, lengths: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """For every row of the sparse matrix, the rows of the cache that hold the keys it sees."""
        heads, kv_heads, size = self.config.num_attention_heads, self.config.num_key_value_heads, batch.block_size
        whole = Batch(np.zeros_like(batch.starts), batch.contexts, batch.tables, size)
        _, blocks, slots = whole.locate()
        first_heads = blocks * (2 * kv_heads * size) + slots
        shift = np.repeat(whole.first, heads) - starts[:-1]
        head = np.tile(np.repeat(np.arange(kv_heads) * size, heads // kv_heads), len(batch.counts))
        return first_heads[np.arange(starts[-1]) + np.repeat(shift, lengths)] + np.repeat(head, lengths)

    def _mixed(self, batch: Batch, decodes: np.ndarray, attend_decodes: Attend) -> Attend:
        rest = np.flatnonzero(batch.counts > 1)
        first = batch.first
        decode_rows = torch.from_numpy(first[decodes])
        others = batch.select(rest)
        other_rows = torch.from_numpy(np.repeat(first[rest] - others.first, others.counts) + np.arange(others.counts.sum()))
        attend_others = self.gather.prepare(others)

        def attend(query: torch.Tensor, kv_layer: torch.Tensor) -> torch.Tensor:
            output = torch.empty_like(query)
            output.index_copy_(0, decode_rows, attend_decodes(query.index_select(0, decode_rows), kv_layer))
            return output.index_copy_(0, other_rows, attend_others(query.index_select(0, other_rows), kv_layer))

        return attend
