"""`LaneView`: what the batch timeline, the race and the waste ledger share: runs as lanes, and one moment of their clock."""
from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any

from labkit.trace import Event, Header, Run, as_replay
from labkit.views.canvas_view import EVERY, HOST, CanvasView
from labkit.views.lane_frame import LanePacker
from labkit.views.lanes import Lanes
from labkit.views.measures import Measures, measure
from labkit.views.pace import Playhead
from labkit.views.race_scene import Panel, Words, name_of, rule_of

PLAYER = (*HOST, *(f"canvas/{name}.js" for name in ("lanes", "clock", "player", "player_view", "tables")))
MOST_PANELS = 6
NO_RUN = Header("glassbox", "live", {}, "", {"block_size": 1, "num_blocks": 1}, {})  # of a panel whose run has not begun


class LaneView(CanvasView):
    """One run, or up to six of one trace of requests.

    `follow` takes the live stream of a single run; `feed` the events of any panel as they happen; `show` finished runs. In a race,
    requests have the same ids in every run (one that a policy never saw leaves its row empty), and each run's clock starts with its first
    arrival. The browser holds every step and request and moves through them by itself; the kernel is told where it stands.
    """

    def __init__(self, runs: Header | Iterable[str], titles: Mapping[str, str] | None = None, *, packer: LanePacker,
                 requests: Iterable[str] = (), every: float = EVERY):
        """runs: the header of a single run, or the names of the panels from top to bottom. titles: what each policy does, in one line.
        requests: their ids in order of arrival, where they are known beforehand: rows keep their places, and a panel knows when all is
        done. every: seconds between frames, at least."""
        super().__init__(packer, every)
        self._titles, self._requests = dict(titles or {}), list(requests)
        self._ordinals = {name: i for i, name in enumerate(self._requests)}
        self._playhead = Playhead()
        self._order = 0  # counts what was asked for here, so that the browser sees that it was
        if isinstance(runs, Header):
            self._single(runs)
            return
        names = list(runs)
        if not 1 <= len(names) <= MOST_PANELS or len(set(names)) < len(names):
            raise ValueError(f"a race shows 1 to {MOST_PANELS} policies with different names, got {names}")
        self._panels = [Panel(name, self._titles.get(name, ""), Lanes(NO_RUN, self._ordinals)) for name in names]

    @abstractmethod
    def _words(self) -> Words:
        """What is said around the panels."""

    # runs ------------------------------------------------------------------------------------------------------------
    def feed(self, name: str, event: Event) -> None:
        """Take the next event of a policy's run, its header first. From any thread. ValueError for a name that is in no panel."""
        with self._lock:
            panel = self._panel(name)
            if isinstance(event, Header):
                self._begin(panel, event)
            elif panel.lanes.header is NO_RUN:
                raise ValueError(f"{name}: a run begins with its header")
            else:
                panel.lanes.append(event)
                panel.over = bool(self._requests) and panel.lanes.alive == 0 and len(panel.lanes.lanes) >= len(self._requests)
            self._status = "live"
            self._touch()

    def show(self, runs: Run | Mapping[str, Run]) -> None:
        """Show a finished run at its end, or one in each panel that `runs` names."""
        with self._lock:
            if isinstance(runs, Run):
                self._single(as_replay(runs).header)
                runs = {self._panels[0].name: runs}
            for name, run in runs.items():
                panel = self._panel(name)
                self._begin(panel, as_replay(run).header)
                for event in run.events:
                    panel.lanes.append(event)
            self._settle("replay")

    def end(self) -> None:
        """Nothing more will come."""
        with self._lock:
            self._settle("ended")

    def close(self) -> None:
        """Stop following, and leave a picture where the live view was."""
        with self._lock:
            if self._status == "live" and not self._closing:
                self._settle("ended")
        super().close()

    def _single(self, header: Header) -> None:
        self._ordinals = {}
        self._panels = [Panel(name_of(header), rule_of(header), Lanes(header, self._ordinals))]
        self._packer.reset()

    def _panel(self, name: str) -> Panel:
        found = next((panel for panel in self._panels if panel.name == name), None)
        if found is None:
            raise ValueError(f"no panel is called {name!r}: there are {', '.join(panel.name for panel in self._panels)}")
        return found

    def _begin(self, panel: Panel, header: Header) -> None:
        panel.lanes, panel.rule, panel.over = Lanes(header, self._ordinals), self._titles.get(panel.name) or rule_of(header), False
        self._packer.reset()

    def _take(self, event: Event) -> None:
        self._panels[0].lanes.append(event)

    def _settle(self, status: str) -> None:
        for panel in self._panels:
            panel.over = True
        if self._playhead.mode == "live":
            self._playhead.seek(self._last)
            self._order += 1
        super()._settle(status)

    @property
    def _last(self) -> float:
        return max(panel.now for panel in self._panels)

    @property
    def _newest(self) -> float:
        return self._panels[0].lanes.now

    @property
    def _extent(self) -> int:
        return sum(panel.lanes.trimmed + len(panel.lanes.ends) for panel in self._panels)

    # what a user asks for --------------------------------------------------------------------------------------------
    @property
    def time(self) -> float:
        """Seconds on the clock of the panels, at which the view stands."""
        with self._lock:
            return self._playhead.at(self._last, time.perf_counter())

    @property
    def measures(self) -> dict[str, Measures]:
        """TTFT, TPOT, throughput, shares of time and memory of each panel, at the moment that is shown."""
        with self._lock:
            return dict(zip((panel.name for panel in self._panels), self._measures(self.time), strict=True))

    def _measures(self, t: float) -> list[Measures]:
        return [measure(panel.lanes, None if t >= panel.now else t + panel.start) for panel in self._panels]

    def seek(self, t: float) -> None:
        """Stop at a moment, in seconds."""
        with self._lock:
            self._playhead.seek(t)
            self._command()

    def play(self, speed: float | None = None) -> None:
        """Go on from the moment that is shown, in the run's own time. Raises ValueError for a speed that there is not."""
        with self._lock:
            if speed is not None:
                self._playhead.set_speed(speed)
            self._playhead.play(self._last, time.perf_counter())
            self._command()

    def pause(self) -> None:
        with self._lock:
            self._playhead.seek(self.time)
            self._command()

    def live(self) -> None:
        """Follow the newest moment."""
        with self._lock:
            self._playhead.follow()
            self._command()

    def _command(self) -> None:
        self._order += 1
        self._touch()

    def _ask(self, message: dict[str, Any]) -> None:
        if message.get("kind") == "cursor":
            self._playhead = Playhead(str(message["mode"]), float(message["speed"]), float(message["t"]), time.perf_counter())

    # frames ----------------------------------------------------------------------------------------------------------
    def _pack(self) -> bytes:
        stands = {"mode": self._playhead.mode, "speed": self._playhead.speed, "t": self._playhead.at(self._last, time.perf_counter())}
        told = {"status": self._status, "order": self._order, "expected": len(self._requests)}
        return self._packer.pack(self._panels, self._words(), **told, **stands)
