"""`BatchTimeline`: the requests of one run, and what each step computed. `RaceView`: several such timelines on one clock and one scale."""
from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from labkit.trace import Header
from labkit.views.canvas_view import EVERY
from labkit.views.esm import bundle
from labkit.views.lane_frame import LanePacker
from labkit.views.lane_view import PLAYER, LaneView
from labkit.views.race_scene import Words, race_words, timeline_words

if TYPE_CHECKING:
    from labkit.views.still_race import RaceStill


PARTS = (*PLAYER, *(f"canvas/{name}.js" for name in (
    "rows", "bars", "readouts", "race_layout", "segment_card", "finger", "race_words")))


class TimelineView(LaneView):
    """Panels of rows and bars."""

    _esm = bundle("timeline.js", PARTS)

    def still(self, t: float | None = None, *, theme: str = "light") -> RaceStill:
        """A matplotlib figure of the timeline at `t` seconds; None: at the moment that is shown. theme: "light" or "dark"."""
        from labkit.views.still_race import RaceStill

        with self._lock:
            now = self.time if t is None else t
            measures = self._measures(now)
            known = set(self._requests).union(*(panel.lanes.lanes for panel in self._panels))
            rows = [name for name in self._ordinals if name in known]
            return RaceStill(self._panels, rows, measures, self._words(), now, theme)


class BatchTimeline(TimelineView):
    """`follow` takes a live stream, `show` a recorded run. Everything else may be called at any time, from any thread:
    `seek(seconds)`, `play()`, `pause()`, `live()`, `measures`, `still()`."""

    def __init__(self, header: Header, *, every: float = EVERY):
        """every: seconds between frames, at least."""
        super().__init__(header, packer=LanePacker(), every=every)

    def _words(self) -> Words:
        return timeline_words(self._panels[0])


class RaceView(TimelineView):
    """Up to six policies on one trace of requests: `feed(name, event)` from any thread while they run, or `show({name: run})`."""

    def __init__(self, names: Iterable[str], titles: Mapping[str, str] | None = None, *, requests: Iterable[str] = (),
                 every: float = EVERY):
        """names: of the panels, from top to bottom. titles, requests, every: see `LaneView`."""
        super().__init__(names, titles, packer=LanePacker(), requests=requests, every=every)

    def _words(self) -> Words:
        return race_words(self._panels, len(self._ordinals))
