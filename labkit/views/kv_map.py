"""`KVMap`: the live view of a block pool, in the notebook."""
from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from labkit.trace import Event, Header, PoolState, Run, as_replay
from labkit.views.canvas_view import EVERY, HOST, CanvasView
from labkit.views.cursor import Cursor
from labkit.views.esm import bundle
from labkit.views.frame import Packer
from labkit.views.history import History
from labkit.views.scene import Scene, compose
from labkit.views.tokens import Vocabulary

if TYPE_CHECKING:
    from labkit.views.still import Still

PARTS = (*HOST, *(f"canvas/{name}.js" for name in (
    "frame", "layout", "cells", "header", "strip", "side", "ledger", "timeline", "draw", "controls", "tables", "table")))


class KVMap(CanvasView):
    """Every physical block of a pool, at the newest step of a run or at any other.

    `follow` takes a live stream, `show` a recorded run. Everything else may be called at any time, from any thread:
    `select("J")`, `look_at(block)`, `seek(step)`, `play()`, `pause()`, `live()`, `still()`.
    """

    _esm = bundle("kv_map.js", PARTS)

    def __init__(self, header: Header, *, every: float = EVERY, select: str | None = None, model: str | None = None):
        """every: seconds between frames, at least. select: letter of the request to pick once it is there; None picks one and
        keeps picking as requests end. model: where the tokenizer is, if not where the header says."""
        super().__init__(Packer(), every)
        self._history = History(header)
        self._cursor = Cursor()
        self._vocabulary = Vocabulary(model or header.model)
        self._letter, self._auto = select, select is None
        self._selected: str | None = None
        self._focus: int | None = None

    def show(self, run: Run) -> None:
        """Show a recorded run, stopped at the step that holds the most blocks."""
        run = as_replay(run)
        history = History(run.header)
        for event in run.events:
            history.append(event)
        with self._lock:
            self._history = history
            self._packer.reset()
            self._status = "replay"
            self._cursor = Cursor("paused", position=history.fullest())
            self._touch()

    def _take(self, event: Event) -> None:
        self._history.append(event)

    @property
    def _newest(self) -> float:
        return self._history.state_at(self._history.last).t

    @property
    def _extent(self) -> int:
        return self._history.last

    # what a user asks for --------------------------------------------------------------------------------------------
    @property
    def step(self) -> int:
        """The step that is shown."""
        with self._lock:
            return self._state().step

    @property
    def counts(self) -> dict[str, int]:
        """Blocks by state at the step that is shown."""
        with self._lock:
            return self._state().counts()

    def select(self, name: str | None) -> None:
        """Pick the request with this letter; None for none."""
        with self._lock:
            self._letter, self._auto = name, False
            self._touch()

    def look_at(self, block: int | None) -> None:
        """Open the card of a physical block; None for the selected request's last one."""
        with self._lock:
            self._focus = block
            self._touch()

    def seek(self, step: int) -> None:
        """Stop at a step."""
        with self._lock:
            self._cursor.seek(self._history.position_of(step), self._history)
            self._touch()

    def play(self, speed: float | None = None) -> None:
        """Go on from the step that is shown, in the run's own time. Raises ValueError for a speed that there is not."""
        with self._lock:
            if speed is not None:
                self._cursor.set_speed(speed)
            self._cursor.play(self._history, time.perf_counter())
            self._touch()

    def pause(self) -> None:
        with self._lock:
            self._cursor.mode = "paused"
            self._touch()

    def live(self) -> None:
        """Follow the newest step."""
        with self._lock:
            self._cursor.follow()
            self._touch()

    def _ask(self, message: dict[str, Any]) -> None:
        kind = message.get("kind")
        if kind == "seek":
            self._cursor.seek(int(message["position"]), self._history)
        elif kind == "jump":
            self._cursor.jump(int(message["direction"]), self._history)
        elif kind == "speed":
            self._cursor.faster(int(message["places"]))
        elif kind in ("play", "pause", "live"):
            getattr(self, kind)()
        elif kind == "select":
            self.select(message["letter"])
        elif kind == "focus":
            self._focus = message["block"]

    # painting --------------------------------------------------------------------------------------------------------
    def _state(self, position: int | None = None) -> PoolState:
        if position is None:
            self._cursor.advance(self._history, time.perf_counter(), self._status != "live")
            position = self._cursor.position
        return self._history.state_at(position)

    def _pick(self, state: PoolState) -> str | None:
        """The id of the request that is selected in this state."""
        live = state.requests
        if self._letter is not None:
            found = next((name for name, r in live.items() if r.letter == self._letter), None)
            if found is not None or not self._auto:
                return found
        if not self._auto:
            return None
        current = live.get(self._selected) if self._selected else None
        if current is None or not current.table:
            current = max((r for r in live.values() if r.table), key=lambda r: (r.shared > 0, len(r.table)), default=None)
        return current.id if current else None

    def _scene(self, state: PoolState) -> Scene:
        self._selected = self._pick(state)
        request = state.requests.get(self._selected) if self._selected else None
        focus = self._focus
        if focus is None and request and request.table:
            focus = request.table[-1]
        return compose(state, self._vocabulary, self._selected, focus)

    def _advance(self, now: float) -> tuple[bool, float | None]:
        before = self._cursor.position
        due = self._cursor.advance(self._history, now, self._status != "live")
        return self._cursor.position != before, due

    def _pack(self) -> bytes:
        state = self._history.state_at(self._cursor.position)
        return self._packer.pack(self._scene(state), state, self._history, self._cursor, self._status)

    def still(self, step: int | None = None, *, theme: str = "light") -> Still:
        """A matplotlib figure of the map at `step`; None: the step that is shown, or while the map follows a run the step at which it
        held the most blocks. theme: "light" or "dark"."""
        from labkit.views.still import Still

        with self._lock:
            history, cursor = self._history, self._cursor
            if step is not None:
                position = history.position_of(step)
            else:
                position = history.fullest() if cursor.mode == "live" else cursor.position
            state = self._history.state_at(position)
            return Still(self._scene(state), state, history, position, theme)
