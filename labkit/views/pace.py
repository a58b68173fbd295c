"""`Pace`: whether a view follows live, stands or plays, and how fast."""
from __future__ import annotations

from dataclasses import dataclass

SPEEDS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)


@dataclass(slots=True)
class Pace:
    """mode: "live" stays at the newest moment, "paused" stays put, "playing" moves on in the run's own time."""

    mode: str = "live"
    speed: float = 1.0

    def follow(self) -> None:
        self.mode = "live"

    def faster(self, places: int = 1) -> None:
        """The next speed, or the one before (`places` -1); after the fastest comes the slowest."""
        self.speed = SPEEDS[(SPEEDS.index(self.speed) + places) % len(SPEEDS)]

    def set_speed(self, speed: float) -> None:
        if speed not in SPEEDS:
            raise ValueError(f"no speed {speed:g}: choose one of {', '.join(f'{s:g}' for s in SPEEDS)}")
        self.speed = speed


@dataclass(slots=True)
class Playhead(Pace):
    """A moment of a run's clock, in seconds. `since` is the wall time at which it stood at `t` while it plays."""

    t: float = 0.0
    since: float = 0.0

    def seek(self, t: float) -> None:
        self.mode, self.t = "paused", max(0.0, t)

    def play(self, last: float, now: float) -> None:
        """Go on from here, or from the beginning where this is the end."""
        if self.mode == "live" or self.t >= last:
            self.t = 0.0
        self.mode, self.since = "playing", now

    def at(self, last: float, now: float) -> float:
        """Where it stands at wall time `now` in a run that has come to `last`."""
        if self.mode == "live":
            return last
        return min(last, self.t + (now - self.since) * self.speed) if self.mode == "playing" else min(self.t, last)
