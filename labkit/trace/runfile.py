"""Run files: JSON lines, a header and then events."""
from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from labkit.trace.events import Event, Header, TraceError, decode, encode
from labkit.trace.state import PoolState

QUIET = 0.15  # seconds; a recorder writes more often than that: where nothing was added, nothing is on its way


@dataclass(slots=True)
class Run:
    """A recorded run. `torn` is true when the writer died in the middle of the last line, which is then left out."""

    header: Header
    events: list[Event] = field(default_factory=list)
    torn: bool = False

    @property
    def steps(self) -> int:
        """Number of the last step."""
        return max((e.step for e in self.events), default=0)

    def state_at(self, step: int) -> PoolState:
        """The pool after `step`."""
        state = PoolState(self.header)
        for event in self.events:
            if event.step > step:
                break
            state.apply(event)
        return state

    def states(self, after: int = 0) -> Iterator[tuple[Event, PoolState]]:
        """Each event later than step `after` with the pool as it leaves it. The state is one object that goes on changing."""
        state = PoolState(self.header)
        for event in self.events:
            state.apply(event)
            if event.step > after:
                yield event, state

    def save(self, path: Path | str) -> None:
        Path(path).write_text("".join(encode(e) + "\n" for e in [self.header, *self.events]), encoding="utf-8")


def read_idle(path: Path | str, timeout: float = 5.0) -> Run:
    """Load the run file of an engine that runs, once its requests have all ended: the last events may still be on their way to the disk.

    Raises `TimeoutError` naming the requests that have not ended after `timeout` seconds.
    """
    deadline, idle_at = time.monotonic() + timeout, None
    while True:
        run = read(path)
        alive = run.state_at(run.steps).requests
        if not alive and run.steps == idle_at:
            return run
        if alive and time.monotonic() > deadline:
            raise TimeoutError(f"{len(alive)} requests are still at work after {timeout:g} s: {', '.join(list(alive)[:5])}")
        idle_at = None if alive else run.steps
        time.sleep(0.02 if alive else QUIET)


def read(path: Path | str) -> Run:
    """Load a run file. Raises FileNotFoundError, or `TraceError` naming the line that is not an event."""
    path = Path(path)
    try:
        lines = path.read_bytes().split(b"\n")
    except IsADirectoryError:
        raise TraceError(f"{path} is a folder, not a run file") from None
    torn = bool(lines[-1])  # a whole file ends in a newline
    events: list[Event] = []
    for number, line in enumerate(lines[:-1], 1):
        try:
            events.append(decode(line))
        except TraceError as error:
            raise TraceError(f"{path}, line {number}: {error}") from None
    if not events or not isinstance(events[0], Header):
        raise TraceError(f"{path} is not a run file: its first line is not a header")
    return Run(events[0], events[1:], torn)
