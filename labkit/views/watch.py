"""`watch`: the KV map of a running server, or of a run that was recorded."""
from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from labkit.trace import Run, Subscription, read, subscribe
from labkit.views.kv_map import EVERY, KVMap


class Watchable(Protocol):
    """What `watch` needs of a server handle."""

    name: str
    trace_socket: Path | None
    run_file: Path | None

    def health(self) -> bool: ...


def watch(source: Watchable | Run | Path | str, *, every: float = EVERY, select: str | None = None) -> KVMap:
    """Show the KV map of `source` here, and return it.

    source: a server (live; once it has stopped, its run file), the path of a run file, or a `Run`. every: seconds between
    two frames, at least. select: the letter of the request to pick (None: the map picks one and moves on when it ends).
    Raises ValueError for a server that cannot be watched, FileNotFoundError and `TraceError` for a run file that is none.
    """
    if isinstance(source, (str, os.PathLike)):
        source = read(source)
    if isinstance(source, Run):
        view = _replay(source, every, select)
    elif hasattr(source, "trace_socket"):
        view = _live(source, every, select)
    else:
        raise TypeError(f"cannot watch {type(source).__name__}: give a server, a Run, or the path of a run file")
    view.display()
    return view


def _replay(run: Run, every: float, select: str | None) -> KVMap:
    view = KVMap(run.header, every=every, select=select)
    view.show(run)
    return view


def _live(server: Watchable, every: float, select: str | None) -> KVMap:
    if server.trace_socket is None:
        raise ValueError(f"{server.name} does not tell what its block pool does: there is nothing to watch. "
                         "The glass box and vLLM do, when labkit.serve starts them")
    try:
        subscription = subscribe(server.trace_socket)
    except ConnectionError:
        if server.run_file is None or not server.run_file.exists():
            raise
        return _replay(read(server.run_file), every, select)

    def rejoin() -> Subscription | None:
        try:
            return subscribe(server.trace_socket)
        except ConnectionError:
            if server.health():
                raise
            return None

    view = KVMap(subscription.header, every=every, select=select, model=getattr(server, "model_folder", None))
    view.follow(subscription, rejoin)
    return view
