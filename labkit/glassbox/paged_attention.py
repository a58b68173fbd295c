"""Attention that reads the paged cache where it is: nothing is copied together, nothing is padded."""
from __future__ import annotations

import numpy as np
import torch

from labkit.glassbox.attention import Attend, AttentionBackend, Batch
from labkit.glassbox.gather_attention import GatherAttention
from labkit.glassbox.kernels.paged import paged_decode
from labkit.glassbox.model_config import ModelConfig

NEAR = 128  # tokens of context


def near(batch: Batch) -> np.ndarray:
    """[R] requests whose tokens of this step the kernel is best for."""
    return (batch.counts == 1) | (batch.contexts <= NEAR)


class PagedAttention(AttentionBackend):
    """For a CPU: decodes, and prompts of up to `NEAR` tokens, each of whose tokens is computed as if it were a decode.

    The chunk of a longer prompt has many queries for each key, and is better off with its blocks gathered, once for all of them.
    The kernel takes numbers as they are in memory: a quantized cache (`kv_cache_dtype`) has codes there, and is left to `GatherAttention`.
    """

    DTYPE = torch.float32  # that the kernel computes

    def __init__(self, config: ModelConfig, dtype: torch.dtype, device: torch.device) -> None:
        self.gather = GatherAttention(config, dtype, device)

    def prepare(self, batch: Batch) -> Attend:
        which = near(batch)
        if which.all():
            return self._near(batch)
        return self._both(batch, which) if which.any() else self.gather.prepare(batch)

    def _near(self, batch: Batch) -> Attend:
        owners = batch.owners
        tables, contexts = batch.tables[owners], batch.positions + 1

        def attend(query: torch.Tensor, kv_layer: torch.Tensor) -> torch.Tensor:
            query = query.contiguous()  # or else the kernel would be compiled twice
            output = torch.empty_like(query)
            paged_decode(query.numpy(), kv_layer.numpy(), tables, contexts, output.numpy())
            return output

        return attend

    def _both(self, batch: Batch, which: np.ndarray) -> Attend:
        parts = []
        for requests, prepare in ((which, self._near), (~which, self.gather.prepare)):
            parts.append((torch.from_numpy(np.flatnonzero(requests[batch.owners])), prepare(batch.select(np.flatnonzero(requests)))))

        def attend(query: torch.Tensor, kv_layer: torch.Tensor) -> torch.Tensor:
            output = torch.empty_like(query)
            for rows, attend_part in parts:
                output.index_copy_(0, rows, attend_part(query.index_select(0, rows), kv_layer))
            return output

        return attend
