"""The HTTP side of the engine process: requests go in, outputs come back to whoever waits for them. One asyncio loop."""
from __future__ import annotations

import asyncio
import itertools
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

from labkit.glassbox.messages import Setup, Stats
from labkit.glassbox.outputs import RequestOutput
from labkit.glassbox.quantization import Switch
from labkit.glassbox.sampling_params import SamplingParams

# Compute threads meet some hundred times a step. One that waits longer than this many turns of a loop (GNU OpenMP; some 10 microseconds)
# sleeps: then its core is there for HTTP and for clients, which otherwise would hold up all threads at the next meeting.
SPIN_COUNT = "2000"
# Large pages for large tensors (GNU libc): a step goes through all weights, and looks up the place of every page.
TUNABLES = "glibc.malloc.hugetlb=1"


class EngineFailure(RuntimeError):
    """The engine process could not start, or has ended. The message is its own."""


class Stream:
    """Outputs of the requests of one HTTP call. A reader that is slow finds several steps joined into one output.

    Raises `Overloaded` or `Unservable` where the engine refuses one of them.
    """

    def __init__(self, client: EngineClient, request_ids: list[str]) -> None:
        self._client = client
        self._unfinished = dict.fromkeys(request_ids)
        self._pending: dict[str, RequestOutput] = {}
        self._news = asyncio.Event()
        self._failure: EngineFailure | None = None

    def push(self, output: RequestOutput) -> None:
        if output.request_id in self._pending:
            self._pending[output.request_id].merge(output)
        else:
            self._pending[output.request_id] = output
        self._news.set()

    def fail(self, failure: EngineFailure) -> None:
        self._failure = failure
        self._news.set()

    async def __aiter__(self) -> AsyncIterator[RequestOutput]:
        while self._unfinished:
            await self._news.wait()
            self._news.clear()
            pending, self._pending = self._pending, {}
            for output in pending.values():
                if output.finished:
                    del self._unfinished[output.request_id]
                if output.refusal is not None:
                    raise output.refusal.error()
                yield output
            if self._failure is not None:
                raise self._failure

    def close(self) -> None:
        """Cancel what has not ended: its blocks are free before the next step."""
        for request_id in self._unfinished:
            self._client.abort(request_id)


class EngineClient:
    """Starts the engine process and speaks with it. `stats` is as of its latest step; `observe` sees every batch of outputs."""

    def __init__(self, setup: Setup) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", "labkit.glassbox.engine_process", str(theirs.fileno())]
            environment = {"GOMP_SPINCOUNT": SPIN_COUNT, "GLIBC_TUNABLES": TUNABLES, **os.environ}
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], env=environment)
        self._connection = Connection(ours.detach())
        self._connection.send(setup)
        self._streams: dict[str, Stream] = {}
        self._answers: dict[int, asyncio.Future] = {}  # to `quantize`, by the number of the question
        self._questions = itertools.count()
        self.stats = Stats()
        self.observe: Callable[[list[RequestOutput], Stats], None] = lambda outputs, stats: None
        self.on_death: Callable[[EngineFailure], None] = lambda failure: None
        self.failure: EngineFailure | None = None
        self.vocab_size = 0

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def num_unfinished(self) -> int:
        return len(self._streams)

    async def ready(self) -> None:
        """Wait until the engine can serve. Raises `EngineFailure` with the engine's own message if it cannot start."""
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(self._connection.fileno(), readable.set)
        await readable.wait()
        loop.remove_reader(self._connection.fileno())
        try:
            verb, content = self._connection.recv()
        except (EOFError, OSError):
            raise EngineFailure(f"the engine process ended while starting ({self._exit()}); its log has the cause") from None
        if verb == "failed":
            raise EngineFailure(content)
        self.vocab_size = content
        loop.add_reader(self._connection.fileno(), self._receive)

    def submit(self, requests: Sequence[tuple[str, list[int], SamplingParams, int]]) -> Stream:
        """Queue requests, each (id, prompt token ids, parameters, priority)."""
        if self.failure is not None:
            raise self.failure
        stream = Stream(self, [request_id for request_id, *_ in requests])
        for request_id, *rest in requests:
            self._streams[request_id] = stream
            self._connection.send(("add", request_id, *rest))
        return stream

    def abort(self, request_id: str) -> None:
        if self._streams.pop(request_id, None) is not None and self.failure is None:
            self._connection.send(("abort", request_id))

    async def quantize(self, settings: dict[str, Any]) -> Switch:
        """`Engine.quantize` in the engine process: between two of its steps, which wait for as long as it takes. Raises `ValueError` with
        the engine's own message."""
        if self.failure is not None:
            raise self.failure
        number = next(self._questions)
        self._answers[number] = answer = asyncio.get_running_loop().create_future()
        self._connection.send(("quantize", number, settings))
        try:
            found = await answer
        finally:
            del self._answers[number]
        if isinstance(found, str):
            raise ValueError(found)
        return found

    async def close(self, timeout: float = 5.0) -> None:
        """End the engine process: at the end of its step, or by force after `timeout` seconds."""
        asyncio.get_running_loop().remove_reader(self._connection.fileno())
        self._connection.close()
        try:
            await asyncio.to_thread(self._process.wait, timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _receive(self) -> None:
        try:
            while self._connection.poll():
                verb, *content = self._connection.recv()
                if verb == "dead":
                    return self._die(f"the engine failed: {content[0]}")
                if verb == "answer":
                    self._answer(*content)
                    continue
                self._deliver(*content)
        except (EOFError, OSError):
            self._die(f"the engine process ended ({self._exit()})")
        except Exception as error:  # whatever it was, nobody may be left waiting
            self._die(f"an answer of the engine process cannot be read ({type(error).__name__}: {error})")

    def _answer(self, number: int, found: Switch | str) -> None:
        answer = self._answers.get(number)  # None: whoever asked has gone
        if answer is not None and not answer.done():
            answer.set_result(found)

    def _deliver(self, outputs: list[RequestOutput], stats: Stats) -> None:
        self.stats = stats
        for output in outputs:
            stream = self._streams.get(output.request_id)
            if output.finished:
                self._streams.pop(output.request_id, None)
            if stream is not None:
                stream.push(output)
        self.observe(outputs, stats)

    def _die(self, message: str) -> None:
        asyncio.get_running_loop().remove_reader(self._connection.fileno())
        self.failure = EngineFailure(message)
        for stream in set(self._streams.values()):
            stream.fail(self.failure)
        self._streams.clear()
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(self.failure)
        self.on_death(self.failure)

    def _exit(self) -> str:
        try:
            code = self._process.wait(1)
        except subprocess.TimeoutExpired:
            return "still running"
        if code == -9:
            return "killed, most likely for lack of memory: close other programs or lower --num-gpu-blocks-override"
        return f"signal {-code}" if code < 0 else f"exit code {code}"
