"""The time axis of still figures: scale, grid, ticks, the moment that is shown."""
from __future__ import annotations

import math
from dataclasses import dataclass

from labkit.views.pen import Pen, text_width
from labkit.views.words import duration, spoken, thousands

X0, X1, RIGHT = 62, 862, 884  # the axis, and the column of numbers beside it
UNITS = {"ms": 1e3, "s": 1.0, "min": 1 / 60}


@dataclass(slots=True)
class Scale:
    """Pixels of the time axis from `begin` to `end`, in seconds."""

    begin: float
    end: float

    def at(self, t: float) -> float:
        return X0 + (X1 - X0) * (t - self.begin) / (self.end - self.begin)

    def clip(self, t0: float, t1: float) -> tuple[float, float] | None:
        """Pixels of a stretch of time, cut to the axis; None outside."""
        return None if t1 < self.begin or t0 > self.end else (self.at(max(t0, self.begin)), self.at(min(t1, self.end)))

    def ticks(self, most: int = 9) -> list[float]:
        raw = (self.end - self.begin) / most
        power = 10.0 ** math.floor(math.log10(raw))
        step = next(k * power for k in (1, 2, 5, 10) if k * power >= raw * 0.999)
        return [step * k for k in range(math.ceil(self.begin / step - 1e-6), math.floor(self.end / step + 1e-6) + 1)]


def nice_end(seconds: float) -> float:
    """The end of an axis that shows this much: two digits, rounded up; a second at least if nothing has happened."""
    if seconds <= 0:
        return 1.0
    step = 10.0 ** (math.floor(math.log10(seconds)) - 1)
    return math.ceil(seconds / step - 1e-9) * step


def grid(pen: Pen, scale: Scale, top: float, bottom: float) -> None:
    for t in scale.ticks():
        pen.rect(scale.at(t) - 0.5, top, 1, bottom - top, fill=pen.colours["line"])


def axis(pen: Pen, scale: Scale, y: float, now: float | None) -> None:
    """Ticks below the panels, and the pill of the moment that is shown; None: the end, which needs none."""
    c, marks = pen.colours, scale.ticks()
    unit = duration(scale.end)[1] if scale.end < 3 or scale.end >= 600 else "s"
    step = (marks[1] - marks[0]) * UNITS[unit]
    half = text_width(spoken(now), 10.5, 600) / 2 + 8 if now is not None else 0
    for t in marks:
        number = thousands(t * UNITS[unit]) if step >= 1 else f"{t * UNITS[unit]:.{max(1, math.ceil(-math.log10(step) - 1e-9))}f}"
        words = f"{number} {unit}" if t == marks[-1] else number
        if now is None or abs(scale.at(t) - scale.at(now)) > half + text_width(words, 10.5) / 2 + 4:
            pen.text(words, scale.at(t), y + 8, size=10.5, fill=c["muted"], align="center")
    if now is not None:
        x = scale.at(now)
        pen.box(x - half, y - 4, 2 * half, 16, 8, fill=c["ink"])
        pen.text(spoken(now), x, y + 8, size=10.5, weight=600, fill=c["paper"], align="center")


def moment(pen: Pen, scale: Scale, now: float | None, top: float, bottom: float) -> None:
    """What comes after the moment that is shown is washed out."""
    if now is not None:
        x = scale.at(now)
        pen.rect(x, top, X1 - x, bottom - top, fill=pen.colours["paper"], alpha=0.62)
        pen.strokes([((x, top), (x, bottom))], pen.colours["ink"], 1, (1.5, 2.5))
