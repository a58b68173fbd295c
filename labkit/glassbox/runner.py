"""Turns a plan into tensors, runs the model, samples. The only place where block ids meet KV bytes."""
from __future__ import annotations

import numpy as np
import torch

from labkit.glassbox.attention import AttentionGroup, AttentionMetadata
from labkit.glassbox.kv_cache import KVCache
from labkit.glassbox.model import CausalLM
from labkit.glassbox.plan import Plan
from labkit.glassbox.sampler import Sampler

SHORT_CONTEXT = 128  # tokens; contexts up to here are padded to each other, longer ones to their own power of two


class ModelRunner:
    """Stateless between steps but for the KV cache."""

    def __init__(self, model: CausalLM, kv_cache: KVCache, sampler: Sampler, device: torch.device) -> None:
        self.model, self.kv_cache, self.sampler, self.device = model, kv_cache, sampler, device

    @property
    def vocab_size(self) -> int:
        return self.model.config.vocab_size

    @torch.inference_mode()
    def run(self, plan: Plan) -> dict[str, int]:
        """Compute the plan's tokens; returns the next token id of each request in `plan.sampling`."""
        sampling = plan.sampling
        input_ids, positions, meta, last_rows = self._prepare(plan)
        wanted = {request.request_id for request in sampling}
        logits_rows = [row for row, request in zip(last_rows, plan.requests, strict=True) if request.request_id in wanted]
        logits = self.model(input_ids, positions, self.kv_cache.layers, meta, self._tensor(np.array(logits_rows, dtype=np.int64)))
        if not sampling:
            return {}
        token_ids = self.sampler(logits, sampling)
        return {request.request_id: token_id for request, token_id in zip(sampling, token_ids, strict=True)}

    def _prepare(self, plan: Plan) -> tuple[torch.Tensor, torch.Tensor, AttentionMetadata, list[int]]:
        """Flat input of the step. Request i owns rows [first[i], first[i] + counts[i]) and computes positions from starts[i] on.

        Padding stands behind a request's own tokens, where no token of it looks, in slots that are overwritten when tokens come.
        """
        size, requests = self.kv_cache.block_size, plan.requests + plan.held
        starts = np.array([request.num_computed_tokens for request in requests])
        scheduled = np.array([plan.num_scheduled_tokens.get(request.request_id, 0) for request in requests])
        counts = scheduled + np.array([plan.padding.get(request.request_id, 0) for request in requests])
        num_blocks = -(-(starts + counts) // size)
        first = np.cumsum(counts) - counts
        token_ids: list[int] = []
        tables = np.zeros((len(counts), num_blocks.max()), dtype=np.int64)
        for i, (request, start, count) in enumerate(zip(requests, starts.tolist(), counts.tolist(), strict=True)):
            tokens = request.token_ids[start : start + scheduled[i]]
            token_ids += tokens + [0] * (count - len(tokens))
            tables[i, : num_blocks[i]] = request.block_table[: num_blocks[i]]
        owner = np.repeat(np.arange(len(counts)), counts)
        positions = np.arange(len(token_ids)) - first[owner] + starts[owner]
        slots = tables[owner, positions // size] * size + positions % size
        groups = self._group(starts, counts, first, num_blocks, tables)
        meta = AttentionMetadata(self._tensor(slots), groups)
        return self._tensor(np.array(token_ids)), self._tensor(positions), meta, (first + scheduled - 1)[: len(plan.requests)].tolist()

    def _group(
        self, starts: np.ndarray, counts: np.ndarray, first: np.ndarray, num_blocks: np.ndarray, tables: np.ndarray
    ) -> list[AttentionGroup]:
        """Requests whose query lengths and contexts have the same powers of two share a call: padding at most doubles either."""
        query_class = np.ceil(np.log2(counts))
        context_class = np.ceil(np.log2(np.maximum(starts + counts, SHORT_CONTEXT)))
        classes, member = np.unique(query_class * 64 + context_class, return_inverse=True)
        groups = []
        for i in range(len(classes)):
            rows = np.flatnonzero(member == i)
            groups.append(self._build_group(starts[rows], counts[rows], first[rows], tables[rows, : num_blocks[rows].max()]))
        return groups

    def _build_group(self, starts: np.ndarray, counts: np.ndarray, first: np.ndarray, table: np.ndarray) -> AttentionGroup:
        length = counts.max()
        valid = np.arange(length) < counts[:, None]
        offsets = np.where(valid, np.arange(length), 0)
        query_rows = first[:, None] + offsets
        visible = np.arange(table.shape[1] * self.kv_cache.block_size) <= (starts[:, None] + offsets)[:, :, None]
        mask = torch.where(torch.from_numpy(visible), 0.0, -torch.inf)[:, None]
        if length > 1:  # a decode's mask is the same for all heads of a group: it broadcasts
            mask = mask.repeat_interleave(self.model.config.group_size, dim=2)
        return AttentionGroup(
            num_requests=len(counts),
            num_queries=int(length),
            block_ids=self._tensor(table.reshape(-1)),
            query_rows=self._tensor(query_rows.reshape(-1)),
            output_rows=self._tensor(query_rows[valid]),
            output_picks=None if valid.all() else self._tensor(np.flatnonzero(valid)),
            mask=mask.to(self.device, self.kv_cache.layers[0].dtype),
        )

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).to(self.device, non_blocking=True)
