"""`replay`: a recorded run, in its own time or faster."""
from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Iterator

from labkit.trace.events import Event
from labkit.trace.runfile import Run


def as_replay(run: Run) -> Run:
    """The same run with the badge that a reader must show for it (a stand-in stays a stand-in)."""
    badge = "stand-in" if run.header.badge == "stand-in" else "replay"
    return Run(dataclasses.replace(run.header, badge=badge), run.events, run.torn)


def replay(run: Run, speed: float = 1.0, stop: threading.Event | None = None) -> Iterator[Event]:
    """Yield the events when they are due: `speed` 2 is twice as fast, `float("inf")` does not wait. `stop` ends it early."""
    if not speed > 0:
        raise ValueError(f"speed must be greater than 0, got {speed}")
    stop = stop or threading.Event()
    begin = time.perf_counter()
    origin = run.events[0].t if run.events else 0.0
    for event in run.events:
        due = begin + (event.t - origin) / speed
        if stop.wait(max(0.0, due - time.perf_counter())):
            return
        yield event
