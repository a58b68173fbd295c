"""`Pen`: drawing in the pixels of the live map on a matplotlib figure, and measuring text before it is placed."""
from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.image import AxesImage
from matplotlib.patches import Circle, FancyBboxPatch, PathPatch, Polygon, Rectangle
from matplotlib.path import Path as Outline
from matplotlib.textpath import text_to_path

POINT = 0.72  # points a pixel, at 100 dpi
FAMILIES = ("Inter", "Helvetica Neue", "Arial", "Liberation Sans", "DejaVu Sans")
MONOS = ("JetBrains Mono", "DejaVu Sans Mono")
STYLE = json.loads((Path(__file__).parent / "style.json").read_text(encoding="utf-8"))


def mix(a: str, b: str, share: float) -> str:
    """`share` of colour a over colour b."""
    pairs = zip(*([int(c[i:i + 2], 16) for i in (1, 3, 5)] for c in (a, b)), strict=True)
    return "#" + "".join(f"{round(p * share + q * (1 - share)):02x}" for p, q in pairs)


def palette(theme: str) -> dict:
    """The colours of `theme` ("light" or "dark"), with owners as {fill, on, edge, soft}."""
    if theme not in ("light", "dark"):
        raise ValueError(f"no theme {theme!r}: choose light or dark")
    base = STYLE[theme]
    owners = [{"fill": o["fill"], "on": o["on"], "edge": o[theme], "soft": mix(o["fill"], base["paper"], base["soft"])}
              for o in STYLE["owners"]]
    return {**base, "owners": owners, "legend": STYLE["legend"], "segments": STYLE["segments"]}


@cache
def fonts(mono: bool) -> tuple[str, ...]:
    """The families that are installed, best first; matplotlib brings the last one along."""
    installed = set(font_manager.get_font_names())
    return tuple(name for name in (MONOS if mono else FAMILIES) if name in installed)


@cache
def font(size: float, weight: int, mono: bool) -> FontProperties:
    """Regular or bold: every fallback family has these two."""
    return FontProperties(family=list(fonts(mono)), size=size * POINT, weight=700 if weight > 500 else 400)


@cache
def text_width(text: str, size: float = 12, weight: int = 400, mono: bool = False) -> float:
    """Pixels."""
    widths, _, _ = text_to_path.get_text_width_height_descent(text, font(size, weight, mono), ismath=False)
    return widths / POINT


def wrap(text: str, room: float, size: float = 10.5) -> list[str]:
    """`text` broken at blanks into lines no wider than `room`."""
    lines: list[str] = []
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(longer, size) <= room:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


class Pen:
    """y grows downwards, as in the browser. Shapes take matplotlib's edgecolor, facecolor, linewidth (in pixels), linestyle, alpha."""

    def __init__(self, figure: Figure, width: float, height: float, colours: dict):
        self.colours = colours
        self.axes = figure.add_axes((0, 0, 1, 1))
        self.axes.set_xlim(0, width)
        self.axes.set_ylim(height, 0)
        self.axes.axis("off")

    def _add(self, patch, fill: str | None, edge: str | None, width: float, dash: tuple | None = None, alpha: float = 1.0, clip=None):
        patch.set(facecolor=fill or "none", edgecolor=edge or "none", linewidth=width * POINT, alpha=alpha)
        if dash:
            patch.set_linestyle((0, tuple(d / width for d in dash)))
        self.axes.add_artist(patch)  # not add_patch, which works out data limits that nobody needs
        if clip is not None:
            patch.set_clip_path(clip)
        return patch

    def rect(self, x: float, y: float, w: float, h: float, fill: str | None = None, edge: str | None = None, width: float = 1, **rest):
        return self._add(Rectangle((x, y), max(0, w), max(0, h)), fill, edge, width, **rest)

    def box(self, x: float, y: float, w: float, h: float, radius: float, fill: str | None = None, edge: str | None = None,
            width: float = 1, **rest):
        """A rectangle with round corners."""
        radius = min(radius, w / 2, h / 2)
        return self._add(FancyBboxPatch((x, y), w, h, boxstyle=f"round,pad=0,rounding_size={radius}"), fill, edge, width, **rest)

    def circle(self, x: float, y: float, r: float, fill: str | None = None, edge: str | None = None, width: float = 1, **rest):
        return self._add(Circle((x, y), r), fill, edge, width, **rest)

    def polygon(self, points, fill: str | None = None, edge: str | None = None, width: float = 1, **rest):
        return self._add(Polygon(points, closed=True), fill, edge, width, **rest)

    def line(self, points, colour: str, width: float = 1, dash: tuple | None = None):
        return self._add(PathPatch(Outline(points)), None, colour, width, dash)

    def curve(self, vertices, codes, colour: str, width: float):
        return self._add(PathPatch(Outline(vertices, codes)), None, colour, width)

    def hatch(self, x: float, y: float, w: float, h: float, colour: str, step: float = 5, width: float = 1.2, clip=None) -> None:
        """45° lines inside a rectangle, or inside the patch `clip`."""
        vertices, codes = [], []
        c = (x + y) // step * step
        while c <= x + w + y + h:
            vertices += [(c - y, y), (c - y - h, y + h)]
            codes += [Outline.MOVETO, Outline.LINETO]
            c += step
        frame = clip or self.rect(x, y, w, h)
        self._add(PathPatch(Outline(vertices, codes)), None, colour, width, clip=frame)

    def rects(self, boxes, fill: str | None = None, edge: str | None = None, width: float = 1, **rest):
        """Many rectangles (x, y, w, h) of one look as one patch, which is quick; None for none."""
        vertices, codes = [], []
        for x, y, w, h in boxes:
            vertices += [(x, y), (x + w, y), (x + w, y + h), (x, y + h), (x, y)]
            codes += [Outline.MOVETO, Outline.LINETO, Outline.LINETO, Outline.LINETO, Outline.CLOSEPOLY]
        return self._add(PathPatch(Outline(vertices, codes)), fill, edge, width, **rest) if boxes else None

    def strokes(self, pairs, colour: str, width: float = 1, dash: tuple | None = None) -> None:
        """Many lines ((x0, y0), (x1, y1)) of one look."""
        if pairs:
            vertices = [point for pair in pairs for point in pair]
            self._add(PathPatch(Outline(vertices, [Outline.MOVETO, Outline.LINETO] * len(pairs))), None, colour, width, dash)

    def image(self, pixels, x: float, y: float, w: float, h: float) -> None:
        """Pixels u1 [rows, columns, 3] as cells without a gap."""
        picture = AxesImage(self.axes, extent=(x, x + w, y + h, y), origin="upper", interpolation="nearest", resample=False)
        picture.set_data(pixels)
        picture.set_zorder(1)  # like the shapes: what is drawn later lies above
        self.axes.add_artist(picture)

    def hatches(self, boxes, colour: str, width: float = 1.2) -> None:
        """One 45° hatch seen through many rectangles."""
        if boxes:
            left, top = min(b[0] for b in boxes), min(b[1] for b in boxes)
            right, bottom = max(b[0] + b[2] for b in boxes), max(b[1] + b[3] for b in boxes)
            self.hatch(left, top, right - left, bottom - top, colour, width=width, clip=self.rects(boxes))

    def text(self, text: str, x: float, y: float, size: float = 12, weight: int = 400, fill: str | None = None, align: str = "left",
             mono: bool = False) -> float:
        """One line with its baseline at y; returns its width."""
        self.axes.text(x, y, text, fontproperties=font(size, weight, mono), color=fill or self.colours["ink"], ha=align, va="baseline",
                       parse_math=False)
        return text_width(text, size, weight, mono)

    def runs(self, runs, x: float, y: float, size: float = 12, fill: str | None = None, align: str = "left") -> float:
        """(text, {weight, fill, dx}) after one another; returns their width."""
        parts = [(text, {"size": size, "fill": fill, **own}) for text, own in runs]
        width = sum(own.get("dx", 0) + text_width(text, own["size"], own.get("weight", 400)) for text, own in parts)
        at = x - width if align == "right" else x - width / 2 if align == "center" else x
        for text, own in parts:
            at += own.pop("dx", 0)
            at += self.text(text, at, y, **own)
        return width

    def fitting(self, variants, room: float, size: float = 12, weight: int = 400) -> str:
        """The first of the variants, from long to short, that fits; "" if none does."""
        return next((v for v in variants if text_width(v, size, weight) <= room), "")
