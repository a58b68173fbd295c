"""Triton model `detokenizer`: the likeliest token of `logits`, or the tokens of `token_ids` (after `context_ids`), as text."""
from __future__ import annotations

from pathlib import Path

import triton_python_backend_utils as pb_utils

from labkit.servers.triton_models.wire import parameters, strings


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        from tokenizers import Tokenizer

        self.tokenizer = Tokenizer.from_file(str(Path(parameters(args)["model"]) / "tokenizer.json"))

    def execute(self, requests: list) -> list:
        return [self._answer(request) for request in requests]

    def _answer(self, request: pb_utils.InferenceRequest) -> pb_utils.InferenceResponse:
        logits, ids, context = (pb_utils.get_input_tensor_by_name(request, name) for name in ("logits", "token_ids", "context_ids"))
        if (logits is None) == (ids is None):
            return pb_utils.InferenceResponse(error=pb_utils.TritonError("give one of logits and token_ids"))
        rows = ids.as_numpy().tolist() if logits is None else [[token] for token in logits.as_numpy().argmax(-1).tolist()]
        before = context.as_numpy().tolist() if context is not None else [[] for _ in rows]
        texts = [self._after(*pair) for pair in zip(before, rows, strict=True)]
        return pb_utils.InferenceResponse([pb_utils.Tensor("output", strings(texts))])

    def _after(self, context: list[int], row: list[int]) -> str:
        """The text of `row` where it stands after `context`: some decoders drop a space at the beginning of a text."""
        return self.tokenizer.decode(context + row)[len(self.tokenizer.decode(context)):]
