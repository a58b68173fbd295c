"""The load generator: a process of its own (`python -m labkit.load.generator`), because a kernel that draws cannot keep time.

It reads a plan as one JSON line from stdin, sends the requests, and writes JSON lines to stdout: "ready", "progress" a few times a second,
one "record" per request as it ends, and "end" with the client's own health. A line "stop", or the end of stdin, makes it stop: the
requests in flight are cancelled and recorded. So it cannot outlive its parent.
"""
from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import time
from time import perf_counter_ns
from typing import Any

import uvloop

from labkit.clients.event_stream import ServerUnusable
from labkit.clients.exchange import Failure, Request
from labkit.clients.openai import OpenAIClient
from labkit.load.record import Record

PROGRESS_S = 0.1  # between two progress lines
LAG_S = 0.01  # between two looks at the event loop's lag
WARM = 64  # connections opened before the clock starts, at most


class Generator:
    """Runs one plan: {"url", "model", "requests", "times" | null, "concurrency" | null, "request_timeout", "timeout"}."""

    def __init__(self, plan: dict[str, Any], output: asyncio.WriteTransport):
        self.plan = plan
        self.requests = [Request(**request) for request in plan["requests"]]
        self.output = output
        self.lags: list[int] = []
        self.tally = {"sent": 0, "done": 0, "failed": 0, "tokens": 0}
        self.events: list[tuple[int, int]] = []
        self.origin = 0

    async def run(self, stop: asyncio.Event) -> None:
        plan = self.plan
        async with OpenAIClient(plan["url"], plan["model"]) as client:
            try:
                await client.prepare(min(WARM, len(self.requests), plan["concurrency"] or WARM))
            except ServerUnusable as error:
                return self.write("unusable", cause=error.failure.cause, message=error.failure.message)
            gc.collect()
            gc.freeze()
            self.origin, cpu = perf_counter_ns(), time.process_time()
            self.write("ready", model=client.model, origin=self.origin, pid=os.getpid())
            watchers = [asyncio.create_task(self.report()), asyncio.create_task(self.measure_lag())]
            reason = await self.send_all(client, stop)
            for watcher in watchers:
                watcher.cancel()
            self.progress()
            seconds = (perf_counter_ns() - self.origin) / 1e9
            self.write("end", reason=reason, seconds=seconds, cpu=(time.process_time() - cpu) / seconds, lags=self.lags)

    async def send_all(self, client: OpenAIClient, stop: asyncio.Event) -> str:
        """Send everything; returns "complete", "stopped" or "timeout". Nothing is in flight afterwards."""
        sender = asyncio.create_task(self.closed_loop(client) if self.plan["times"] is None else self.open_loop(client))
        stopper = asyncio.create_task(stop.wait())
        await asyncio.wait({sender, stopper}, timeout=self.plan["timeout"], return_when=asyncio.FIRST_COMPLETED)
        reason = "complete" if sender.done() else "stopped" if stopper.done() else "timeout"
        stopper.cancel()
        sender.cancel()
        await asyncio.gather(sender, return_exceptions=True)
        if sender.done() and not sender.cancelled() and (error := sender.exception()):
            raise error
        return reason

    async def open_loop(self, client: OpenAIClient) -> None:
        """Each request at its own time, whatever has become of the others."""
        limit = asyncio.Semaphore(self.plan["concurrency"] or len(self.requests))
        async with asyncio.TaskGroup() as group:
            for index, at in enumerate(self.plan["times"]):
                t_sched = self.origin + int(at * 1e9)
                # Absolute times: a late wake-up delays one request, never all that follow. Timers of whole milliseconds may wake early.
                while (delay := (t_sched - perf_counter_ns()) / 1e9) > 0:
                    await asyncio.sleep(delay)
                group.create_task(self.send(client, Record(index=index, t_sched=t_sched, t_ready=perf_counter_ns()), limit))

    async def closed_loop(self, client: OpenAIClient) -> None:
        """`concurrency` users, each with one request in flight."""
        queue = iter(range(len(self.requests)))

        async def user() -> None:
            for index in queue:
                now = perf_counter_ns()
                await self.send(client, Record(index=index, t_sched=now, t_ready=now))

        async with asyncio.TaskGroup() as group:
            for _ in range(min(self.plan["concurrency"], len(self.requests))):
                group.create_task(user())

    async def send(self, client: OpenAIClient, record: Record, limit: asyncio.Semaphore | None = None) -> None:
        request = self.requests[record.index]
        record.max_tokens = request.max_tokens
        try:
            if limit is not None:
                await limit.acquire()
            self.tally["sent"] += 1
            try:
                await client.stream(request, record, self.on_event, self.plan["request_timeout"])
            finally:
                if limit is not None:
                    limit.release()
        finally:
            record.error = record.error or (None if record.t_end else Failure("cancelled", "the run ended before this request was sent"))
            self.tally["done"] += 1
            self.tally["failed"] += record.error is not None
            self.write("record", record=record.to_dict())

    def on_event(self, record: Record) -> None:
        self.tally["tokens"] += record.n_tok[-1] if record.n_tok else 1
        self.events.append((record.index, record.t_event[-1]))

    def progress(self) -> None:
        self.write("progress", **self.tally, seconds=(perf_counter_ns() - self.origin) / 1e9, events=self.events)
        self.events = []

    async def report(self) -> None:
        while True:
            await asyncio.sleep(PROGRESS_S)
            self.progress()

    async def measure_lag(self) -> None:
        """How late the event loop wakes a sleeper: the delay that any stamp of this process may carry, in nanoseconds."""
        while True:
            due = perf_counter_ns() + int(LAG_S * 1e9)
            await asyncio.sleep(LAG_S)
            self.lags.append(max(0, perf_counter_ns() - due))

    def write(self, kind: str, **values: Any) -> None:
        # A transport queues what a busy parent does not read yet: writing never waits.
        self.output.write(json.dumps({"kind": kind, **values}, separators=(",", ":")).encode() + b"\n")


async def serve_parent() -> int:
    loop = asyncio.get_running_loop()
    output, flushed = await loop.connect_write_pipe(_Flushed, sys.stdout.buffer)
    orders = asyncio.StreamReader(limit=2**30)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin.buffer)
    plan = json.loads(await orders.readline())
    stop = asyncio.Event()

    async def listen() -> None:
        await orders.readline()  # "stop", or nothing: the parent is gone
        stop.set()

    listener = asyncio.create_task(listen())
    await Generator(plan, output).run(stop)
    listener.cancel()
    output.close()
    await flushed.closed.wait()
    return 0


class _Flushed(asyncio.Protocol):
    """Tells when everything written has left, or nobody is there to read it."""

    def __init__(self) -> None:
        self.closed = asyncio.Event()

    def connection_lost(self, error: Exception | None) -> None:
        self.closed.set()


if __name__ == "__main__":
    sys.exit(uvloop.run(serve_parent()))
