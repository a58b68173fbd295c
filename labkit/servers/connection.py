"""The user's end of a connection to a guard: start one or join one, hear how the server fares, leave."""
from __future__ import annotations

import contextlib
import json
import os
import selectors
import socket
import subprocess
import sys
import time
import weakref
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import labkit
from labkit.environments.home import servers
from labkit.servers.driver import Launch, ServerError
from labkit.servers.registry import Record

HELLO = 20.0  # seconds in which a guard must have said what it guards


class Connection:
    """Holds the server up while it is open. Messages are dicts (see `guard`)."""

    def __init__(self, end: socket.socket):
        self._socket = end
        self._pending = b""
        _close_in_children(weakref.ref(end))

    def receive(self, timeout: float | None) -> dict | None:
        """The next message; None if there is none within `timeout` seconds (None: wait). Raises EOFError when the guard has gone."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while b"\n" not in self._pending:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            with selectors.DefaultSelector() as selector:
                selector.register(self._socket, selectors.EVENT_READ)
                if not selector.select(left):
                    return None
            try:
                data = self._socket.recv(1 << 16)
            except OSError:
                data = b""
            if not data:
                raise EOFError
            self._pending += data
        line, self._pending = self._pending.split(b"\n", 1)
        return json.loads(line)

    def messages(self) -> Iterator[dict]:
        """Every message until the guard closes the connection."""
        with contextlib.suppress(EOFError):
            while True:
                yield self.receive(None)

    def leave(self) -> None:
        """Stop counting as a user. `messages` then ends when the server has stopped, or at once if others use it."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._socket.close()


def begin(record: Record, launch: Launch, driver: str) -> tuple[Record, Connection]:
    """Start a guard for a new server of this driver. Returns once the server process exists, or raises `ServerError`.

    The record that comes back has the processes' ids in it.
    """
    ours, its = socket.socketpair()
    try:
        return _begin(record, launch, driver, ours, its)
    except BaseException:  # an interrupt keeps this frame, and with it our end, alive in its traceback: the guard would wait for us
        ours.close()
        raise


def _begin(record: Record, launch: Launch, driver: str, ours: socket.socket, its: socket.socket) -> tuple[Record, Connection]:
    environment = dict(os.environ)
    root = str(Path(labkit.__file__).parents[1])
    guard_environment = {**environment, "PYTHONPATH": os.pathsep.join(filter(None, [root, environment.get("PYTHONPATH")]))}
    with its, open(record.log, "ab") as log:
        process = subprocess.Popen([sys.executable, "-m", "labkit.servers.guard", str(its.fileno()), record.name], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL, stderr=log, env=guard_environment, pass_fds=[its.fileno()],
                                   start_new_session=True, cwd=servers())
    order = {"driver": driver, "record": asdict(record), "launch": asdict(launch), "environment": environment, "cwd": os.getcwd()}
    ours.sendall(json.dumps(order).encode() + b"\n")
    process.wait()  # it forks the guard and ends at once
    connection = Connection(ours)
    return _hello(connection, f"the guard of {record.name} did not start; see {record.log}"), connection


def join(record: Record) -> Connection | None:
    """A connection to the guard of a running server; None if it is just stopping."""
    end = socket.socket(socket.AF_UNIX)
    try:
        end.connect(record.socket)
    except OSError:
        end.close()
        return None
    connection = Connection(end)
    try:
        _hello(connection, "")
    except ServerError:
        return None
    except BaseException:
        connection.close()
        raise
    return connection


def _hello(connection: Connection, otherwise: str) -> Record:
    try:
        message = connection.receive(HELLO) or {}
    except EOFError:
        message = {}
    if "record" not in message:
        connection.close()
        raise ServerError(message.get("failed", otherwise))
    return Record(**message["record"])


def _close_in_children(end: weakref.ref[socket.socket]) -> None:
    """A forked child of this process (multiprocessing, say) must not hold the server up. Children that exec never get the descriptor."""
    def close() -> None:
        if held := end():
            held.close()

    os.register_at_fork(after_in_child=close)
