"""`Cursor`: where in a run a view stands, and how it moves: following live, held, or playing."""
from __future__ import annotations

from dataclasses import dataclass

from labkit.views.history import History
from labkit.views.pace import Pace

LONGEST_GAP = 1.0  # seconds: a longer pause of the run is played as this


@dataclass(slots=True)
class Cursor(Pace):
    """Stands at a position of a `History`."""

    position: int = 0
    _due: float = 0.0  # wall time at which the next position is shown

    def seek(self, position: int, history: History) -> None:
        self.position = min(max(position, history.first), max(history.last, 0))
        self.mode = "paused"

    def play(self, history: History, now: float) -> None:
        """Go on from here, or from the beginning where this is the end."""
        if self.position >= history.last:
            self.position = history.first
        self.mode, self._due = "playing", now

    def jump(self, direction: int, history: History) -> None:
        """To the next event mark (`direction` 1) or the one before (-1); stays where there is none."""
        marks = {mark.position for mark in history.marks}
        beyond = [p for p in marks if (p - self.position) * direction > 0]
        if beyond:
            self.seek(min(beyond) if direction > 0 else max(beyond), history)

    def advance(self, history: History, now: float, ended: bool) -> float | None:
        """Move to where the cursor stands at wall time `now`; the seconds until it moves again, None if it waits for something else."""
        if self.mode == "live":
            self.position = max(history.last, 0)
            return None
        if self.mode != "playing":
            self.position = max(self.position, history.first)
            return None
        while self.position < history.last and now >= self._due:
            self.position = max(self.position + 1, history.first)
            if self.position < history.last:
                at = self.position - history.first
                self._due += min(max(history.times[at + 1] - history.times[at], 0.0), LONGEST_GAP) / self.speed
        if self.position >= history.last:
            self.mode = "paused" if ended else "live"
            return None
        return max(0.0, self._due - now)
