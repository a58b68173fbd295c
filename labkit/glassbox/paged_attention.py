"""Decodes that read the paged cache where it is: nothing is copied together, nothing is padded."""
from __future__ import annotations

import numpy as np
import torch

from labkit.glassbox.attention import Attend, AttentionBackend, Batch
from labkit.glassbox.gather_attention import GatherAttention
from labkit.glassbox.model_config import ModelConfig
from labkit.glassbox.paged_kernel import paged_decode


class PagedAttention(AttentionBackend):
    """Paged decodes on a CPU. Prefill chunks have many queries for each key and are better off gathered."""

    DTYPES = (torch.float32, torch.float64)  # that numpy knows too

    def __init__(self, config: ModelConfig, dtype: torch.dtype, device: torch.device) -> None:
        self.gather = GatherAttention(config, dtype, device)

    def prepare(self, batch: Batch) -> Attend:
        decodes = np.flatnonzero(batch.counts == 1)
        if len(decodes) == 0:
            return self.gather.prepare(batch)
        if len(decodes) == len(batch.counts):
            return self._decode(batch)
        return self._mixed(batch, decodes)

    def _decode(self, batch: Batch) -> Attend:
        tables, contexts = batch.tables, batch.contexts

        def attend(query: torch.Tensor, kv_layer: torch.Tensor) -> torch.Tensor:
            output = torch.empty_like(query, memory_format=torch.contiguous_format)
            paged_decode(query.numpy(), kv_layer.numpy(), tables, contexts, output.numpy())
            return output

        return attend

    def _mixed(self, batch: Batch, decodes: np.ndarray) -> Attend:
        rest = np.flatnonzero(batch.counts > 1)
        first = batch.first
        decode_rows = torch.from_numpy(first[decodes])
        others = batch.select(rest)
        other_rows = torch.from_numpy(np.repeat(first[rest] - others.first, others.counts) + np.arange(others.counts.sum()))
        attend_decodes, attend_others = self._decode(batch.select(decodes)), self.gather.prepare(others)

        def attend(query: torch.Tensor, kv_layer: torch.Tensor) -> torch.Tensor:
            output = torch.empty_like(query)
            output.index_copy_(0, decode_rows, attend_decodes(query.index_select(0, decode_rows), kv_layer))
            return output.index_copy_(0, other_rows, attend_others(query.index_select(0, other_rows), kv_layer))

        return attend
