"""Which servers run for this user: one record each, their sharing key, and `sweep` for what a dead guard left behind."""
from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

from labkit.environments.home import servers

STARTED_TOLERANCE = 0.05  # seconds; psutil derives a process's start from clock ticks of 10 ms


@dataclass(slots=True)
class Record:
    """One server under a guard; `servers/<id>.json`. Written by the guard alone, removed when the server is gone."""

    id: str
    key: str  # equal for equal requests: what two notebooks share a server by
    name: str
    badge: str
    url: str
    ready_url: str
    metrics_url: str
    model: str  # the name clients use
    model_folder: str
    flags: list[str]
    log: str
    folder: str  # private work folder
    socket: str  # the guard's
    ports: dict[str, int] = field(default_factory=dict)
    trace_socket: str | None = None
    run_file: str | None = None
    pid: int = 0  # leader of the server's session and process group
    started: float = 0.0  # when that process started: with the pid, its identity
    guard: int = 0
    guard_started: float = 0.0
    ready: bool = False

    def write(self) -> None:
        path = servers() / f"{self.id}.json"
        draft = path.with_suffix(".draft")
        draft.write_text(json.dumps(asdict(self)))
        draft.replace(path)

    def remove(self) -> None:
        """Forget the server: record, socket and work folder (with the trace socket in it). Log and run file stay."""
        for path in (Path(self.socket).with_name(f"{self.id}.json"), Path(self.socket)):  # `servers()` would make the folder anew
            path.unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def guarded(self) -> bool:
        return same_process(self.guard, self.guard_started)


def share_key(name: str, model: str, flags: list[str], port: int | None) -> str:
    """Equal for two requests that one server can answer."""
    return hashlib.sha256(json.dumps([name, model, flags, port]).encode()).hexdigest()[:16]


def records() -> list[Record]:
    """Every record that can be read, guarded or not."""
    found = []
    for path in sorted(servers().glob("*.json")):
        with contextlib.suppress(OSError, ValueError, TypeError):
            found.append(Record(**json.loads(path.read_text())))
    return found


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """Look-up and start are one step: no two processes start what they could have shared."""
    with (servers() / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def sweep() -> list[str]:
    """End servers whose guard is gone and remove their records. Returns the names of the servers that were ended.

    A process is signalled only if it started at the recorded time, so that a reused pid is safe.
    """
    ended = []
    for record in records():
        if record.guarded():
            continue
        if kill_session(record.pid, record.started):
            ended.append(record.name)
        record.remove()
    return ended


def started(pid: int) -> float:
    return psutil.Process(pid).create_time()


def same_process(pid: int, start: float) -> bool:
    """Whether process `pid` runs (not as a zombie) and is the one that started at `start`."""
    try:
        process = psutil.Process(pid)
        return abs(process.create_time() - start) < STARTED_TOLERANCE and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, ValueError):
        return False


def kill_session(leader: int, start: float) -> bool:
    """SIGKILL every process in the session that `leader` led. True if any was there.

    The leader itself may be dead already: its id cannot be reused while a member of its session lives, so members that
    started after it are its own.
    """
    alive = False
    if leader <= 1:
        return False
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if os.getsid(process.pid) == leader and process.create_time() >= start - STARTED_TOLERANCE \
                    and process.status() != psutil.STATUS_ZOMBIE:
                os.kill(process.pid, signal.SIGKILL)
                alive = True
    return alive
