"""`WasteLedger`: where the memory of the KV cache and the time of the steps went, for one run or several on one scale."""
from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from labkit.trace import Header
from labkit.views.canvas_view import EVERY
from labkit.views.esm import bundle
from labkit.views.lane_frame import LanePacker
from labkit.views.lane_view import PLAYER, LaneView
from labkit.views.race_scene import Words, ledger_words

if TYPE_CHECKING:
    from labkit.views.still_ledger import LedgerStill


PARTS = (*PLAYER, "canvas/areas.js", "canvas/ledger_words.js")


class WasteLedger(LaneView):
    """Memory over time as useful, tail, reserved, cached and free slots; time as prefill, decode, recompute, padding and idle."""

    _esm = bundle("waste_ledger.js", PARTS)

    def __init__(self, runs: Header | Iterable[str], titles: Mapping[str, str] | None = None, *, requests: Iterable[str] = (),
                 every: float = EVERY):
        """runs: the header of a single run, or the names of panels. titles, requests, every: see `LaneView`."""
        super().__init__(runs, titles, packer=LanePacker(rows=False, memory=True), requests=requests, every=every)

    def still(self, t: float | None = None, *, theme: str = "light") -> LedgerStill:
        """A matplotlib figure of the ledger at `t` seconds; None: at the moment that is shown. theme: "light" or "dark"."""
        from labkit.views.still_ledger import LedgerStill

        with self._lock:
            now = self.time if t is None else t
            measures = self._measures(now)
            return LedgerStill(self._panels, measures, self._words(), now, theme)

    def _words(self) -> Words:
        return ledger_words(self._panels)
