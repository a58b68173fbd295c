"""`CanvasView`: what all live views share: one binary frame at a time to a canvas in the browser, messages back, a picture at the end."""
from __future__ import annotations

import threading
import time
from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import anywidget
import traitlets

from labkit.trace import Event, Subscription
from labkit.views.esm import HERE
from labkit.views.outlet import Outlet, interactive

if TYPE_CHECKING:
    from labkit.views.picture import Picture

EVERY = 1 / 15  # seconds between frames
WHOLE_EVERY = 2.0  # seconds after which a frame is complete again, for a browser that missed one while the kernel was too busy to be asked
WHOLE_RATE = 250_000  # bytes per second that complete frames may take
HOST = tuple(f"canvas/{name}.js" for name in ("theme", "text", "shapes", "packet", "banner", "elements", "host"))


class CanvasView(anywidget.AnyWidget):
    """A view says what a frame holds, what a message asks for and what its picture is. All of it happens behind `_lock`, on any thread.

    `status` is empty, live, ended, lost or replay.
    """

    _css = (HERE / "canvas.css").read_text(encoding="utf-8")
    frame = traitlets.Bytes(b"").tag(sync=True)

    def __init__(self, packer: Any, every: float = EVERY):
        """packer: has `complete` and `reset()`, see `frame.Packer`. every: seconds between frames, at least."""
        super().__init__()
        self._answer_in_any_thread()
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._packer, self._every = packer, every
        self._status = "empty"
        self._dirty, self._closing = True, False
        self._painter: threading.Thread | None = None
        self._reader: threading.Thread | None = None
        self._subscription: Subscription | None = None
        self._outlet = Outlet(self._live_bundle, self._picture_bundle, self._stale)
        self._pictured = -1  # what `_extent` was for the last picture
        self.on_msg(self._on_message)

    # what a view is --------------------------------------------------------------------------------------------------
    @abstractmethod
    def still(self, *, theme: str = "light") -> Picture:
        """The view as a matplotlib figure. theme: "light" or "dark"."""

    @abstractmethod
    def _pack(self) -> bytes:
        """A frame of the newest state."""

    @abstractmethod
    def _ask(self, message: dict[str, Any]) -> None:
        """Do what a browser asks for."""

    @abstractmethod
    def _take(self, event: Event) -> None:
        """Take in one event of the stream that the view follows."""

    @property
    @abstractmethod
    def _newest(self) -> float:
        """Time of the newest event, in the trace's seconds."""

    @property
    @abstractmethod
    def _extent(self) -> int:
        """How much has been taken in: grows with every event."""

    def _advance(self, now: float) -> tuple[bool, float | None]:
        """Move what moves by itself to wall time `now`: whether anything has, and the seconds until it does again, None for never."""
        return False, None

    # sources ---------------------------------------------------------------------------------------------------------
    def follow(self, subscription: Subscription, rejoin: Callable[[], Subscription | None] | None = None) -> None:
        """Show a live run as it comes in. When the stream ends `rejoin` says what that means: a new subscription if the engine
        still runs, None if it has stopped; it raises ConnectionError if nobody can tell."""
        with self._lock:
            self._subscription = subscription
        self._reader = threading.Thread(target=self._read, args=(subscription, rejoin), name="labkit-view-reader", daemon=True)
        self._reader.start()

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
                    self._take(event)
                    self._status = "live"
                    self._touch()
            with self._lock:
                if self._closing or rejoin is None:
                    break
                seen = self._newest
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
            self._settle(status)

    def _settle(self, status: str) -> None:
        """Nothing more will come."""
        self._status = status
        self._packer.reset()  # the last frame is complete: it is what a saved notebook holds
        self._touch()

    @property
    def status(self) -> str:
        """empty, live, ended, lost or replay."""
        return self._status

    # messages and frames ---------------------------------------------------------------------------------------------
    def _on_message(self, _: Any, message: dict[str, Any], __: list[bytes]) -> None:
        with self._lock:
            if message.get("kind") == "hello":
                self._packer.reset()
                self._start_painting()
            else:
                self._ask(message)
            self._touch()

    def _answer_in_any_thread(self) -> None:
        """Let a browser's messages in while a cell runs.

        ipykernel 7.4 takes a comm's messages to the shell that wrote to the comm last. Frames are written by a thread of the main
        shell, which a running cell blocks; `_on_message` is safe on any thread, so the browser's own choice, a subshell, stands.
        """
        if self.comm is not None:
            self.comm._reply_subshell_for = lambda data, chosen: chosen

    def _touch(self) -> None:
        self._dirty = True
        self._changed.notify_all()

    def _start_painting(self) -> None:
        if self._painter is None:
            self._painter = threading.Thread(target=self._paint, name="labkit-view-painter", daemon=True)
            self._painter.start()

    def _paint(self) -> None:
        """Send a frame whenever something has changed, at most one per `every` seconds, always of the newest state."""
        sent = whole = 0.0
        while True:
            with self._lock:
                while not self._closing:
                    now = time.perf_counter()
                    moved, due = self._advance(now)
                    self._dirty |= moved
                    if self._dirty and now >= sent + self._every:
                        break
                    self._changed.wait(max(0.001, sent + self._every - now) if self._dirty else due)
                if self._closing:
                    return
                self._dirty = False
                sent = now
                if now >= whole:
                    self._packer.reset()
                complete = self._packer.complete
                frame = self._pack()
            if complete:
                whole = now + max(WHOLE_EVERY, len(frame) / WHOLE_RATE)
            self.frame = frame

    # in the notebook -------------------------------------------------------------------------------------------------
    def display(self) -> None:
        """Show the view in the output of the cell that runs: live where a front end is there, else as a picture when the cell ends."""
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
            self._pictured = self._extent
        return self.still().bundle()

    def _stale(self) -> bool:
        """Whether a new picture would show more; waits for the reader to have read what has been sent."""
        deadline, seen = time.perf_counter() + 2.0, -2
        while seen != self._extent and time.perf_counter() < deadline:
            seen = self._extent
            time.sleep(0.1 if self._reader is not None and self._reader.is_alive() else 0)
        return self._extent != self._pictured

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
