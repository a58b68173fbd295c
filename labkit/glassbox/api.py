"""The HTTP endpoints."""
from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from dataclasses import asdict, replace
from typing import Any

from aiohttp import web

from labkit.glassbox import metrics as series
from labkit.glassbox.engine_client import EngineClient, EngineFailure, Stream
from labkit.glassbox.metrics import Metrics
from labkit.glassbox.options import EngineOptions
from labkit.glassbox.outputs import RequestOutput
from labkit.glassbox.protocol import (
    APIError,
    Call,
    ChunkTemplate,
    choice,
    parse_call,
    parse_messages,
    parse_prompts,
    parse_quantize,
    to_json,
    usage,
)
from labkit.glassbox.refusal import Overloaded, Unservable
from labkit.glassbox.request import check_prompt
from labkit.glassbox.tokenizer import Tokenizer

MAX_BODY = 32 << 20  # bytes
log = logging.getLogger("labkit.glassbox")


class Api:
    """OpenAI's endpoints over one engine. Call handlers end with their client: a connection that closes cancels its requests."""

    def __init__(
        self, client: EngineClient, tokenizer: Tokenizer, options: EngineOptions, names: list[str], max_queued: int | None
    ) -> None:
        self.client, self.tokenizer, self.options, self.names, self.max_queued = client, tokenizer, options, names, max_queued
        self.metrics = Metrics(names[0], options)
        client.observe = self.metrics.observe

    def application(self) -> web.Application:
        app = web.Application(middlewares=[errors_as_json], client_max_size=MAX_BODY)
        app.add_routes(
            [
                web.get("/health", self.health),
                web.get("/metrics", self.show_metrics),
                web.get("/v1/models", self.models),
                web.post("/v1/completions", self.completions),
                web.post("/v1/chat/completions", self.chat_completions),
                web.post("/quantize", self.quantize),
            ]
        )
        return app

    async def health(self, request: web.Request) -> web.Response:
        if self.client.failure is not None:
            raise APIError(503, str(self.client.failure), kind="ServiceUnavailableError")
        return web.Response()

    async def show_metrics(self, request: web.Request) -> web.Response:
        return web.Response(body=self.metrics.render(), headers={"Content-Type": series.CONTENT_TYPE})

    async def models(self, request: web.Request) -> web.Response:
        length = self.options.max_model_len
        data = [{"id": name, "object": "model", "created": 0, "owned_by": "labkit", "max_model_len": length} for name in self.names]
        return web.json_response({"object": "list", "data": data})

    async def completions(self, request: web.Request) -> web.StreamResponse:
        body = await read_body(request)
        call = self._check(parse_call(body, default_max_tokens=16))
        prompts = [self.tokenizer.encode(prompt) if isinstance(prompt, str) else prompt for prompt in parse_prompts(body.get("prompt"))]
        return await self._serve(request, call, prompts, chat=False)

    async def chat_completions(self, request: web.Request) -> web.StreamResponse:
        body = await read_body(request)
        call = self._check(parse_call(body, default_max_tokens=self.options.max_model_len))
        messages = parse_messages(body.get("messages"))
        variables = body.get("chat_template_kwargs") or {}
        try:
            text = self.tokenizer.apply_chat_template(messages, body.get("add_generation_prompt", True), **variables)
        except ValueError as error:
            raise APIError(400, str(error), "messages") from error
        return await self._serve(request, call, [self.tokenizer.encode(text, add_special_tokens=False)], chat=True)

    async def quantize(self, request: web.Request) -> web.Response:
        """The lab's own: `Engine.quantize` on the running engine. Answers with what it changed, when it has."""
        settings = parse_quantize(await read_body(request))
        try:
            changed = await self.client.quantize(settings)
        except EngineFailure as failure:
            raise APIError(503, str(failure), kind="ServiceUnavailableError") from failure
        except ValueError as error:
            raise APIError(400, str(error)) from error
        self.metrics.observe_switch(changed)
        return web.json_response(asdict(changed))

    def _check(self, call: Call) -> Call:
        if call.model and call.model not in self.names:
            message = f"the model {call.model!r} is not served here; this server has {', '.join(map(repr, self.names))}"
            raise APIError(404, message, "model", "NotFoundError")
        return call

    async def _serve(self, request: web.Request, call: Call, prompts: list[list[int]], chat: bool) -> web.StreamResponse:
        stream = self._submit(call, prompts)
        reply = Reply(call, prompts, chat, self.names[0])
        try:
            if call.stream:
                return await send_events(request, reply.events(stream))
            return web.json_response(await reply.whole(stream))
        except (EngineFailure, Overloaded, Unservable) as failure:
            raise as_api_error(failure) from failure
        finally:
            stream.close()

    def _submit(self, call: Call, prompts: list[list[int]]) -> Stream:
        for token_ids in prompts:
            try:
                check_prompt(token_ids, self.options.max_model_len, self.client.vocab_size)
            except ValueError as error:
                raise APIError(400, str(error), "prompt") from error
        try:
            call.params.check_vocabulary(self.client.vocab_size)
        except ValueError as error:
            raise APIError(400, str(error), "stop_token_ids") from error
        self._refuse_overload(len(prompts) * call.n)
        requests = []
        for index in range(len(prompts) * call.n):
            params = call.params
            if call.n > 1 and params.seed is not None:
                params = replace(params, seed=params.seed + index % call.n)
            requests.append((f"{call.id}-{index}", prompts[index // call.n], params, call.priority))
        try:
            return self.client.submit(requests)
        except EngineFailure as failure:
            raise APIError(503, str(failure), kind="ServiceUnavailableError") from failure

    def _refuse_overload(self, new: int) -> None:
        """A call that would make it more than `max_queued` requests, waiting and running, is refused at the door."""
        here = self.client.num_unfinished
        if self.max_queued is not None and here + new > self.max_queued:
            self.metrics.rejections.inc(new)
            message = f"the server is full: {here} requests are here and --max-num-queued-reqs is {self.max_queued}; try again later"
            raise APIError(429, message, kind="TooManyRequestsError", retry_after=1)


class Reply:
    """Shapes the outputs of one call."""

    def __init__(self, call: Call, prompts: list[list[int]], chat: bool, model: str) -> None:
        self.call, self.prompts, self.chat = call, prompts, chat
        self.completed = 0  # tokens
        self.cached: dict[int, int] = {}  # prompt -> its tokens found in the prefix cache
        kind = "chat.completion" if chat else "text_completion"
        self.head = {
            "id": f"{'chatcmpl' if chat else 'cmpl'}-{call.id}",
            "object": f"{kind}.chunk" if chat and call.stream else kind,
            "created": call.created,
            "model": call.model or model,
        }

    async def events(self, stream: Stream) -> AsyncIterator[bytes]:
        """Chunks as they come, as JSON; the usage last, where it was asked for."""
        ids, templates = self.call.return_token_ids, {}
        async for output in stream:
            index = self._count(output)
            if index in templates and output.finish_reason is None:
                yield templates[index].fill(output)
                continue
            entry = choice(self.chat, True, index, output, ids)
            if index not in templates:
                templates[index] = ChunkTemplate(self.head, self.chat, index, ids)
                if self.chat:
                    entry["delta"] = {"role": "assistant", **entry["delta"]}
                if ids:
                    entry["prompt_token_ids"] = self.prompts[index // self.call.n]
            yield to_json({**self.head, "choices": [entry]})
        if self.call.include_usage:
            yield to_json({**self.head, "choices": [], "usage": self._usage()})

    async def whole(self, stream: Stream) -> dict[str, Any]:
        outputs: dict[int, RequestOutput] = {}
        async for output in stream:
            index = self._count(output)
            if index in outputs:
                outputs[index].merge(output)
            else:
                outputs[index] = output
        entries = [choice(self.chat, False, index, outputs[index], self.call.return_token_ids) for index in sorted(outputs)]
        if self.call.return_token_ids:
            for entry in entries:
                entry["prompt_token_ids"] = self.prompts[entry["index"] // self.call.n]
        return {**self.head, "choices": entries, "usage": self._usage()}

    def _count(self, output: RequestOutput) -> int:
        index = int(output.request_id.rpartition("-")[2])
        self.completed += len(output.token_ids)
        self.cached.setdefault(index // self.call.n, output.num_cached_tokens)
        return index

    def _usage(self) -> dict[str, Any]:
        return usage(sum(map(len, self.prompts)), self.completed, sum(self.cached.values()))


async def send_events(request: web.Request, events: AsyncIterator[bytes]) -> web.StreamResponse:
    """Server-sent events. Status and headers go out with the first one, so that an early failure still has a status of its own."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache"})
    try:
        async for event in events:
            if not response.prepared:
                await response.prepare(request)
            await response.write(b"data: " + event + b"\n\n")
    except (EngineFailure, Overloaded, Unservable) as failure:
        if not response.prepared:
            raise
        await response.write(b"data: " + json.dumps(as_api_error(failure).body()).encode() + b"\n\n")
    await response.write(b"data: [DONE]\n\n")
    await response.write_eof()
    return response


def as_api_error(failure: EngineFailure | Overloaded | Unservable) -> APIError:
    if isinstance(failure, Overloaded):
        return APIError(429, str(failure), kind="TooManyRequestsError", retry_after=failure.refusal.retry_after)
    if isinstance(failure, Unservable):
        return APIError(400, str(failure))
    return APIError(500, str(failure), kind="InternalServerError")


async def read_body(request: web.Request) -> Any:
    try:
        return await request.json()
    except ValueError as error:
        raise APIError(400, f"the body is not JSON: {error}") from error


@web.middleware
async def errors_as_json(request: web.Request, handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except APIError as error:
        headers = {"Retry-After": str(error.retry_after)} if error.retry_after is not None else None
        return web.json_response(error.body(), status=error.status, headers=headers)
    except web.HTTPException as error:
        kind = {404: "NotFoundError"}.get(error.status, "BadRequestError")
        return web.json_response(APIError(error.status, error.text or error.reason, kind=kind).body(), status=error.status)
    except ConnectionResetError:  # the client has gone; nobody reads an answer
        raise
    except Exception as error:
        log.exception("%s %s failed", request.method, request.path)
        return web.json_response(APIError(500, f"{type(error).__name__}: {error}", kind="InternalServerError").body(), status=500)
