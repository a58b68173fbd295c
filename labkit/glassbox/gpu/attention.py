"""Decodes on a GPU read the paged cache where it is; chunks of prompts are gathered."""
from __future__ import annotations

import logging
from functools import cache

import numpy as np
import torch

from labkit.glassbox.attention import Attend, AttentionBackend, Batch, KVLayer
from labkit.glassbox.gather_attention import GatherAttention
from labkit.glassbox.model_config import ModelConfig

log = logging.getLogger("labkit.glassbox")


class TritonAttention(AttentionBackend):
    """Decodes are for the kernel; whoever has more tokens in a step is left to `GatherAttention`."""

    def __init__(self, config: ModelConfig, dtype: torch.dtype, device: torch.device) -> None:
        self.gather, self.device = GatherAttention(config, dtype, device), device

    def prepare(self, batch: Batch) -> Attend:
        one = np.flatnonzero(batch.counts == 1)
        tables, contexts, rows = (
            torch.from_numpy(array).to(self.device) for array in (batch.tables[one], batch.contexts[one], batch.first[one])
        )
        decode = self.decode(tables, contexts)
        if len(one) == len(batch.counts):
            return decode
        chunks = self.gather.prepare(batch, np.flatnonzero(batch.counts > 1))

        def attend(query: torch.Tensor, kv_layer: KVLayer) -> torch.Tensor:
            output = chunks(query, kv_layer)
            return output.index_copy_(0, rows, decode(query.index_select(0, rows), kv_layer)) if len(one) else output

        return attend

    def decode(self, tables: torch.Tensor, contexts: torch.Tensor) -> Attend:
        """For tables [R, N] and contexts [R] that are on the GPU already, and may change there between two calls."""
        from labkit.glassbox.gpu.decode_kernel import paged_decode

        return lambda query, kv_layer: paged_decode(query, kv_layer, tables, contexts)


@cache
def has_triton() -> bool:
    """Whether Triton can start kernels: CUDA builds of torch for Linux bring it along, but not its C compiler and Python's headers."""
    try:
        from triton.runtime import driver

        _ = driver.active.utils  # compiled when it is first asked for
    except Exception as error:  # whatever a compiler that is missing, or half there, comes to
        log.warning("decodes will be gathered, because Triton cannot start kernels here: %s", error)
        return False
    return True
