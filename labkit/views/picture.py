"""`Picture`: a view as a matplotlib figure, with its alt text: what an executed notebook shows where no browser was."""
from __future__ import annotations

import io

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from labkit.views.pen import Pen, palette, text_width

WIDTH, EDGE = 1100, 24


class Picture(Figure):
    """`pen` draws on it in the pixels of the live view. `alt` says it in words; a notebook shows it as a PNG with that text."""

    def __init__(self, height: float, alt: str, theme: str = "light"):
        """theme: "light" or "dark"; ValueError for another."""
        colours = palette(theme)
        super().__init__(figsize=(WIDTH / 100, height / 100), dpi=100)
        FigureCanvasAgg(self)
        self.alt = alt
        self.set_facecolor(colours["paper"])
        self.pen = Pen(self, WIDTH, height, colours)

    def png(self) -> bytes:
        """At twice the size of the live view, with the alt text among its metadata."""
        out = io.BytesIO()
        self.savefig(out, format="png", dpi=200, facecolor=self.get_facecolor(), metadata={"Description": self.alt})
        return out.getvalue()

    def bundle(self) -> tuple[dict, dict]:
        """MIME bundle: data and metadata."""
        return {"image/png": self.png(), "text/plain": self.alt}, {"image/png": {"width": WIDTH, "alt": self.alt}}

    def _repr_mimebundle_(self, **_: object) -> tuple[dict, dict]:
        return self.bundle()


def banner(pen: Pen, title: str, runs: list, badge: tuple[str, str]) -> None:
    """The top of every picture: name, counters as (text, options), badge, rule."""
    c, y = pen.colours, 26
    pen.text(title, EDGE, 31, size=18, weight=600)
    pen.runs(runs, EDGE + text_width(title, 18, 600) + 10, 31, fill=c["ink2"])
    kind, what = badge
    w = text_width(kind, 12, 600) + text_width(f" – {what}") + 34
    x = WIDTH - EDGE - w
    pen.box(x + 0.6, y - 12, w - 1.2, 24, 12, edge=c["good"] if kind == "live" else c["edge"], width=1.25)
    if kind == "live":
        pen.circle(x + 14, y, 4, fill=c["good"])
    elif kind == "replay":
        pen.polygon([(x + 10, y - 4.5), (x + 18, y), (x + 10, y + 4.5)], fill=c["ink2"])
    else:
        pen.rect(x + 10, y - 4, 8, 8, edge=c["alert"], width=1.5)
    pen.runs([(kind, {"weight": 600}), (f" – {what}", {})], x + 24, y + 4)
    pen.rect(EDGE, 46, WIDTH - 2 * EDGE, 1, fill=c["line"])
