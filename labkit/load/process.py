"""The parent's end of the load generator: start it, read what it writes, stop it."""
from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labkit.load.record import Progress, Record

GRACE_S = 20.0  # for starting, connecting and ending, beyond the run's own timeout; then the generator is killed


class LoadError(RuntimeError):
    """The load could not be run. The message names cause and remedy; `cause` is one of `labkit.clients.exchange.CAUSES` or "generator"."""

    def __init__(self, message: str, cause: str):
        super().__init__(message)
        self.cause = cause


@dataclass(slots=True)
class Outcome:
    """What the generator reported. `reason` is "complete", "stopped" or "timeout"; `lags` are event-loop lags in ns; `cpu` is in cores."""

    records: list[Record] = field(default_factory=list)
    origin: int = 0  # perf_counter_ns at the schedule's zero
    model: str | None = None
    reason: str = "stopped"
    seconds: float = 0.0
    cpu: float = 0.0
    lags: list[int] = field(default_factory=list)


def execute(plan: dict[str, Any], on_progress: Callable[[Progress], None]) -> Outcome:
    """Run `plan` (see `labkit.load.generator.Generator`) in a child process and collect its records.

    Ctrl-C, or an interrupt of the kernel, stops the run and keeps the records so far; a second one is raised. Raises `LoadError` if
    the server cannot be asked at all or the generator dies.
    """
    with tempfile.TemporaryFile() as errors:
        # A session of its own: the interrupt meant for the kernel must not cut the generator off in the middle of a record.
        child = subprocess.Popen(
            [sys.executable, "-m", "labkit.load.generator"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, start_new_session=True, env=_environment(),
        )
        try:
            child.stdin.write(json.dumps(plan).encode() + b"\n")
            child.stdin.flush()
            return _follow(child, plan, on_progress, Outcome())
        except (BrokenPipeError, EOFError):
            raise LoadError(_last_words(errors), "generator") from None
        finally:
            child.kill()
            child.wait()
            with suppress(BrokenPipeError):
                child.stdin.close()


def _follow(child: subprocess.Popen, plan: dict[str, Any], on_progress: Callable[[Progress], None], outcome: Outcome) -> Outcome:
    """Read messages until "end". The reading thread keeps the pipe empty while this one draws."""
    messages: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(child.stdout, messages), daemon=True, name="labkit-load").start()
    deadline = time.monotonic() + plan["timeout"] + GRACE_S
    stopping = False
    while True:
        try:
            message = messages.get(timeout=max(0.0, deadline - time.monotonic()))
            if message is None:
                raise EOFError
            if _take(message, plan, on_progress, outcome):
                outcome.records.sort(key=lambda record: record.index)
                return outcome
        except queue.Empty:
            raise LoadError(f"the load generator did not end within {plan['timeout'] + GRACE_S:g} s and was killed", "generator") from None
        except KeyboardInterrupt:
            if stopping:
                raise
            stopping = True
            child.stdin.write(b"stop\n")
            child.stdin.flush()
            deadline = time.monotonic() + GRACE_S


def _take(message: dict[str, Any], plan: dict[str, Any], on_progress: Callable[[Progress], None], outcome: Outcome) -> bool:
    """Take one message into `outcome`; true for the last one."""
    match message["kind"]:
        case "ready":
            outcome.model, outcome.origin = message["model"], message["origin"]
        case "progress":
            on_progress(Progress.from_dict({**message, "requests": len(plan["requests"])}))
        case "record":
            outcome.records.append(Record.from_dict(message["record"]))
        case "unusable":
            raise LoadError(message["message"], message["cause"])
        case "end":
            outcome.reason, outcome.seconds = message["reason"], message["seconds"]
            outcome.cpu, outcome.lags = message["cpu"], message["lags"]
            return True
    return False


def _read(stream: Any, messages: queue.SimpleQueue) -> None:
    with stream, suppress(ValueError):  # a torn last line: the generator was killed while writing it
        for line in stream:
            messages.put(json.loads(line))
    messages.put(None)


def _environment() -> dict[str, str]:
    """The child finds labkit where this process found it, installed or not."""
    root = str(Path(__file__).resolve().parents[2])
    rest = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": root + (os.pathsep + rest if rest else "")}


def _last_words(errors: Any) -> str:
    errors.seek(0)
    lines = errors.read().decode(errors="replace").strip().splitlines()
    return "the load generator ended without a result: " + (lines[-1] if lines else "it was killed, for want of memory perhaps")
