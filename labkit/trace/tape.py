"""`Tape`: a recorder in memory, for an engine that runs inside a notebook or a test."""
from __future__ import annotations

from dataclasses import dataclass, field

from labkit.trace.events import Event, Header
from labkit.trace.runfile import Run


@dataclass(slots=True)
class Tape:
    """Keeps every event. Takes the place of a `Recorder` where nobody has to be protected from a slow disk or reader."""

    header: Header
    events: list[Event] = field(default_factory=list)
    wants_snapshot: bool = False  # nothing is ever lost, nobody joins late

    def emit(self, event: Event) -> None:
        self.events.append(event)

    @property
    def run(self) -> Run:
        """What was recorded so far."""
        return Run(self.header, list(self.events))
