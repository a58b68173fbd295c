"""Decodes on a GPU read the paged cache where it is; chunks of prompts are gathered."""
from __future__ import annotations

import torch

from labkit.glassbox.attention import Attend, AttentionBackend, Batch
from labkit.glassbox.gather_attention import GatherAttention
from labkit.glassbox.model_config import ModelConfig


class TritonAttention(AttentionBackend):
    """For steps that are decodes and nothing else; all others are left to `GatherAttention`."""

    def __init__(self, config: ModelConfig, dtype: torch.dtype, device: torch.device) -> None:
        self.gather, self.device = GatherAttention(config, dtype, device), device

    def prepare(self, batch: Batch) -> Attend:
        if (batch.counts > 1).any():
            return self.gather.prepare(batch)
        return self.decode(torch.from_numpy(batch.tables).to(self.device), torch.from_numpy(batch.contexts).to(self.device))

    def decode(self, tables: torch.Tensor, contexts: torch.Tensor) -> Attend:
        """For tables [R, N] and contexts [R] that are on the GPU already, and may change there between two calls."""
        from labkit.glassbox.gpu.decode_kernel import paged_decode

        return lambda query, kv_layer: paged_decode(query, kv_layer, tables, contexts)


def has_triton() -> bool:
    """Whether Triton is here: CUDA builds of torch bring it along on Linux."""
    from importlib.util import find_spec

    return find_spec("triton") is not None
