"""Triton model `tokenizer`: texts to token ids, padded on the right, with the mask that says which are real."""
from __future__ import annotations

from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

from labkit.servers.triton_models.wire import parameters


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        from tokenizers import Tokenizer

        self.tokenizer = Tokenizer.from_file(str(Path(parameters(args)["model"]) / "tokenizer.json"))
        self.tokenizer.enable_padding()

    def execute(self, requests: list) -> list:
        return [self._answer(request) for request in requests]

    def _answer(self, request: pb_utils.InferenceRequest) -> pb_utils.InferenceResponse:
        texts = pb_utils.get_input_tensor_by_name(request, "input").as_numpy()
        rows = self.tokenizer.encode_batch([text.decode("utf-8") for text in texts])
        ids = np.array([row.ids for row in rows], dtype=np.int64)
        mask = np.array([row.attention_mask for row in rows], dtype=np.int64)
        return pb_utils.InferenceResponse([pb_utils.Tensor("output", ids), pb_utils.Tensor("attention_mask", mask)])
