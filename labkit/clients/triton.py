"""Triton's generate extension, streaming: POST /v2/models/MODEL/generate_stream with the inputs of Triton's vLLM backend."""
from __future__ import annotations

import json
from typing import Any

from labkit.clients.event_stream import EventStreamClient, ServerUnusable, http_failure
from labkit.clients.exchange import Failure, Reply, Request

WANTED = ("return_finish_reason", "return_num_input_tokens", "return_num_output_tokens")
LANGUAGE_MODELS = ("glassbox", "vllm")  # what labkit calls them


class TritonClient(EventStreamClient):
    """`model` defaults to the language model that labkit serves with Triton. Works with any model of the vLLM backend."""

    async def _find_model(self) -> str | None:
        url = f"{self.url}/v2/repository/index"
        async with self._session.post(url, json={"ready": True}) as answer:
            body = await answer.read()
            if answer.status >= 400:
                raise ServerUnusable(http_failure(answer.status, body, url))
        try:
            names = [entry["name"] for entry in json.loads(body) if entry.get("state", "READY") == "READY"]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ServerUnusable(Failure("protocol", f"{url} did not answer as Triton does")) from error
        model = next((name for name in LANGUAGE_MODELS if name in names), None) if self.model is None else self.model
        if model not in names:
            raise ServerUnusable(Failure("protocol", f"Triton serves {', '.join(names) or 'no model'}: give the name of a language model"))
        return model

    def _body(self, request: Request) -> tuple[str, dict[str, Any]]:
        return f"/v2/models/{self.model}/generate_stream", inputs(request)

    def _take(self, event: dict[str, Any], stamp: int, reply: Reply) -> bool:
        if "error" in event:
            reply.error = Failure("stream", str(event["error"]))
            return False
        return take(reply, stamp, event.get("text_output") or "", event.get("finish_reason"), event.get("num_input_tokens"),
                    event.get("num_output_tokens"))


def inputs(request: Request) -> dict[str, Any]:
    """The model's inputs for `request`. Sampling parameters travel as JSON, because request parameters cannot be lists."""
    if not isinstance(request.prompt, str):
        raise ValueError("Triton's language models take a text as their prompt: render messages and decode token ids first")
    sampling = {"max_tokens": request.max_tokens, "temperature": request.temperature} | request.extra
    return {"text_input": request.prompt, "stream": True, "sampling_parameters": json.dumps(sampling)} | dict.fromkeys(WANTED, True)


def take(reply: Reply, stamp: int, text: str, finish_reason: str | None, prompt_tokens: int | None, new_tokens: int | None) -> bool:
    """Note one response in `reply`; true if it carried content. The backend writes "None" while there is more to come."""
    if finish_reason not in (None, "None"):
        reply.finish_reason = finish_reason
    if new_tokens is not None:
        so_far = reply.usage["completion_tokens"] if reply.usage else 0
        reply.usage = {"prompt_tokens": prompt_tokens, "completion_tokens": so_far + new_tokens}
    if not text and not new_tokens:
        return False
    if new_tokens is None:
        reply.n_tok = None
    elif not reply.t_event:
        reply.n_tok = [new_tokens]
    elif reply.n_tok is not None:
        reply.n_tok.append(new_tokens)
    reply.t_event.append(stamp)
    reply.pieces.append(text)
    return True
