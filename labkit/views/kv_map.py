"""`KVMap`: the live view of a block pool, in the notebook."""
from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import anywidget
import traitlets

from labkit.trace import Header, PoolState, Run, Subscription, as_replay
from labkit.views.cursor import Cursor
from labkit.views.esm import HERE, bundle
from labkit.views.frame import Packer
from labkit.views.history import History
from labkit.views.outlet import Outlet, interactive
from labkit.views.scene import Scene, compose
from labkit.views.tokens import Vocabulary

if TYPE_CHECKING:
    from labkit.views.still import Still

PARTS = tuple(f"canvas/{name}.js" for name in ("theme", "text", "frame", "layout", "cells", "header", "strip", "side", "ledger", "timeline",
                                               "draw", "controls", "table"))
EVERY = 1 / 15  # seconds between frames
WHOLE_EVERY = 2.0  # seconds after which a frame is complete again, for a browser that missed one while the kernel was too busy to be asked
WHOLE_RATE = 250_000  # bytes per second that complete frames may take


class KVMap(anywidget.AnyWidget):
    """Every physical block of a pool, at the newest step of a run or at any other.

    `follow` takes a live stream, `show` a recorded run. Everything else may be called at any time, from any thread:
    `select("J")`, `look_at(block)`, `seek(step)`, `play()`, `pause()`, `live()`, `still()`.
    """

    _esm = bundle("kv_map.js", PARTS)
    _css = (HERE / "kv_map.css").read_text(encoding="utf-8")
    frame = traitlets.Bytes(b"").tag(sync=True)

    def __init__(self, header: Header, *, every: float = EVERY, select: str | None = None, model: str | None = None):
        """every: seconds between frames, at least. select: letter of the request to pick once it is there; None picks one and
        keeps picking as requests end. model: where the tokenizer is, if not where the header says."""
        super().__init__()
        self._answer_in_any_thread()
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._history = History(header)
        self._cursor = Cursor()
        self._vocabulary = Vocabulary(model or header.model)
        self._every = every
        self._letter, self._auto = select, select is None
        self._selected: str | None = None
        self._focus: int | None = None
        self._status = "empty"
        self._packer = Packer()
        self._dirty, self._closing = True, False
        self._painter: threading.Thread | None = None
        self._reader: threading.Thread | None = None
        self._subscription: Subscription | None = None
        self._outlet = Outlet(self._live_bundle, self._picture_bundle, self._stale)
        self._pictured = -1  # positions that the last picture knew
        self.on_msg(self._on_message)

    # sources ---------------------------------------------------------------------------------------------------------
    def follow(self, subscription: Subscription, rejoin: Callable[[], Subscription | None] | None = None) -> None:
        """Show a live run as it comes in. When the stream ends `rejoin` says what that means: a new subscription if the engine
        still runs, None if it has stopped; it raises ConnectionError if nobody can tell."""
        with self._lock:
            self._subscription = subscription
        self._reader = threading.Thread(target=self._read, args=(subscription, rejoin), name="labkit-kv-map-reader", daemon=True)
        self._reader.start()

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
            self._cursor = Cursor("paused", history.fullest())
            self._touch()

    def _read(self, subscription: Subscription, rejoin: Callable[[], Subscription | None] | None) -> None:
        status, seen = "ended", -1.0
        while True:
            for event in subscription:
                with self._lock:
                    if self._closing:
                        return
                    if event.t <= seen:  # told again to a reader that joined again
                        continue
                    seen = -1.0
                    self._history.append(event)
                    self._status = "live"
                    self._touch()
            with self._lock:
                if self._closing or rejoin is None:
                    break
                seen = self._history.state_at(self._history.last).t
            try:
                subscription = rejoin()
            except ConnectionError:
                status = "lost"
                break
            if subscription is None:
                break
            with self._lock:
                self._subscription = subscription
        with self._lock:
            self._status = status
            self._packer.reset()  # the last frame is complete: it is what a saved notebook holds
            self._touch()

    # what a user asks for --------------------------------------------------------------------------------------------
    @property
    def step(self) -> int:
        """The step that is shown."""
        with self._lock:
            return self._state().step

    @property
    def status(self) -> str:
        """empty, live, ended, lost or replay."""
        return self._status

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

    def _on_message(self, _: Any, message: dict[str, Any], __: list[bytes]) -> None:
        kind = message.get("kind")
        with self._lock:
            if kind == "hello":
                self._packer.reset()
                self._start_painting()
            elif kind == "seek":
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
            self._touch()

    def _answer_in_any_thread(self) -> None:
        """Let a browser's messages in while a cell runs.

        ipykernel 7.4 takes a comm's messages to the shell that wrote to the comm last. Frames are written by a thread of the main
        shell, which a running cell blocks; `_on_message` is safe on any thread, so the browser's own choice, a subshell, stands.
        """
        if self.comm is not None:
            self.comm._reply_subshell_for = lambda data, chosen: chosen

    # painting --------------------------------------------------------------------------------------------------------
    def _touch(self) -> None:
        self._dirty = True
        self._changed.notify_all()

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

    def _start_painting(self) -> None:
        if self._painter is None:
            self._painter = threading.Thread(target=self._paint, name="labkit-kv-map-painter", daemon=True)
            self._painter.start()

    def _paint(self) -> None:
        """Send a frame whenever something has changed, at most one per `every` seconds, always of the newest state."""
        sent = whole = 0.0
        while True:
            with self._lock:
                while not self._closing:
                    now = time.perf_counter()
                    before = self._cursor.position
                    due = self._cursor.advance(self._history, now, self._status != "live")
                    self._dirty |= self._cursor.position != before
                    if self._dirty and now >= sent + self._every:
                        break
                    self._changed.wait(max(0.001, sent + self._every - now) if self._dirty else due)
                if self._closing:
                    return
                self._dirty = False
                sent = now
                state = self._history.state_at(self._cursor.position)
                if now >= whole:
                    self._packer.reset()
                complete = self._packer.complete
                frame = self._packer.pack(self._scene(state), state, self._history, self._cursor, self._status)
            if complete:
                whole = now + max(WHOLE_EVERY, len(frame) / WHOLE_RATE)
            self.frame = frame

    # in the notebook -------------------------------------------------------------------------------------------------
    def display(self) -> None:
        """Show the map in the output of the cell that runs: live where a front end is there, else as a picture when the cell ends."""
        if interactive():
            self._start_painting()
        self._outlet.show()

    def _ipython_display_(self) -> None:
        self.display()

    def _repr_mimebundle_(self, **options: Any) -> tuple[dict, dict]:
        return self._live_bundle()

    def _live_bundle(self) -> tuple[dict, dict]:
        bundle = super()._repr_mimebundle_()
        return bundle if isinstance(bundle, tuple) else (bundle or {}, {})

    def _picture_bundle(self) -> tuple[dict, dict]:
        with self._lock:
            self._pictured = self._history.last
        return self.still().bundle()

    def _stale(self) -> bool:
        """Whether a new picture would show more; waits for the reader to have read what has been sent."""
        deadline, seen = time.perf_counter() + 2.0, -2
        while seen != self._history.last and time.perf_counter() < deadline:
            seen = self._history.last
            time.sleep(0.1 if self._reader is not None and self._reader.is_alive() else 0)
        return self._history.last != self._pictured

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

    def close(self) -> None:
        """Stop following, and leave a picture where the live view was."""
        with self._lock:
            if self._closing:
                return
            self._closing = True
            self._changed.notify_all()
            if self._subscription is not None:
                self._subscription.close()
        self._outlet.settle()
        super().close()
