"""One line that says how a start goes on: rewritten in place in a notebook and a terminal, one line per phase elsewhere."""
from __future__ import annotations

import sys
import time
from typing import Self


class Progress:
    """Shows phases with the seconds that have passed. A context manager; `shown=False` shows nothing."""

    def __init__(self, name: str, shown: bool = True):
        self.name, self.shown = name, shown
        self.began = time.monotonic()
        self.text = "starting"
        self.display = _notebook_display() if shown else None
        self.terminal = shown and self.display is None and sys.stderr.isatty()

    def phase(self, text: str) -> None:
        self.text = text
        if self.shown and self.display is None and not self.terminal:
            print(self._line(), file=sys.stderr, flush=True)
        self.tick()

    note = phase

    def tick(self) -> None:
        """Bring the seconds up to date where the line can be rewritten."""
        self._show(self._line())

    def ready(self, text: str) -> None:
        self.text = text
        if self.shown and self.display is None and not self.terminal:
            print(text, file=sys.stderr, flush=True)
        self._show(text)

    def __enter__(self) -> Self:
        self.tick()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            self._show(f"{self.name}: failed while {self.text}")
        if self.terminal:
            print(file=sys.stderr)

    def _line(self) -> str:
        return f"{self.name}: {self.text} ({time.monotonic() - self.began:.0f} s)"

    def _show(self, line: str) -> None:
        if self.display is not None:
            self.display.update({"text/plain": line}, raw=True)
        elif self.terminal:
            print(f"\r\x1b[2K{line}", end="", file=sys.stderr, flush=True)


def _notebook_display():
    """A display handle where the caller runs in a Jupyter kernel, else None."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is None or not hasattr(shell, "kernel"):
        return None
    from IPython.display import display

    return display({"text/plain": ""}, raw=True, display_id=True)
