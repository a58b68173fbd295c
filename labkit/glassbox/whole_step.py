"""A step that does not come back to Python between its layers.

A decode of a small model is some hundred small operations. Called one by one from Python, each costs microseconds beside its work, and none
knows that the next will read what it wrote. A GPU gets a recorded graph of them (CUDA graphs); here Numba makes one function of them, which
needs no interpreter: so the requests of a step can be shared out among threads that meet once, at its end.
"""
from __future__ import annotations

import numpy as np
import torch

from labkit.glassbox.attention import Batch, kv_rows
from labkit.glassbox.kernels.step import Tokens, Weights, forward
from labkit.glassbox.kv_cache import KVCache
from labkit.glassbox.model import CausalLM
from labkit.glassbox.threads import share, together

LEAST = 4  # tokens of a thread, which reads all weights for them
FEW = 64  # tokens of a step for which a small model's threads need not be busy all alike
LARGE = 64 << 20  # bytes of weights, beyond which a model is not small
UNEVEN = 1.5  # times its fair share that the busiest thread may have


def stack_weights(model: CausalLM, panels: dict[str, np.ndarray]) -> Weights | None:
    """The weights of a model whose linear layers are packed (`pack_linears`), those of all layers side by side; None for what this does
    not compute."""
    config = model.config
    if len(panels) < 4 or config.o_bias or config.mlp_bias:
        return None

    def stacked(name: str) -> np.ndarray:
        return torch.stack([dict(layer.named_parameters()).get(name, torch.empty(0)).detach() for layer in model.layers]).numpy()

    return Weights(
        attention_norm=stacked("input_layernorm.weight"),
        qkv=panels["self_attn.qkv_proj"],
        qkv_bias=stacked("self_attn.qkv_proj.bias"),
        q_norm=stacked("self_attn.q_norm.weight"),
        k_norm=stacked("self_attn.k_norm.weight"),
        o=panels["self_attn.o_proj"],
        mlp_norm=stacked("post_attention_layernorm.weight"),
        gate_up=panels["mlp.gate_up_proj"],
        down=panels["mlp.down_proj"],
        norm=model.norm.weight.detach().numpy(),
        lm_head=model.lm_head.panels,
    )


class WholeStep:
    """Steps that can be shared out well among threads, request by request; others do better to share out each product."""

    def __init__(self, model: CausalLM, weights: Weights, kv_cache: KVCache) -> None:
        self.weights, self.cache, self.block_size = weights, kv_cache.tensor.numpy(), kv_cache.block_size
        self.embeddings, self.rope, self.eps = model.embed_tokens.weight.detach().numpy(), model.rope.numpy(), model.norm.eps
        self.is_large = sum(array.nbytes for array in weights) > LARGE

    def serves(self, batch: Batch, threads: int) -> bool:
        total = int(batch.counts.sum())
        if total < FEW and not self.is_large:
            return True
        bounds = [*batch.first, total]
        return max(bounds[end] - bounds[begin] for begin, end in parts(batch, threads)) * threads <= UNEVEN * total

    def __call__(self, batch: Batch, token_ids: np.ndarray, rows: np.ndarray, threads: int) -> torch.Tensor:
        """token_ids [T]; rows [N], ascending: tokens whose successor is wanted -> logits [N, vocab_size]."""
        x, logits = self.embeddings[token_ids], np.empty((len(rows), len(self.embeddings)), np.float32)
        places = kv_rows(*batch.locate(), self.cache.shape[3], self.block_size).reshape(len(x), -1)
        turns, bounds = self.rope[batch.positions], [*batch.first, len(x)]

        def part(begin: int, end: int) -> None:
            own, (start, stop) = slice(begin, end), (bounds[begin], bounds[end])
            tokens = Tokens(turns[start:stop], places[start:stop].reshape(-1), batch.starts[own], batch.counts[own], batch.tables[own])
            low, high = np.searchsorted(rows, (start, stop))
            forward(x[start:stop], tokens, self.cache, self.weights, self.eps, rows[low:high] - start, logits[low:high])

        together(part, parts(batch, threads))
        return torch.from_numpy(logits)


def parts(batch: Batch, threads: int) -> list[tuple[int, int]]:
    """Ranges of requests for as many threads as are worth it; one range where requests read each other's new keys, which no thread waits
    for."""
    ranges = share(batch.counts, max(1, min(threads, int(batch.counts.sum()) // LEAST)))
    return [(0, len(batch.counts))] if len(ranges) > 1 and reads_new_blocks(batch) else ranges


def reads_new_blocks(batch: Batch) -> bool:
    """Whether a request reads a block that another one fills in this very step: `KVCacheManager` lets it share those."""
    first, last = batch.starts // batch.block_size, (batch.contexts - 1) // batch.block_size
    logical = np.arange(batch.tables.shape[1])
    before = logical < first[:, None]
    new = ~before & (logical <= last[:, None])
    return bool(np.isin(batch.tables[before], batch.tables[new]).any())
