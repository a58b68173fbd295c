"""`Recorder`: takes events from an engine without ever holding it up, writes the run file, serves live readers."""
from __future__ import annotations

import contextlib
import os
import queue
import socket
import threading
import time
from pathlib import Path

from labkit.trace.events import Event, Header, Snapshot, encode
from labkit.trace.reader import Reader

SNAPSHOT_EVERY = 512  # events after which a fresh snapshot is asked for, so that a late reader has little to catch up with
PAUSE = 0.05  # seconds the recorder rests after each batch: fewer wake-ups for the engine to pay, and still below a frame's delay
BEHIND = 0.005  # seconds it rests while a reader has not taken all that was sent to it
FINISH_TIMEOUT = 1.0  # seconds that each reader has at the end of the run to take what still waits for it


class Recorder:
    """One engine's run. `emit` costs a queue operation; encoding, disk and sockets happen on the recorder's own thread.

    path: run file (JSON lines), None for none. socket_path: Unix socket for live readers, None for none. A reader that joins
    gets the header, the latest snapshot and every event since, then each event as it comes; one that lags too far (`reader.py`) is
    cut off and may join again. When the queue is full events are dropped and counted in `dropped`; the emitter finds `wants_snapshot`
    true and sends a `Snapshot` when it next can.
    `failure` names what went wrong with the file (a full disk, say); the live stream goes on without it.
    """

    def __init__(self, header: Header, path: Path | None = None, socket_path: Path | None = None, capacity: int = 4096):
        self.header = header
        self.dropped = 0
        self.wants_snapshot = False
        self.failure: str | None = None
        self._since_snapshot = 0
        self._gap = False  # events were lost since the last snapshot that went through
        self._capacity = capacity
        self._queue: queue.SimpleQueue[Event | socket.socket | None] = queue.SimpleQueue()  # a socket: a reader who joins; None: the end
        self._catch_up = [encode(header)]
        self._readers: list[Reader] = []
        self._path, self._file = path, None
        self._write(self._catch_up)
        self._socket_path, self._listener = socket_path, None
        if socket_path is not None:
            self._listen(socket_path)
        self._thread = threading.Thread(target=self._run, name="labkit-recorder", daemon=True)
        self._thread.start()

    def emit(self, event: Event) -> None:
        """Hand over one event. Never blocks. After a loss only a `Snapshot` is accepted, so that readers never fold over a gap."""
        snapshot = isinstance(event, Snapshot)
        if self._queue.qsize() >= self._capacity or (self._gap and not snapshot):
            self.dropped += 1
            self._gap = self.wants_snapshot = True
            return
        event.dropped = self.dropped
        self._queue.put(event)
        self._since_snapshot += 1
        if snapshot:
            self._gap, self._since_snapshot = False, 0
        self.wants_snapshot = self._gap or self._since_snapshot >= SNAPSHOT_EVERY

    def close(self, timeout: float = 5.0) -> None:
        """Write what is queued, then close file, readers and socket."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join(timeout)
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.shutdown(socket.SHUT_RDWR)  # close alone does not wake a thread in accept()
            listener.close()
            self._socket_path.unlink(missing_ok=True)
        for reader in self._readers:
            reader.finish(FINISH_TIMEOUT)
        self._readers.clear()
        if self._file is not None:
            with contextlib.suppress(OSError):  # a full disk refuses what is still buffered; `failure` says so
                self._file.close()
            self._file = None

    def _run(self) -> None:
        while True:
            behind = any(reader.behind for reader in self._readers)
            batch = self._next_batch(BEHIND if behind else None)
            lines, sent = [], 0
            for item in batch:
                if isinstance(item, socket.socket):
                    self._send(lines[sent:])
                    sent = len(lines)
                    self._join(item)
                elif item is not None:
                    line = encode(item)
                    lines.append(line)
                    if isinstance(item, Snapshot):
                        del self._catch_up[1:]
                    self._catch_up.append(line)
            self._send(lines[sent:])
            if lines:
                self._write(lines)
            if None in batch:
                return
            if not behind:
                time.sleep(PAUSE)

    def _next_batch(self, timeout: float | None) -> list[Event | socket.socket | None]:
        """All that is in the queue; waits for `timeout` seconds (None: for ever) while it is empty."""
        batch: list[Event | socket.socket | None] = []
        with contextlib.suppress(queue.Empty):
            batch.append(self._queue.get(timeout=timeout))
            while True:
                batch.append(self._queue.get_nowait())
        return batch

    def _write(self, lines: list[str]) -> None:
        if self._path is None or self.failure:
            return
        try:
            if self._file is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._file = self._path.open("w", encoding="utf-8")
            self._file.write("\n".join(lines) + "\n")
            self._file.flush()
        except OSError as error:
            self.failure = f"run file {self._path} is incomplete: {error.strerror or error}"

    def _listen(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(os.fspath(path))
        path.chmod(0o600)
        self._listener.listen(16)
        threading.Thread(target=self._accept, args=(self._listener,), name="labkit-recorder-accept", daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                reader, _ = listener.accept()
            except OSError:  # closed
                return
            self._queue.put(reader)

    def _join(self, connection: socket.socket) -> None:
        reader = Reader(connection)
        self._readers.append(reader)
        self._tell(reader, _data(self._catch_up))

    def _send(self, lines: list[str]) -> None:
        """Tell every reader, with what still waits for it."""
        data = _data(lines)
        for reader in list(self._readers):
            self._tell(reader, data)

    def _tell(self, reader: Reader, data: bytes) -> None:
        if not reader.send(data):
            self._readers.remove(reader)
            reader.close()


def _data(lines: list[str]) -> bytes:
    return "".join(line + "\n" for line in lines).encode()
