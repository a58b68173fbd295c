"""Triton model `next_token`: one forward pass for every request that Triton's dynamic batcher hands over at once.

Nothing is kept between two calls. A client that wants a text sends the whole of it again for every token, which is why engines
keep the KV cache and the loop to themselves.
"""
from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

from labkit.servers.triton_models.wire import parameters


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        from labkit.glassbox.build import choose_device, choose_dtype
        from labkit.glassbox.loader import load_model
        from labkit.glassbox.model_config import ModelConfig
        from labkit.glassbox.options import EngineOptions

        settings = parameters(args)
        folder, options = Path(settings["model"]), EngineOptions(**json.loads(settings["engine_options"]))
        self.config = ModelConfig.from_folder(folder)
        self.device = choose_device(options.device)
        self.dtype = choose_dtype(options.dtype, self.config, self.device)
        dummy = options.load_format == "dummy"
        self.model = load_model(folder, self.config, options.max_model_len, self.dtype, self.device, dummy, options.seed)
        self.max_model_len = options.max_model_len

    def execute(self, requests: list) -> list:
        batches = [_rows(request) for request in requests]
        errors = [self._refusal(rows) for rows in batches]
        good = [row for rows, error in zip(batches, errors, strict=True) if error is None for row in rows]
        logits = iter(self._forward(good) if good else [])
        return [pb_utils.InferenceResponse(error=error) if error else
                pb_utils.InferenceResponse([pb_utils.Tensor("logits", np.stack([next(logits) for _ in rows]))])
                for rows, error in zip(batches, errors, strict=True)]

    def _refusal(self, rows: list[list[int]]) -> pb_utils.TritonError | None:
        """Why these rows cannot be computed, if so. The other requests of the batch do not suffer from them."""
        from labkit.glassbox.request import check_prompt

        try:
            for row in rows:
                check_prompt(row, self.max_model_len, self.config.vocab_size)
        except ValueError as error:
            return pb_utils.TritonError(str(error))
        return None

    def _forward(self, prompts: list[list[int]]) -> list[np.ndarray]:
        """Float32 logits [vocabulary] after the last token of each prompt. Each has one KV block, thrown away at the end."""
        from labkit.glassbox.gather_attention import GatherAttention
        from labkit.glassbox.kv_cache import KVCache
        from labkit.glassbox.plan import Plan
        from labkit.glassbox.request import Request
        from labkit.glassbox.runner import ModelRunner
        from labkit.glassbox.sampling_params import SamplingParams

        cache = KVCache(self.config, len(prompts), max(map(len, prompts)), self.dtype, self.device)
        plan = Plan()
        for block, prompt in enumerate(prompts):
            plan.add(Request(str(block), prompt, SamplingParams(), block_table=[block]), len(prompt), [block])
        attention = GatherAttention(self.config, self.dtype, self.device)
        logits = ModelRunner(self.model, cache, attention, lambda rows, requests: rows.float().cpu().numpy(), self.device).run(plan)
        return [logits[str(block)] for block in range(len(prompts))]


def _rows(request: pb_utils.InferenceRequest) -> list[list[int]]:
    """The real tokens of every row of a request."""
    ids, mask = (pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in ("input_ids", "attention_mask"))
    return [row[keep != 0].tolist() for row, keep in zip(ids, mask, strict=True)]
