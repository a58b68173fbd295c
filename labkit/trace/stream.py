"""`subscribe`: follow a running engine's events over its local socket."""
from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from labkit.trace.events import Event, Header, TraceError, decode

BUFFER = 1 << 18  # bytes; each read may wait for Python's lock, so a reader beside busy threads must take much at a time


class Subscription:
    """Iterate to get a snapshot (if the run is under way) and then every event; ends when the engine does or on `close()`.

    `header` is there from the start. `close()` may be called from another thread and ends the iteration.
    """

    def __init__(self, connection: socket.socket):
        self._socket = connection
        self._file = connection.makefile("rb", buffering=BUFFER)
        header = decode(self._file.readline() or b"{}")
        if not isinstance(header, Header):
            raise TraceError("the stream does not begin with a header")
        self.header = header

    def __iter__(self) -> Iterator[Event]:
        try:
            for line in self._file:
                if not line.endswith(b"\n"):  # cut off in the middle of an event
                    return
                yield decode(line)
        except (OSError, ValueError) as error:
            if isinstance(error, TraceError):
                raise

    def close(self) -> None:
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def subscribe(path: Path | str, timeout: float = 5.0) -> Subscription:
    """Join the run whose recorder listens on `path`. Raises ConnectionError when nobody does."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(timeout)
    try:
        connection.connect(os.fspath(path))
        subscription = Subscription(connection)
    except OSError as error:
        connection.close()
        raise ConnectionError(f"no running engine answers on {path} ({error}): has the server stopped?") from error
    connection.settimeout(None)
    return subscription
