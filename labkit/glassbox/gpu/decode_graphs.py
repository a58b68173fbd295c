"""Decode steps that were recorded once and are played back: CUDA graphs.

A decode of a layer is a dozen kernels of microseconds each, and Python needs longer to start one than a GPU to run it. A recording starts
all of a step's kernels at once; it reads and writes the same memory every time, so that a step's numbers are copied to where it looks.
(NVIDIA, "Getting Started with CUDA Graphs"; vLLM and SGLang do the same.)
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Protocol

import numpy as np
import torch

from labkit.glassbox.attention import Attend, AttentionMetadata, Batch, kv_rows
from labkit.glassbox.kv_cache import KVCache
from labkit.glassbox.model import CausalLM

Step = Callable[[], torch.Tensor]
"""Reads its inputs where they always are -> logits [size, vocab_size]."""


class DecodeAttention(Protocol):
    """What is asked of an attention backend: see `attention.TritonAttention.decode`."""

    def decode(self, tables: torch.Tensor, contexts: torch.Tensor) -> Attend: ...


def record(step: Step) -> Step:
    """Record the kernels of `step` on the GPU; the result plays them back. It is run three times first, so that nothing is left to be
    chosen or compiled in the recording."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=pool()):
        logits = step()

    def play() -> torch.Tensor:
        graph.replay()
        return logits

    return play


@cache
def pool() -> tuple[int, int]:
    """Memory that all recordings share: one is played at a time, and its logits are read before the next."""
    return torch.cuda.graph_pool_handle()


@dataclass(slots=True)
class Recording:
    """One size of batch: where its inputs are, and the step over them."""

    inputs: dict[str, torch.Tensor]
    step: Step


class DecodeGraphs:
    """Recordings for batches of up to `max_num_seqs` decodes, each made when it is first needed. `record`: how one is made."""

    def __init__(self, model: CausalLM, kv_cache: KVCache, attention: DecodeAttention, max_num_seqs: int, max_model_len: int,
                 record: Callable[[Step], Step] = record) -> None:
        self.model, self.kv_cache, self.attention, self.record = model, kv_cache, attention, record
        self.sizes = sizes(max_num_seqs)
        self.max_blocks = -(-max_model_len // kv_cache.block_size)
        self._recordings: dict[int, Recording] = {}

    def serves(self, batch: Batch, threads: int) -> bool:
        return len(batch.counts) <= self.sizes[-1] and bool((batch.counts == 1).all())

    def __call__(self, batch: Batch, token_ids: np.ndarray, rows: np.ndarray, threads: int) -> torch.Tensor:
        """token_ids [T]; rows [N]: tokens whose successor is wanted -> logits [N, vocab_size], good until the next step."""
        size = next(size for size in self.sizes if size >= len(token_ids))
        if size not in self._recordings:
            self._recordings[size] = self._make(size, batch, token_ids)
        recording = self._recordings[size]
        for name, values in self._inputs(size, batch, token_ids).items():
            recording.inputs[name].copy_(torch.from_numpy(values), non_blocking=True)
        logits = recording.step()
        everyone = len(rows) == len(token_ids)
        return logits[: len(rows)] if everyone else logits[torch.from_numpy(rows).to(logits.device)]

    def _make(self, size: int, batch: Batch, token_ids: np.ndarray) -> Recording:
        device = self.kv_cache.tensor.device
        inputs = {name: torch.from_numpy(values).to(device) for name, values in self._inputs(size, batch, token_ids).items()}
        meta = AttentionMetadata(inputs["kv_rows"], self.attention.decode(inputs["tables"], inputs["contexts"]))
        everyone = torch.arange(size, device=device)

        def step() -> torch.Tensor:
            return self.model(inputs["token_ids"], inputs["positions"], self.kv_cache.layers, meta, everyone)

        return Recording(inputs, self.record(step))

    def _inputs(self, size: int, batch: Batch, token_ids: np.ndarray) -> dict[str, np.ndarray]:
        """Padded to `size` by the last request, again and again: it writes the same key and value to the same place each time."""
        spare = (0, size - len(token_ids))
        places = kv_rows(*batch.locate(), self.model.config.num_key_value_heads, batch.block_size).reshape(len(token_ids), -1)
        tables = np.pad(batch.tables, ((0, 0), (0, self.max_blocks - batch.tables.shape[1])))
        return {
            "token_ids": np.pad(token_ids, spare, mode="edge"),
            "positions": np.pad(batch.positions, spare, mode="edge"),
            "contexts": np.pad(batch.contexts, spare, mode="edge"),
            "tables": np.pad(tables, (spare, (0, 0)), mode="edge"),
            "kv_rows": np.pad(places, (spare, (0, 0)), mode="edge").reshape(-1),
        }


def sizes(largest: int) -> list[int]:
    """Sizes of recordings, 1, 2, 4 and every eighth, up to the first that holds `largest`. A batch is padded to the next."""
    steps = [1, 2, 4, *range(8, largest + 8, 8)]
    return [size for i, size in enumerate(steps) if i == 0 or steps[i - 1] < largest]
