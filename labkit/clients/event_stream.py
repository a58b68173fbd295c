"""What protocols of server-sent events have in common: one POST, an answer that streams, everything stamped and every failure named."""
from __future__ import annotations

import asyncio
import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from time import perf_counter_ns
from typing import Any, Self

import aiohttp

from labkit.clients.exchange import Failure, Reply, Request
from labkit.clients.sse import EventParser

READ_BUFFER = 2**20  # bytes; aiohttp's default of 64 KiB pauses the transport under many streams
KEEP_ALIVE = 4.0  # seconds; below the 5 s after which uvicorn closes an idle connection, so that a reused one is never half closed


class ServerUnusable(RuntimeError):
    """The server cannot be asked at all. `failure` says why."""

    def __init__(self, failure: Failure):
        super().__init__(failure.message)
        self.failure = failure


class EventStreamClient(ABC):
    """One session for many concurrent streams. Use as an async context manager. `url` is the server's root.

    A protocol is a subclass with three methods: `_find_model`, `_body` and `_take`.
    """

    def __init__(self, url: str, model: str | None = None, connect_timeout: float = 5.0):
        self.url = url.rstrip("/")
        self.model = model
        self._connect_timeout = connect_timeout
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self._connect_timeout)
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout, read_bufsize=READ_BUFFER)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def prepare(self, connections: int = 1) -> None:
        """Learn the model's name and open `connections` connections, so that no request pays for them.

        Raises `ServerUnusable` at once if nobody answers, or if the answer is not of this protocol.
        """
        try:
            async with asyncio.timeout(2 * self._connect_timeout):
                names = await asyncio.gather(*(self._find_model() for _ in range(max(1, connections))))
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise ServerUnusable(explain(error, self.url)) from error
        if self.model is None:
            self.model = names[0]

    async def stream(self, request: Request, reply: Reply, on_event: Callable[[Reply], None] | None = None, timeout: float = 120.0) -> None:
        """Send `request` and fill `reply` until the answer ends, `timeout` seconds at most. Whatever fails becomes `reply.error`.

        Only cancellation is raised again, after it was noted in the reply.
        """
        try:
            async with asyncio.timeout(timeout):
                await self._exchange(request, reply, on_event)
        except asyncio.CancelledError:
            reply.error = Failure("cancelled", f"stopped by the client after {len(reply.t_event)} events")
            raise
        except TimeoutError as error:
            if isinstance(error, aiohttp.ClientError):
                reply.error = explain(error, self.url)
            else:
                reply.error = Failure("timeout", f"no end after {timeout:g} s, {len(reply.t_event)} events had come")
        except (aiohttp.ClientError, OSError) as error:
            reply.error = explain(error, self.url, len(reply.t_event), answered=reply.t_headers > 0)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            reply.error = Failure("protocol", f"a piece of the stream could not be read: {error!r}")
        finally:
            reply.t_end = perf_counter_ns()

    async def _exchange(self, request: Request, reply: Reply, on_event: Callable[[Reply], None] | None) -> None:
        path, body = self._body(request)
        payload = json.dumps(body).encode()
        parser = EventParser()
        reply.t_send = perf_counter_ns()
        async with self._session.post(self.url + path, data=payload, headers={"Content-Type": "application/json"}) as answer:
            reply.t_headers = perf_counter_ns()
            if answer.status >= 400:
                reply.error = http_failure(answer.status, await answer.read(), self.url + path)
                return
            if answer.content_type != "text/event-stream":
                reply.error = Failure("protocol", f"{self.url + path} answered {answer.content_type} where an event stream was asked for")
                return
            async for chunk in answer.content.iter_any():
                stamp = perf_counter_ns()  # before any parsing: our own work must not look like the server's
                for data in parser.feed(chunk):
                    if data == b"[DONE]":
                        return await _drain(answer)
                    if self._take(json.loads(data), stamp, reply) and on_event is not None:
                        on_event(reply)
                    if reply.error is not None:
                        return
        if reply.finish_reason is None:
            reply.error = Failure("disconnected", f"the stream ended after {len(reply.t_event)} events without a finish reason")

    @abstractmethod
    async def _find_model(self) -> str | None:
        """The name of a model that can be asked. Raises `ServerUnusable` if this is no server of the protocol."""

    @abstractmethod
    def _body(self, request: Request) -> tuple[str, dict[str, Any]]:
        """Path and JSON body that ask for `request`. Raises `ValueError` for one that the protocol cannot carry."""

    @abstractmethod
    def _take(self, event: dict[str, Any], stamp: int, reply: Reply) -> bool:
        """Take one parsed event into `reply`; true if it carried content."""


async def _drain(answer: aiohttp.ClientResponse) -> None:
    """Read the closing bytes, so that the connection stays usable for the next request."""
    with suppress(aiohttp.ClientError, OSError):
        async with asyncio.timeout(1):
            await answer.content.read()


def explain(error: BaseException, url: str, events: int = 0, answered: bool = False) -> Failure:
    """A named cause for what aiohttp or the socket raised."""
    if isinstance(error, aiohttp.ClientConnectorError):
        if isinstance(error.os_error, ConnectionRefusedError):
            return Failure("refused", f"nothing listens at {url}: is the server running, and is this its port?")
        if not isinstance(error.os_error, ConnectionError):  # one that dies while we connect resets the connection: as any that closes it
            return Failure("unreachable", f"cannot connect to {url}: {error.os_error}")
    if isinstance(error, aiohttp.InvalidURL):
        return Failure("unreachable", f"{url!r} is not a URL: write http://host:port")
    if isinstance(error, TimeoutError):
        return Failure("timeout", f"{url} did not answer in time: is it loading, or overloaded?")
    if isinstance(error, (aiohttp.ServerDisconnectedError, aiohttp.ClientPayloadError, aiohttp.ClientOSError, ConnectionError)):
        when = f"in mid-stream, after {events} events" if answered else "before it answered"
        return Failure("disconnected", f"the server closed the connection {when}: look at its log")
    return Failure("protocol", f"{url} did not answer as an HTTP server should: {error}")


def http_failure(status: int, body: bytes, url: str) -> Failure:
    text = body[:65536].decode(errors="replace").removeprefix("data:")  # Triton answers a stream with an event, whatever the status
    try:
        answer = json.loads(text)
        error = answer.get("error", answer)
        text = error.get("message", text) if isinstance(error, dict) else str(error)
    except (ValueError, AttributeError):
        text = text.strip()[:300]
    return Failure("http", f"{url} answered {status}: {text or 'with an empty body'}", status)
