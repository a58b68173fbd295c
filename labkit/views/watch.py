"""`watch`: a live view of a running server, or of a run that was recorded."""
from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from labkit.trace import Header, Run, Subscription, read, subscribe
from labkit.views.canvas_view import EVERY
from labkit.views.kv_map import KVMap
from labkit.views.race_view import BatchTimeline
from labkit.views.waste_ledger import WasteLedger

View = KVMap | BatchTimeline | WasteLedger
VIEWS = ("kv", "timeline", "ledger")


class Watchable(Protocol):
    """What `watch` needs of a server handle."""

    name: str
    trace_socket: Path | None
    run_file: Path | None

    def health(self) -> bool: ...


def watch(source: Watchable | Run | Path | str, *, view: str = "kv", every: float = EVERY, select: str | None = None) -> View:
    """Show `source` here, and return the view.

    source: a server (live; once it has stopped, its run file), the path of a run file, or a `Run`. view: "kv", the KV map; "timeline", the
    batch timeline; "ledger", the waste ledger. every: seconds between two frames, at least. select: the letter of the request that the KV
    map picks (None: it picks one and moves on when it ends).
    Raises ValueError for a server that cannot be watched, FileNotFoundError and `TraceError` for a run file that is none.
    """
    if view not in VIEWS:
        raise ValueError(f"no view {view!r}: choose one of {', '.join(VIEWS)}")

    def make(header: Header, model: str | None = None) -> View:
        if view == "kv":
            return KVMap(header, every=every, select=select, model=model)
        return (BatchTimeline if view == "timeline" else WasteLedger)(header, every=every)

    if isinstance(source, (str, os.PathLike)):
        source = read(source)
    if isinstance(source, Run):
        shown = _replay(source, make)
    elif hasattr(source, "trace_socket"):
        shown = _live(source, make)
    else:
        raise TypeError(f"cannot watch {type(source).__name__}: give a server, a Run, or the path of a run file")
    shown.display()
    return shown


def _replay(run: Run, make: Callable[..., View]) -> View:
    view = make(run.header)
    view.show(run)
    return view


def _live(server: Watchable, make: Callable[..., View]) -> View:
    if server.trace_socket is None:
        raise ValueError(f"{server.name} does not tell what its block pool does: there is nothing to watch. "
                         "The glass box and vLLM do, when labkit.serve starts them")
    try:
        subscription = subscribe(server.trace_socket)
    except ConnectionError:
        if server.run_file is None or not server.run_file.exists():
            raise
        return _replay(read(server.run_file), make)

    def rejoin() -> Subscription | None:
        try:
            return subscribe(server.trace_socket)
        except ConnectionError:
            if server.health():
                raise
            return None

    view = make(subscription.header, getattr(server, "model_folder", None))
    view.follow(subscription, rejoin)
    return view
