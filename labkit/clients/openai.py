"""The OpenAI protocol, streaming: /v1/completions for texts and token ids, /v1/chat/completions for messages."""
from __future__ import annotations

import json
from typing import Any

from labkit.clients.event_stream import EventStreamClient, ServerUnusable, http_failure
from labkit.clients.exchange import Failure, Reply, Request


class OpenAIClient(EventStreamClient):
    """`url` may end in `/v1`. `model` defaults to the first of /v1/models."""

    def __init__(self, url: str, model: str | None = None, connect_timeout: float = 5.0):
        super().__init__(url.rstrip("/").removesuffix("/v1"), model, connect_timeout)

    async def _find_model(self) -> str | None:
        async with self._session.get(f"{self.url}/v1/models") as answer:
            body = await answer.read()
            if answer.status >= 400:
                raise ServerUnusable(http_failure(answer.status, body, f"{self.url}/v1/models"))
        try:
            models = json.loads(body)["data"]
            return models[0]["id"] if models else None
        except (ValueError, KeyError, TypeError) as error:
            raise ServerUnusable(Failure("protocol", f"{self.url}/v1/models did not answer as an OpenAI server does")) from error

    def _body(self, request: Request) -> tuple[str, dict[str, Any]]:
        body = {"model": self.model, "max_tokens": request.max_tokens, "temperature": request.temperature, "stream": True,
                "stream_options": {"include_usage": True}, "return_token_ids": True} | request.extra
        body = {name: value for name, value in body.items() if value is not None}
        if request.is_chat:
            return "/v1/chat/completions", body | {"messages": request.prompt}
        return "/v1/completions", body | {"prompt": request.prompt}

    def _take(self, event: dict[str, Any], stamp: int, reply: Reply) -> bool:
        if event.get("error"):
            error = event["error"]
            detail = error if isinstance(error, dict) else {"message": str(error)}
            code = detail.get("code")
            reply.error = Failure("stream", str(detail.get("message", error)), code if isinstance(code, int) else None)
            return False
        if event.get("usage"):
            reply.usage = event["usage"]
        if not event.get("choices"):
            return False
        choice = event["choices"][0]
        reply.finish_reason = choice.get("finish_reason") or reply.finish_reason
        delta = choice.get("delta") or choice
        piece = (delta.get("reasoning_content") or delta.get("reasoning") or "") + (delta.get("content") or delta.get("text") or "")
        token_ids = choice.get("token_ids")
        if not piece and not token_ids:
            return False
        if token_ids is not None:
            # A count per event is kept only if every event has one: the lists stay of equal length.
            if not reply.t_event:
                reply.n_tok = []
            if reply.n_tok is not None:
                reply.n_tok.append(len(token_ids))
        else:
            reply.n_tok = None
        reply.t_event.append(stamp)
        reply.pieces.append(piece)
        return True
