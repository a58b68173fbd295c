"""Triton over gRPC, streaming: one bidirectional ModelStreamInfer call for each request, on tritonclient.grpc.aio."""
from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from time import perf_counter_ns
from typing import Any, Self

import numpy as np
from grpc import StatusCode
from grpc.aio import AioRpcError
from tritonclient.grpc import InferInput
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from labkit.clients.event_stream import ServerUnusable
from labkit.clients.exchange import Failure, Reply, Request
from labkit.clients.triton import inputs, take

CAUSES = {StatusCode.UNAVAILABLE: "refused", StatusCode.DEADLINE_EXCEEDED: "timeout", StatusCode.CANCELLED: "cancelled"}


class TritonGrpcClient:
    """The same as `TritonClient`, on the gRPC port: `address` is "127.0.0.1:PORT". Use as an async context manager."""

    def __init__(self, address: str, model: str):
        self.address, self.model = address, model
        self._client: InferenceServerClient | None = None

    async def __aenter__(self) -> Self:
        self._client = InferenceServerClient(self.address)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._client is not None:
            await self._client.close()

    async def prepare(self, connections: int = 1) -> None:
        """Open the connection, which all streams share whatever `connections` says. Raises `ServerUnusable`."""
        try:
            if not await self._client.is_model_ready(self.model):
                raise ServerUnusable(Failure("protocol", f"Triton at {self.address} serves no model called {self.model!r}"))
        except InferenceServerException as error:
            raise ServerUnusable(Failure("refused", f"no Triton answers gRPC at {self.address}: {error.message()}")) from error

    async def stream(self, request: Request, reply: Reply, on_event: Callable[[Reply], None] | None = None, timeout: float = 120.0) -> None:
        """Send `request` and fill `reply` until the answer ends, `timeout` seconds at most. Whatever fails becomes `reply.error`."""
        try:
            async with asyncio.timeout(timeout):
                await self._exchange(request, reply, on_event)
        except asyncio.CancelledError:
            reply.error = Failure("cancelled", f"stopped by the client after {len(reply.t_event)} events")
            raise
        except TimeoutError:
            reply.error = Failure("timeout", f"no end after {timeout:g} s, {len(reply.t_event)} events had come")
        except (InferenceServerException, AioRpcError) as error:
            reply.error = self._explain(error, reply)
        except ValueError as error:
            reply.error = Failure("protocol", str(error))
        finally:
            reply.t_end = perf_counter_ns()

    async def _exchange(self, request: Request, reply: Reply, on_event: Callable[[Reply], None] | None) -> None:
        tensors = [_tensor(name, value) for name, value in inputs(request).items()]

        async def one() -> AsyncIterator[dict[str, Any]]:
            yield {"model_name": self.model, "inputs": tensors, "enable_empty_final_response": True}

        reply.t_send = perf_counter_ns()
        async for result, error in self._client.stream_infer(one()):
            stamp = perf_counter_ns()
            reply.t_headers = reply.t_headers or stamp
            if error is not None:
                raise error
            if _new(result, reply, stamp) and on_event is not None:
                on_event(reply)
            if result.get_response().parameters["triton_final_response"].bool_param:
                break
        if reply.finish_reason is None:
            reply.error = Failure("disconnected", f"the stream ended after {len(reply.t_event)} events without a finish reason")

    def _explain(self, error: Exception, reply: Reply) -> Failure:
        code = error.code() if isinstance(error, AioRpcError) else None
        if code is StatusCode.UNAVAILABLE and reply.t_headers:
            return Failure("disconnected", f"the server went away in mid-stream, after {len(reply.t_event)} events: look at its log")
        text = error.message() if isinstance(error, InferenceServerException) else error.details()
        return Failure(CAUSES.get(code, "stream"), f"{self.address}: {text}")


def _tensor(name: str, value: str | bool) -> InferInput:
    tensor = InferInput(name, [1], "BOOL" if isinstance(value, bool) else "BYTES")
    tensor.set_data_from_numpy(np.array([value], dtype=bool if isinstance(value, bool) else object))
    return tensor


def _new(result: Any, reply: Reply, stamp: int) -> bool:
    """Note one response; an empty final one brings nothing."""
    outputs = {name: result.as_numpy(name) for name in ("text_output", "finish_reason", "num_input_tokens", "num_output_tokens")}
    if outputs["text_output"] is None:
        return False
    first = {name: None if array is None else array[0] for name, array in outputs.items()}
    reason = first["finish_reason"]
    counts = [None if first[name] is None else int(first[name]) for name in ("num_input_tokens", "num_output_tokens")]
    return take(reply, stamp, first["text_output"].decode(), None if reason is None else reason.decode(), *counts)
