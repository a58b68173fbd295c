"""Turns a plan into tensors, runs the model, samples. The only place where block ids meet KV bytes."""
from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import numpy as np
import torch

from labkit.glassbox.attention import AttentionBackend, AttentionMetadata, Batch, kv_rows
from labkit.glassbox.gpu.decode_graphs import DecodeGraphs
from labkit.glassbox.kv_cache import KVCache
from labkit.glassbox.model import CausalLM
from labkit.glassbox.plan import Plan
from labkit.glassbox.sampler import Sampler
from labkit.glassbox.threads import Threads
from labkit.glassbox.whole_step import WholeStep

if TYPE_CHECKING:
    from labkit.glassbox.workshop import Parts, Workshop


class ModelRunner:
    """Stateless between steps but for the KV cache."""

    def __init__(
        self,
        model: CausalLM,
        kv_cache: KVCache,
        attention: AttentionBackend,
        sampler: Sampler,
        device: torch.device,
        workshop: Workshop | None = None,
        whole: WholeStep | DecodeGraphs | None = None,
    ) -> None:
        self.model, self.kv_cache, self.attention, self.sampler, self.device = model, kv_cache, attention, sampler, device
        self.workshop = workshop  # of the model, where it can be quantized otherwise
        self.threads = Threads()
        self.whole = whole  # computes the steps that it serves; all others go layer by layer

    @property
    def vocab_size(self) -> int:
        return self.model.config.vocab_size

    def adopt(self, parts: Parts, num_blocks: int) -> None:
        """Go on with other weights, and with an empty pool. Raises `OutOfMemory`, with nothing changed."""
        self.kv_cache = self.workshop.pool(parts, num_blocks)
        self.model, self.attention, self.workshop.parts = parts.model, parts.attention, parts
        self.whole = self.workshop.whole_step(parts, self.kv_cache)

    def record(self) -> None:
        """Record what is played back in steps, before anybody waits for it. For a pool that holds nothing yet."""
        if isinstance(self.whole, DecodeGraphs):
            with torch.inference_mode(), self._on_device():
                self.whole.record_up_to(self.workshop.options.max_num_seqs)

    @torch.inference_mode()
    def run(self, plan: Plan) -> dict[str, int]:
        """Compute the plan's tokens; returns the next token id of each request in `plan.sampling`."""
        with self._on_device():
            return self._run(plan)

    def _on_device(self) -> AbstractContextManager:
        """Kernels and recordings go to the GPU that is the thread's own, wherever their tensors are."""
        return torch.cuda.device(self.device) if self.device.type == "cuda" else nullcontext()

    def _run(self, plan: Plan) -> dict[str, int]:
        sampling = plan.sampling
        token_ids, batch, last_rows = self._prepare(plan)
        threads = self.threads.use(len(token_ids))
        wanted = {request.request_id for request in sampling}
        last = zip(last_rows, plan.requests, strict=True)
        rows = np.array([row for row, request in last if request.request_id in wanted], dtype=np.int64)
        if self.whole is not None and self.whole.serves(batch, threads):
            logits = self.whole(batch, token_ids, rows, threads)
        else:
            logits = self.layer_by_layer(batch, token_ids, rows)
        if not sampling:
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)  # as sampling does: a step's time is its own
            return {}
        token_ids = self.sampler(logits, sampling)
        return {request.request_id: token_id for request, token_id in zip(sampling, token_ids, strict=True)}

    def _prepare(self, plan: Plan) -> tuple[np.ndarray, Batch, list[int]]:
        """Input tokens, where they belong, and the row of each request's last scheduled token.

        Padding stands behind a request's own tokens, where no token of it looks, in slots that are overwritten when tokens come.
        """
        size, requests = self.kv_cache.block_size, plan.requests + plan.held
        starts = np.array([request.num_computed_tokens for request in requests])
        scheduled = np.array([plan.num_scheduled_tokens.get(request.request_id, 0) for request in requests])
        counts = scheduled + np.array([plan.padding.get(request.request_id, 0) for request in requests])
        num_blocks = (-(-(starts + counts) // size)).tolist()
        token_ids: list[int] = []
        tables = np.zeros((len(counts), max(num_blocks)), dtype=np.int64)
        for i, (request, start, count) in enumerate(zip(requests, starts.tolist(), counts.tolist(), strict=True)):
            tokens = request.token_ids[start : start + scheduled[i]]
            token_ids += tokens + [0] * (count - len(tokens))
            tables[i, : num_blocks[i]] = request.block_table[: num_blocks[i]]
        batch = Batch(starts, counts, tables, size)
        return np.array(token_ids), batch, (batch.first + scheduled - 1)[: len(plan.requests)].tolist()

    def layer_by_layer(self, batch: Batch, token_ids: np.ndarray, rows: np.ndarray) -> torch.Tensor:
        """Logits [N, vocab_size] of the N `rows`."""
        places = kv_rows(*batch.locate(), self.model.config.num_key_value_heads, batch.block_size)
        meta = AttentionMetadata(self._tensor(places.reshape(-1)), self.attention.prepare(batch))
        ids, positions = self._tensor(token_ids), self._tensor(batch.positions)
        return self.model(ids, positions, self.kv_cache.layers, meta, self._tensor(rows))

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).to(self.device)
