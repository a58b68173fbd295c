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

SNAPSHOT_EVERY = 512  # events after which a fresh snapshot is asked for, so that a late reader has little to catch up with
PAUSE = 0.05  # seconds the recorder rests after each batch: fewer wake-ups for the engine to pay, and still below a frame's delay
SEND_TIMEOUT = 1.0  # seconds; a reader that takes longer to accept what is sent is cut off and may join again


class Recorder:
    """One engine's run. `emit` costs a queue operation; encoding, disk and sockets happen on the recorder's own thread.

    path: run file (JSON lines), None for none. socket_path: Unix socket for live readers, None for none. A reader that joins
    gets the header, the latest snapshot and every event since, then each event as it comes. When the queue is full events are
    dropped and counted in `dropped`; the emitter finds `wants_snapshot` true and sends a `Snapshot` when it next can.
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
        self._queue: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._lock = threading.Lock()  # guards _catch_up and _readers
        self._catch_up = [encode(header)]
        self._readers: list[socket.socket] = []
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
        with self._lock:
            for reader in self._readers:
                reader.close()
            self._readers.clear()
        if self._file is not None:
            with contextlib.suppress(OSError):  # a full disk refuses what is still buffered; `failure` says so
                self._file.close()
            self._file = None

    def _run(self) -> None:
        while True:
            batch = [self._queue.get()]
            while batch[-1] is not None:
                try:
                    batch.append(self._queue.get_nowait())
                except queue.Empty:
                    break
            lines = []
            with self._lock:
                for event in batch:
                    if event is None:
                        break
                    line = encode(event)
                    lines.append(line)
                    if isinstance(event, Snapshot):
                        del self._catch_up[1:]
                    self._catch_up.append(line)
                if lines and self._readers:
                    self._send(lines)
            if lines:
                self._write(lines)
            if batch[-1] is None:
                return
            time.sleep(PAUSE)

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
            reader.settimeout(SEND_TIMEOUT)
            with self._lock:
                self._readers.append(reader)
                self._send(self._catch_up, [reader])

    def _send(self, lines: list[str], readers: list[socket.socket] | None = None) -> None:
        data = ("\n".join(lines) + "\n").encode()
        for reader in list(self._readers if readers is None else readers):
            try:
                reader.sendall(data)
            except OSError:
                self._readers.remove(reader)
                reader.close()
