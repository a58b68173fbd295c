"""Requests and responses of a language model behind Triton, as Triton's own vLLM backend defines them.

Inputs: `text_input`; `stream` (false: one response with the whole text); `exclude_input_in_output` (false: the prompt comes
first, which is the default without streaming and an error with it); `sampling_parameters`, a JSON object, or request
parameters of the same names (over HTTP: the members of "parameters"); `return_*` switch further outputs on.
"""
from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils


@dataclass(slots=True)
class Generation:
    """One request, read."""

    text: str | None
    input_ids: list[int] | None
    stream: bool
    prepend: bool  # the first response starts with the prompt
    sampling: dict[str, Any]  # by vLLM's names
    finish_reason: bool
    num_input_tokens: bool
    num_output_tokens: bool

    @classmethod
    def read(cls, request: Any) -> Generation:
        """Raises `ValueError` for inputs that contradict each other."""
        stream = _first(request, "stream", False)
        exclude = _first(request, "exclude_input_in_output", bool(stream))
        if stream and not exclude:
            raise ValueError("a stream cannot repeat its prompt: leave exclude_input_in_output out, or set it to true")
        text, ids = _first(request, "text_input"), pb_utils.get_input_tensor_by_name(request, "input_ids")
        if (text is None) == (ids is None):
            raise ValueError("give one of text_input and input_ids")
        if ids is not None and (ids := ids.as_numpy()).shape[0] != 1:
            raise ValueError(f"input_ids must have one row, got {ids.shape[0]}: send one request for each prompt")
        switches = ("finish_reason", "num_input_tokens", "num_output_tokens")
        return cls(text=None if text is None else text.decode("utf-8"),
                   input_ids=None if ids is None else ids[0].tolist(),
                   stream=bool(stream), prepend=not exclude and text is not None,
                   sampling=_sampling(_first(request, "sampling_parameters", request.parameters())),
                   **{name: bool(_first(request, f"return_{name}", False)) for name in switches})

    def response(self, text: str, context: list[int], token_ids: list[int], finish_reason: str | None,
                 prompt_tokens: int) -> pb_utils.InferenceResponse:
        """What is new: `text`, or the `token_ids` and the `context` before them. A stream that goes on has the finish reason "None"."""
        tensors = []
        if self.input_ids is None:
            tensors.append(pb_utils.Tensor("text_output", strings([text])))
        else:
            tensors.append(pb_utils.Tensor("output_ids", np.array([token_ids], dtype=np.int64)))
            tensors.append(pb_utils.Tensor("context_ids", np.array([context], dtype=np.int64)))
        if self.finish_reason:
            tensors.append(pb_utils.Tensor("finish_reason", strings([str(finish_reason)])))
        if self.num_input_tokens:
            tensors.append(pb_utils.Tensor("num_input_tokens", np.array([prompt_tokens], dtype=np.uint32)))
        if self.num_output_tokens:
            tensors.append(pb_utils.Tensor("num_output_tokens", np.array([len(token_ids)], dtype=np.uint32)))
        return pb_utils.InferenceResponse(tensors)


def parameters(arguments: dict[str, str]) -> dict[str, str]:
    """The parameters of config.pbtxt, from what Triton hands to `initialize`."""
    return {name: value["string_value"] for name, value in json.loads(arguments["model_config"])["parameters"].items()}


def strings(values: list[str]) -> np.ndarray:
    """A string tensor [len(values)]."""
    return np.array([value.encode("utf-8") for value in values], dtype=np.object_)


def fail(sender: Any, error: Exception) -> None:
    """End a decoupled request with an error that the client sees."""
    sender.send(pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error) or type(error).__name__)),
                flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)


def _sampling(text: bytes | str) -> dict[str, Any]:
    try:
        sampling = json.loads(text)
    except ValueError as error:
        raise ValueError(f"sampling_parameters is not JSON: {error}") from error
    if not isinstance(sampling, dict):
        raise ValueError(f"sampling_parameters must be a JSON object, got {text!r}")
    return sampling


def _first(request: Any, name: str, default: Any = None) -> Any:
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return default if tensor is None else tensor.as_numpy().ravel()[0]
