"""`Sketch`: a panel as a list of what is drawn on it. `pen.py` draws it on a figure and `canvas/sketch.js` in the browser: one picture, two
painters. Colours are names of the palette, so that both themes can be had of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from labkit.views.pen import Pen, mix

GAP = 28  # between panels
MONO = 0.602  # width of a character of the code font over its size: tokens are placed without asking a browser for it
RAMPS = ("signed", "loss")


@dataclass(slots=True)
class Sketch:
    """y grows downwards from the panel's upper left corner. `targets` can be pointed at, and are moved over with the arrow keys."""

    width: float
    height: float
    ops: list[dict[str, Any]] = field(default_factory=list)
    images: list[np.ndarray] = field(default_factory=list)  # u1 [rows, columns]
    targets: list[dict[str, Any]] = field(default_factory=list)

    def _add(self, op: str, **how: Any) -> None:
        self.ops.append(
            {"op": op}
            | {name: value.item() if isinstance(value, np.generic) else value for name, value in how.items() if value is not None}
        )

    def text(
        self,
        text: str,
        x: float,
        y: float,
        size: float = 12,
        weight: int = 400,
        fill: str = "ink",
        align: str = "left",
        mono: bool | None = None,
    ) -> None:
        """One line with its baseline at y."""
        self._add("text", text=text, x=x, y=y, size=size, weight=weight, fill=fill, align=align, mono=mono)

    def runs(self, runs: Iterable[tuple[str, dict]], x: float, y: float, size: float = 12, fill: str = "ink", align: str = "left") -> None:
        """(text, {weight, fill, dx, size}) after one another."""
        self._add("runs", runs=[[text, how] for text, how in runs], x=x, y=y, size=size, fill=fill, align=align)

    def rect(
        self,
        x: float,
        y: float,
        w: float,
        h: float,
        fill: str | None = None,
        edge: str | None = None,
        width: float = 1,
        dash: Sequence[float] | None = None,
        radius: float | None = None,
    ) -> None:
        self._add("rect", x=x, y=y, w=w, h=h, fill=fill, edge=edge, width=width, dash=dash, radius=radius)

    def rects(self, boxes: Sequence[Sequence[float]], fill: str | None = None, edge: str | None = None, width: float = 1) -> None:
        """Many rectangles (x, y, w, h) of one look."""
        if len(boxes):
            self._add("rects", boxes=np.asarray(boxes, float).round(2).tolist(), fill=fill, edge=edge, width=width)

    def strokes(self, pairs: Sequence[tuple], colour: str, width: float = 1, dash: Sequence[float] | None = None) -> None:
        """Many lines ((x0, y0), (x1, y1)) of one look."""
        if len(pairs):
            self._add("strokes", pairs=np.asarray(pairs, float).round(2).tolist(), colour=colour, width=width, dash=dash)

    def polygon(self, points: Sequence[Sequence[float]], fill: str | None = None, edge: str | None = None, width: float = 1) -> None:
        self._add("polygon", points=np.asarray(points, float).round(2).tolist(), fill=fill, edge=edge, width=width)

    def line(self, points: Sequence[Sequence[float]], colour: str, width: float = 1) -> None:
        self._add("line", points=np.asarray(points, float).round(2).tolist(), colour=colour, width=width)

    def circle(self, x: float, y: float, r: float, fill: str | None = None, edge: str | None = None, width: float = 1) -> None:
        self._add("circle", x=x, y=y, r=r, fill=fill, edge=edge, width=width)

    def image(self, values: np.ndarray, x: float, y: float, w: float, h: float, ramp: str) -> None:
        """Values [rows, columns] as coloured cells: "signed" from -1 to 1, "loss" from 0 to 1; what is beyond takes the last colour."""
        scaled = 128 + 127 * np.clip(values, -1, 1) if ramp == "signed" else 255 * np.clip(values, 0, 1)
        self.images.append(np.asarray(scaled + 0.5, "u1"))
        self._add("image", image=len(self.images) - 1, x=x, y=y, w=w, h=h, ramp=ramp)

    def target(self, name: str, x: float, y: float, w: float, h: float, rows: int = 1, columns: int = 1) -> None:
        """A part that can be picked, cell by cell."""
        self.targets.append({"name": name, "x": x, "y": y, "w": w, "h": h, "rows": rows, "columns": columns})

    def draw(self, pen: Pen, left: float, top: float) -> None:
        """On a figure, with the upper left corner at (left, top)."""
        for op in self.ops:
            _DRAW[op["op"]](pen, self, {name: value for name, value in op.items() if name != "op"}, left, top)


def flow(sizes: Iterable[tuple[float, float]], room: float) -> tuple[list[tuple[float, float]], float]:
    """Where panels of these sizes stand, in lines of `room`, and how high they are together. One that would begin a line stands below the
    last one instead, if that is as wide and the line high enough. The browser's `flowPanels` does the same."""
    x = y = line = below = last = 0.0
    places = []
    for width, height in sizes:
        if x > 0 and x + width > room + 0.5:
            if width == last and below + height <= y + line:
                places.append((x - GAP - width, below))
                below += height + GAP
                continue
            x, y, line = 0.0, y + line + GAP, 0.0
        places.append((x, y))
        x, line, below, last = x + width + GAP, max(line, height), y + height + GAP, width
    return places, y + line


def ramp(name: str, colours: dict) -> np.ndarray:
    """The 256 colours of a ramp, u1 [256, 3]; the browser's `rampOf` makes the same."""
    if name == "signed":
        shades = [mix(colours["low" if i < 128 else "high"], colours["paper"], min(1.0, abs(i - 128) / 127) ** 0.75) for i in range(256)]
    else:
        shades = [mix(colours["loss"], colours["paper"], (i / 255) ** 0.9) for i in range(256)]
    return np.array([[int(shade[k : k + 2], 16) for k in (1, 3, 5)] for shade in shades], "u1")


def _colours(pen: Pen, how: dict) -> dict:
    return {name: pen.colours[value] if name in ("fill", "edge", "colour") else value for name, value in how.items()}


def _shifted(pen: Pen, how: dict, left: float, top: float) -> dict:
    return _colours(pen, how) | {"x": how["x"] + left, "y": how["y"] + top}


def _rect(pen: Pen, sketch: Sketch, how: dict, left: float, top: float) -> None:
    how = _shifted(pen, how, left, top)
    radius = how.pop("radius", None)
    if radius:
        pen.box(radius=radius, **how)
    else:
        pen.rect(**how)


def _runs(pen: Pen, sketch: Sketch, how: dict, left: float, top: float) -> None:
    how = _shifted(pen, how, left, top)
    how["runs"] = [(text, _colours(pen, own)) for text, own in how["runs"]]
    pen.runs(**how)


def _points(name: str):
    def draw(pen: Pen, sketch: Sketch, how: dict, left: float, top: float) -> None:
        how = _colours(pen, how)
        places = np.asarray(how.pop(name), float)
        places[..., :2] += (left, top)
        if name == "pairs":
            pen.strokes([tuple(map(tuple, pair)) for pair in places.tolist()], **how)
        elif name == "boxes":
            pen.rects(places.tolist(), **how)
        elif "colour" in how:
            pen.line(places.tolist(), **how)
        else:
            pen.polygon(places.tolist(), **how)

    return draw


_DRAW = {
    "text": lambda pen, sketch, how, left, top: pen.text(**_shifted(pen, how, left, top)),
    "circle": lambda pen, sketch, how, left, top: pen.circle(**_shifted(pen, how, left, top)),
    "image": lambda pen, sketch, how, left, top: pen.image(
        ramp(how["ramp"], pen.colours)[sketch.images[how["image"]]], how["x"] + left, how["y"] + top, how["w"], how["h"]
    ),
    "rect": _rect,
    "runs": _runs,
    "rects": _points("boxes"),
    "strokes": _points("pairs"),
    "polygon": _points("points"),
    "line": _points("points"),
}
