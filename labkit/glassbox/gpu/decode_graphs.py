"""Decode steps that were recorded once and are played back: CUDA graphs.

A decode of a layer is a dozen kernels of microseconds each, and Python needs longer to start one than a GPU to run it. A recording starts
all of a step's kernels at once; it reads and writes the same memory every time, so that a step's numbers are copied to where it looks.
(NVIDIA, "Getting Started with CUDA Graphs"; vLLM and SGLang do the same.)
"""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
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


class GraphRecorder:
    """Records steps on a GPU. All recordings share memory: one is played at a time, and its logits are read before the next."""

    def __init__(self, device: torch.device) -> None:
        self.stream, self.pool = torch.cuda.Stream(device), torch.cuda.graph_pool_handle()

    def __call__(self, step: Step) -> Step:
        """What plays the kernels of `step` back. It is run three times first, so that nothing is left to be chosen or compiled."""
        self.stream.wait_stream(torch.cuda.current_stream(self.stream.device))
        with torch.cuda.stream(self.stream):
            for _ in range(3):
                step()
        torch.cuda.current_stream(self.stream.device).wait_stream(self.stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.pool, stream=self.stream):
            logits = step()

        def play() -> torch.Tensor:
            graph.replay()
            return logits

        return play


@dataclass(slots=True)
class Recording:
    """One size of batch: where its inputs are, and the step over them."""

    inputs: dict[str, torch.Tensor]
    step: Step


class DecodeGraphs:
    """Recordings for batches of up to `largest` decodes, each made when it is first needed. `record`: how one is made; None: on the GPU."""

    def __init__(self, model: CausalLM, kv_cache: KVCache, attention: DecodeAttention, largest: int, max_model_len: int,
                 record: Callable[[Step], Step] | None = None) -> None:
        self.model, self.kv_cache, self.attention = model, kv_cache, attention
        self.device = kv_cache.tensor.device
        self.record = record or GraphRecorder(self.device)
        self.sizes = sizes(largest)
        self.max_blocks = -(-max_model_len // kv_cache.block_size)
        self._recordings: dict[int, Recording] = {}

    def serves(self, batch: Batch, threads: int) -> bool:
        return len(batch.counts) <= self.sizes[-1] and bool((batch.counts == 1).all())

    def record_up_to(self, num_requests: int) -> None:
        """Before anybody waits: all recordings for so many requests, the largest first, whose memory the others then use. They compute
        in block 0, which must not be anybody's."""
        for size in reversed(sizes(num_requests)):
            none = np.zeros(size, dtype=np.int64)
            self._recording(size, Batch(none, none + 1, none[:, None], self.kv_cache.block_size), none)

    def __call__(self, batch: Batch, token_ids: np.ndarray, rows: np.ndarray, threads: int) -> torch.Tensor:
        """token_ids [T]; rows [N]: tokens whose successor is wanted -> logits [N, vocab_size], good until the next step."""
        size = next(size for size in self.sizes if size >= len(token_ids))
        recording = self._recording(size, batch, token_ids)
        fill(recording.inputs, self._inputs(size, batch, token_ids))
        logits = recording.step()
        everyone = len(rows) == len(token_ids)
        return logits[: len(rows)] if everyone else logits[torch.from_numpy(rows).to(logits.device)]

    def _recording(self, size: int, batch: Batch, token_ids: np.ndarray) -> Recording:
        if size not in self._recordings:
            self._recordings[size] = self._make(size, self._inputs(size, batch, token_ids))
        return self._recordings[size]

    def _make(self, size: int, values: dict[str, np.ndarray]) -> Recording:
        """A recording reads where its inputs were, and knows nothing of Python: whatever it reads must live as long."""
        inputs = {name: torch.from_numpy(array).to(self.device) for name, array in values.items()}
        inputs["tables"] = torch.zeros((size, self.max_blocks), dtype=torch.int64, device=self.device)
        inputs["logits_rows"] = torch.arange(size, device=self.device)
        fill(inputs, values)
        meta = AttentionMetadata(inputs["kv_rows"], self.attention.decode(inputs["tables"], inputs["contexts"]))

        def step() -> torch.Tensor:
            return self.model(inputs["token_ids"], inputs["positions"], self.kv_cache.layers, meta, inputs["logits_rows"])

        return Recording(inputs, self.record(step))

    def _inputs(self, size: int, batch: Batch, token_ids: np.ndarray) -> dict[str, np.ndarray]:
        """Padded to `size` by the last request, again and again: it writes the same key and value to the same place each time."""
        who = np.minimum(np.arange(size), len(token_ids) - 1)
        places = kv_rows(*batch.locate(), self.model.config.num_key_value_heads, batch.block_size).reshape(len(token_ids), -1)
        return {
            "token_ids": token_ids[who],
            "positions": batch.positions[who],
            "contexts": batch.contexts[who],
            "tables": batch.tables[who],
            "kv_rows": places[who].reshape(-1),
        }


def fill(inputs: dict[str, torch.Tensor], values: dict[str, np.ndarray]) -> None:
    """Copy this step's numbers to where a recording reads them. Of a wider table it keeps what it has: no request looks so far."""
    for name, array in values.items():
        target = inputs[name][:, : array.shape[1]] if name == "tables" else inputs[name]
        target.copy_(torch.from_numpy(array))


def sizes(largest: int) -> list[int]:
    """Sizes of recordings, 1, 2, 4 and every eighth, up to the first that holds `largest`. A batch is padded to the next."""
    steps = [1, 2, 4, *range(8, largest + 8, 8)]
    return [size for i, size in enumerate(steps) if i == 0 or steps[i - 1] < largest]
