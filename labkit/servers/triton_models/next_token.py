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
        from labkit.servers.triton_models.engine import engine_options

        settings = parameters(args)
        folder, options = Path(settings["model"]), engine_options(json.loads(settings["engine_flags"]))
        self.config = ModelConfig.from_folder(folder)
        self.context = self.config.max_position_embeddings
        self.device = choose_device(options.device)
        self.dtype = choose_dtype(options.dtype, self.config, self.device)
        self.model = load_model(folder, self.config, self.context, self.dtype, self.device, options.load_format == "dummy", options.seed)

    def execute(self, requests: list) -> list:
        batches = [_rows(request) for request in requests]
        logits = iter(self._forward([row for rows in batches for row in rows]))
        return [pb_utils.InferenceResponse([pb_utils.Tensor("logits", np.stack([next(logits) for _ in rows]))]) for rows in batches]

    def _forward(self, prompts: list[list[int]]) -> list[np.ndarray]:
        """Float32 logits [vocabulary] after the last token of each prompt. Each has one KV block, thrown away at the end."""
        from labkit.glassbox.kv_cache import KVCache
        from labkit.glassbox.plan import Plan
        from labkit.glassbox.request import Request
        from labkit.glassbox.runner import ModelRunner
        from labkit.glassbox.sampling_params import SamplingParams

        cache = KVCache(self.config, len(prompts), max(map(len, prompts)), self.dtype, self.device)
        plan = Plan()
        for block, prompt in enumerate(prompts):
            plan.add(Request(str(block), prompt, SamplingParams(), block_table=[block]), len(prompt), [block])
        logits = ModelRunner(self.model, cache, lambda rows, requests: rows.float().cpu().numpy(), self.device).run(plan)
        return [logits[str(block)] for block in range(len(prompts))]


def _rows(request: pb_utils.InferenceRequest) -> list[list[int]]:
    """The real tokens of every row of a request."""
    ids, mask = (pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in ("input_ids", "attention_mask"))
    return [row[keep != 0].tolist() for row, keep in zip(ids, mask, strict=True)]
