"""`Outlet`: where a view stands in a notebook, live while somebody looks, a picture where nobody does."""
from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

FRONT_ENDS = ("JPY_SESSION_NAME", "VSCODE_PID", "VSCODE_CWD", "COLAB_RELEASE_TAG")  # set in kernels that a front end has started


def interactive() -> bool:
    """Whether a front end that can show live views has started this kernel. LABKIT_INTERACTIVE=0 or 1 decides it."""
    told = os.environ.get("LABKIT_INTERACTIVE")
    if told is not None:
        return told.strip().lower() not in ("", "0", "false", "no")
    return _shell() is not None and any(name in os.environ for name in FRONT_ENDS)


def _shell() -> Any:
    """The IPython kernel that we run in, None elsewhere."""
    try:
        from IPython import get_ipython
    except ImportError:
        return None
    shell = get_ipython()
    return shell if shell is not None and hasattr(shell, "kernel") else None


class Outlet:
    """One output of a cell. `live()` and `picture()` give its content as MIME bundles (data, metadata).

    Where nobody can look at a live view the output becomes the picture at the end of each cell in which `stale()` is true.
    """

    def __init__(self, live: Callable[[], tuple[dict, dict]], picture: Callable[[], tuple[dict, dict]], stale: Callable[[], bool]):
        self._live, self._picture, self._stale = live, picture, stale
        self._handle = None
        self._cell: int | None = None
        self._hooked: Any = None

    def show(self) -> None:
        """Put the view into the output of the cell that runs; once a cell, however often it is asked for."""
        shell = _shell()
        if shell is None or self._cell == shell.execution_count:
            return
        from IPython.display import display

        self._cell = shell.execution_count
        data, metadata = self._live() if interactive() else ({"text/plain": "the picture follows at the end of the cell"}, {})
        self._handle = display(data, raw=True, metadata=metadata, display_id=True)
        if not interactive() and self._hooked is None:
            self._hooked = shell
            shell.events.register("post_run_cell", self._after_cell)

    def settle(self) -> None:
        """Leave the picture behind, for good."""
        self._unhook()
        self._draw()

    def _after_cell(self, *_: object) -> None:
        if self._stale():
            self._draw()

    def _draw(self) -> None:
        if self._handle is not None:
            data, metadata = self._picture()
            self._handle.update(data, raw=True, metadata=metadata)

    def _unhook(self) -> None:
        if self._hooked is not None:
            self._hooked.events.unregister("post_run_cell", self._after_cell)
            self._hooked = None
