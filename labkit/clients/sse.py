"""Server-sent events out of a byte stream that may be cut anywhere."""
from __future__ import annotations


class EventParser:
    """Feed chunks, get the data of every event that the chunk completed (WHATWG HTML, section 9.2.6; UTF-8, LF, CR LF or CR)."""

    __slots__ = ("_data", "_rest")

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []

    def feed(self, chunk: bytes) -> list[bytes]:
        """Data of the events now complete, in order. Comments, `event:`, `id:` and `retry:` lines are skipped."""
        buffer = self._rest + chunk
        # A CR at the very end may be half of a CR LF: it stays in the buffer until the next byte decides.
        held = b"\r" if buffer.endswith(b"\r") else b""
        lines = buffer[: len(buffer) - len(held)].replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._rest = lines.pop() + held
        events: list[bytes] = []
        for line in lines:
            if not line:
                if self._data:
                    events.append(b"\n".join(self._data))
                    self._data = []
            elif line.startswith(b"data:"):
                self._data.append(line[6:] if line.startswith(b"data: ") else line[5:])
        return events
