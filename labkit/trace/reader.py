"""`Reader`: one live reader of a run. It is sent what it takes; the rest waits here, and the engine never waits for it."""
from __future__ import annotations

import socket
import time

BACKLOG = 16 << 20  # bytes that may wait for one reader
STALLED = 10.0  # seconds in which a reader must take something of what waits


class Reader:
    """The writing end of one reader's socket. `behind` tells whether bytes wait for it."""

    def __init__(self, connection: socket.socket):
        connection.setblocking(False)
        self._connection = connection
        self._backlog = bytearray()
        self._took = time.monotonic()

    @property
    def behind(self) -> bool:
        return bool(self._backlog)

    def send(self, data: bytes = b"") -> bool:
        """Send what waits and then `data`, as far as the reader takes it now. False when it has gone or lags too far: close it then."""
        if not self._backlog:
            self._took = time.monotonic()
        self._backlog += data
        try:
            while self._backlog:
                del self._backlog[:self._connection.send(self._backlog)]
                self._took = time.monotonic()
        except BlockingIOError:
            return len(self._backlog) <= BACKLOG and time.monotonic() - self._took < STALLED
        except OSError:
            return False
        return True

    def finish(self, timeout: float) -> None:
        """Give the reader `timeout` seconds to take what waits, then close."""
        try:
            self._connection.settimeout(timeout)
            self._connection.sendall(self._backlog)
        except OSError:
            pass
        self.close()

    def close(self) -> None:
        self._connection.close()
