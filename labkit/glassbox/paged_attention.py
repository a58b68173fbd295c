"""Attention that reads the paged cache where it is: nothing is copied together, nothing is padded."""
from __future__ import annotations

import torch

from labkit.glassbox.attention import Attend, AttentionBackend, Batch
from labkit.glassbox.kernels.paged import paged_attention
from labkit.glassbox.model_config import ModelConfig
from labkit.glassbox.threads import share, together


class PagedAttention(AttentionBackend):
    """For a CPU. Requests are shared out among threads; where one is most of the step, its KV heads are.

    The kernel takes numbers as they are in memory: a quantized cache (`kv_cache_dtype`) has codes there, and is left to `GatherAttention`.
    """

    DTYPE = torch.float32  # that the kernel computes

    def __init__(self, config: ModelConfig, dtype: torch.dtype, device: torch.device) -> None:
        self.kv_heads = config.num_key_value_heads

    def prepare(self, batch: Batch) -> Attend:
        first, threads = [*batch.first.tolist(), int(batch.counts.sum())], torch.get_num_threads()
        requests = share(batch.counts, threads)
        heads = share([1] * self.kv_heads, 1 if len(requests) == threads else threads)

        def attend(query: torch.Tensor, kv_layer: torch.Tensor) -> torch.Tensor:
            query = query.contiguous()  # or else the kernel would be compiled twice
            output = torch.empty_like(query)
            rows, layer, out = query.numpy(), kv_layer.numpy(), output.numpy()

            def part(begin: int, end: int, kv_heads: tuple[int, int]) -> None:
                tokens, own = slice(first[begin], first[end]), slice(begin, end)
                paged_attention(rows[tokens], layer, batch.starts[own], batch.counts[own], batch.tables[own], kv_heads, out[tokens])

            together(part, [(*some, each) for some in requests for each in heads])
            return output

        return attend
