"""`Board`: a view made of panels that the kernel sketches anew whenever a dial is turned or a cell is picked."""

from __future__ import annotations

import time
from abc import abstractmethod
from dataclasses import dataclass, field
from typing import Any

from labkit.trace import Event
from labkit.views.canvas_view import EVERY, HOST, CanvasView
from labkit.views.esm import bundle
from labkit.views.frame import join
from labkit.views.pen import wrap
from labkit.views.picture import EDGE, WIDTH, Picture, banner
from labkit.views.sketch import Sketch, flow

PARTS = (*HOST, "canvas/tables.js", "canvas/sketch.js", "canvas/dials.js")
TOP, LINE = 62, 15  # of the panels in a still; of the footer


@dataclass(slots=True)
class Dial:
    """Something to choose. `kind` "choice" is a list, "slider" is dragged; options are (value, words)."""

    name: str
    label: str
    options: list[tuple[Any, str]]
    value: Any
    kind: str = "choice"


@dataclass(slots=True)
class Page:
    """What a board shows at one moment: in words, as panels, and as a table."""

    title: str
    about: str
    badge: tuple[str, str]
    panels: list[Sketch]
    alt: str
    footer: str
    caption: str
    heads: list[str]
    rows: list[list[str]]
    dials: list[Dial] = field(default_factory=list)


class PagePacker:
    """Every frame is complete. The layout of a message is told in frame.py; images are sections "panel.image"."""

    complete = True

    def __init__(self) -> None:
        self.sequence = 0

    def reset(self) -> None:
        """Nothing is remembered of the last frame."""

    def pack(self, page: Page, status: str) -> bytes:
        """status: live or ended."""
        self.sequence += 1
        head = {
            "seq": self.sequence,
            "base": 0,
            "status": status,
            "title": page.title,
            "about": page.about,
            "badge": page.badge,
            "alt": page.alt,
            "footer": page.footer,
            "dials": page.dials,
            "table": {"caption": page.caption, "heads": page.heads, "rows": page.rows},
            "panels": [
                {"width": p.width, "height": p.height, "ops": p.ops, "targets": p.targets, "images": [image.shape for image in p.images]}
                for p in page.panels
            ],
        }
        sections = {f"{n}.{k}": image.reshape(-1) for n, panel in enumerate(page.panels) for k, image in enumerate(panel.images)}
        return join(head, sections)


class BoardStill(Picture):
    """A page as a matplotlib figure."""

    def __init__(self, page: Page, theme: str = "light"):
        places, height = flow([(panel.width, panel.height) for panel in page.panels], WIDTH - 2 * EDGE)
        lines = wrap(page.footer, WIDTH - 2 * EDGE)
        bottom = TOP + height + 26
        super().__init__(bottom + LINE * len(lines) + 2, page.alt, theme)
        banner(self.pen, page.title, [(page.about, {})], page.badge)
        for panel, (x, y) in zip(page.panels, places, strict=True):
            panel.draw(self.pen, EDGE + x, TOP + y)
        for i, line in enumerate(lines):
            self.pen.text(line, EDGE, bottom + LINE * i, size=10.5, fill=self.pen.colours["muted"])


class Board(CanvasView):
    """A view says what its page is, which dials it has and what may be picked on its panels."""

    _esm = bundle("board.js", PARTS)

    def __init__(self, every: float = EVERY):
        """every: seconds between frames, at least."""
        super().__init__(PagePacker(), every)
        self._status = "live"
        self._turns = 0  # grows with everything that changes the page
        self.took = 0.0  # seconds that the newest page took to work out

    # what a board is -------------------------------------------------------------------------------------------------
    @abstractmethod
    def page(self) -> Page:
        """What is to be seen now."""

    def _turn(self, name: str, value: Any) -> None:
        """A dial was turned in the browser."""

    def _pick(self, target: str, row: int, column: int) -> None:
        """A cell of a target was pointed at."""

    def _move(self, rows: int, columns: int) -> None:
        """An arrow key was pressed."""

    # what all boards do ----------------------------------------------------------------------------------------------
    def still(self, *, theme: str = "light") -> BoardStill:
        """The page as a matplotlib figure. theme: "light" or "dark"."""
        with self._lock:
            return BoardStill(self.page(), theme)

    def _changed_page(self) -> None:
        self._turns += 1
        self._touch()

    def _ask(self, message: dict[str, Any]) -> None:
        kind = message.get("kind")
        if str(kind).startswith("turn"):
            self._turn(str(message["name"]), message["value"])
        elif kind == "pick":
            self._pick(str(message["target"]), int(message["row"]), int(message["column"]))
        elif kind == "move":
            self._move(int(message["rows"]), int(message["columns"]))
        self._turns += 1

    def _pack(self) -> bytes:
        begin = time.perf_counter()
        page = self.page()
        self.took = time.perf_counter() - begin
        return self._packer.pack(page, self._status)

    def _take(self, event: Event) -> None:
        raise NotImplementedError("a board follows no stream")

    @property
    def _newest(self) -> float:
        return 0.0

    @property
    def _extent(self) -> int:
        return self._turns
