"""`RooflineStill`: measured steps under the ceilings of the machine that ran them."""
from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from labkit.planning import Ceilings, Work, bound, mbu, mfu
from labkit.views.pen import Pen, font, text_width
from labkit.views.picture import EDGE, WIDTH, Picture, banner
from labkit.views.words import percent, spoken

LEFT, RIGHT, TOP, BOTTOM = 84, 800, 92, 470  # of the plot, in pixels
SIDE = 832
FOOTER = ("Dotted: up to the bound, the shortest time that the ceilings allow. FLOPs and bytes are the least that a step needs; "
          "a ceiling is the best of many tries.",
          "MBU = (weights + KV) / time / bandwidth. MFU = FLOPs / time / arithmetic. Both against the measured ceilings.")


@dataclass(slots=True, frozen=True)
class Point:
    """A kind of step and how long it took. `phase` is "prefill" or "decode"; `label` stands beside its mark."""

    phase: str
    label: str
    work: Work
    seconds: float

    @property
    def flops(self) -> float:
        """Achieved, per second."""
        return self.work.flops / self.seconds


class RooflineStill(Picture):
    """Achieved FLOP/s over FLOPs per byte, both logarithmic. `about` says what ran; `captions` names the two series of points."""

    def __init__(self, ceilings: Ceilings, points: Sequence[Point], about: str, badge: tuple[str, str], *, dtype: str = "float32",
                 captions: tuple[str, str] = ("prefill, tokens", "decode, batch"), theme: str = "light"):
        super().__init__(BOTTOM + 92, alternative(ceilings, points, about, badge, dtype), theme)
        pen, c = self.pen, self.pen.colours
        banner(pen, "Roofline", [(about, {})], badge)
        weights = points[0].work.weights
        scale = Scale.of(points, ceilings.flops(dtype))
        _grid(pen, scale)
        _roofs(pen, scale, ceilings, weights, dtype)
        for point in points:
            _drop(pen, scale, point, bound(point.work, ceilings, dtype).seconds)
        for phase, caption in zip(("prefill", "decode"), captions, strict=True):
            _series(pen, scale, [p for p in points if p.phase == phase], phase, caption)
        _side(pen, ceilings, points, dtype)
        for i, line in enumerate(FOOTER):
            pen.text(line, EDGE, BOTTOM + 66 + 15 * i, size=10.5, fill=c["muted"])


@dataclass(slots=True, frozen=True)
class Scale:
    """Decades that the axes span, and where values stand."""

    x0: float
    x1: float
    y0: float
    y1: float

    @classmethod
    def of(cls, points: Sequence[Point], ceiling: float) -> Scale:
        xs, ys = [p.work.intensity for p in points], [p.flops for p in points]
        return cls(math.log10(min(xs) / 2.5), math.log10(max(xs) * 3), math.log10(min(ys) / 3), math.log10(max(ceiling, *ys) * 2.2))

    def x(self, intensity: float) -> float:
        return LEFT + (RIGHT - LEFT) * (math.log10(intensity) - self.x0) / (self.x1 - self.x0)

    def y(self, flops: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * (math.log10(flops) - self.y0) / (self.y1 - self.y0)

    def decades(self, begin: float, end: float) -> list[float]:
        return [10.0**k for k in range(math.ceil(begin), math.floor(end) + 1)]


def si(value: float, unit: str) -> str:
    """12 GFLOP/s, 340 MB/s: three digits at most."""
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= 0.9995 * factor:
            return f"{value / factor:.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}"


def _grid(pen: Pen, scale: Scale) -> None:
    c = pen.colours
    for x in scale.decades(scale.x0, scale.x1):
        pen.rect(scale.x(x) - 0.5, TOP, 1, BOTTOM - TOP, fill=c["line"])
        pen.text(f"{x:g}", scale.x(x), BOTTOM + 16, size=10.5, fill=c["muted"], align="center")
    for y in scale.decades(scale.y0, scale.y1):
        pen.rect(LEFT, scale.y(y) - 0.5, RIGHT - LEFT, 1, fill=c["line"])
        pen.text(si(y, "FLOP/s"), LEFT - 8, scale.y(y) + 4, size=10.5, fill=c["muted"], align="right")
    pen.rect(LEFT, BOTTOM - 0.5, RIGHT - LEFT, 1, fill=c["edge"])
    pen.text("FLOPs for each byte that a step moves", (LEFT + RIGHT) / 2, BOTTOM + 34, size=11, fill=c["ink2"], align="center")
    pen.text("achieved", EDGE, TOP - 12, size=11, fill=c["ink2"])


def _roofs(pen: Pen, scale: Scale, ceilings: Ceilings, weights: int, dtype: str) -> None:
    c, flat = pen.colours, ceilings.flops(dtype)
    applies = ceilings.bandwidth(weights)
    lines = {"memory": ceilings.read.best, "last cache": ceilings.cached_read.best}
    frame = pen.rect(LEFT, TOP, RIGHT - LEFT, BOTTOM - TOP)
    for name, rate in lines.items():
        strong = rate == applies
        if not strong and rate < applies * 1.15 and name == "last cache":
            continue
        ridge = flat / rate
        left, right = 10**scale.x0, min(ridge, 10**scale.x1)
        ends = [(scale.x(left), scale.y(left * rate)), (scale.x(right), scale.y(right * rate))]
        pen.line(ends, c["ink"] if strong else c["edge"], 2 if strong else 1.25, None if strong else (4, 3)).set_clip_path(frame)
        _along(pen, scale, ends, f"{name} {si(rate, 'B/s')}", strong)
        if strong:
            pen.line([(scale.x(min(ridge, 10**scale.x1)), scale.y(flat)), (RIGHT, scale.y(flat))], c["ink"], 2)
            words = f"{dtype} {si(flat, 'FLOP/s')}"
            pen.text(words, RIGHT - 4, scale.y(flat) - 7, size=11.5, weight=600, align="right")


def _along(pen: Pen, scale: Scale, ends: list[tuple[float, float]], words: str, strong: bool) -> None:
    """A roof's name beside its visible part, turned as the roof is."""
    (xa, ya), (xb, yb) = ends
    slope = (yb - ya) / (xb - xa)
    if ya > BOTTOM:
        xa, ya = xa + (BOTTOM - ya) / slope, BOTTOM
    length = math.hypot(xb - xa, yb - ya)
    if length < text_width(words, 11.5) + 20:
        return
    at = 12 / length
    x, y = xa + (xb - xa) * at, ya + (yb - ya) * at
    angle = math.degrees(math.atan2(ya - yb, xb - xa))
    off = math.radians(angle + 90)
    pen.axes.text(x + 7 * math.cos(off), y - 7 * math.sin(off), words, rotation=angle, rotation_mode="anchor", va="baseline", ha="left",
                  fontproperties=font(11.5, 600 if strong else 400, False), color=pen.colours["ink" if strong else "muted"])


def _drop(pen: Pen, scale: Scale, point: Point, least: float) -> None:
    """From a point up to the roof above it: what is left."""
    x = scale.x(point.work.intensity)
    pen.line([(x, scale.y(point.flops)), (x, scale.y(point.work.flops / least))], pen.colours["edge"], 1, (1.5, 3))


def _series(pen: Pen, scale: Scale, points: list[Point], phase: str, caption: str) -> None:
    c = pen.colours
    if not points:
        return
    ends = [(scale.x(p.work.intensity), scale.y(p.flops)) for p in points]
    for point, (x, y) in zip(points, ends, strict=True):
        if phase == "prefill":
            pen.circle(x, y, 5, fill=c["prefill"], edge=c["prefillEdge"], width=1.25)
        else:
            pen.rect(x - 4.2, y - 4.2, 8.4, 8.4, fill=c["decode"], edge=c["decodeEdge"], width=1.25)
        if phase == "prefill":  # right above; a decode's stands below, so that the two do not meet where the series cross
            pen.text(point.label, x + 7, y - 7, size=11, fill=c["ink2"])
        else:
            pen.text(point.label, x, y + 19, size=11, fill=c["ink2"], align="center")
    x, y = ends[-1] if phase == "prefill" else (ends[0][0], ends[0][1] + 14)
    pen.text(caption, x, y + 21, size=11.5, weight=600, fill=c[f"{phase}Edge"], align="center" if phase == "prefill" else "left")


def _side(pen: Pen, ceilings: Ceilings, points: Sequence[Point], dtype: str) -> None:
    c, right, y = pen.colours, WIDTH - EDGE, TOP
    where = ceilings.device if not ceilings.threads else f"{ceilings.threads} thread{'' if ceilings.threads == 1 else 's'}"
    pen.text("ceilings", SIDE, y, size=12.5, weight=600)
    pen.text(where, right, y, size=11, fill=c["muted"], align="right")
    rows = [("read from memory", si(ceilings.read.best, "B/s")),
            (f"read {ceilings.working_set / 1e6:.3g} MB again and again", si(ceilings.cached_read.best, "B/s")),
            (f"matrix product, {dtype}", si(ceilings.flops(dtype), "FLOP/s"))]
    for name, value in rows:
        y += 21
        pen.text(name, SIDE, y, size=11.5, fill=c["ink2"])
        pen.text(value, right, y, size=11.5, weight=600, align="right")
    y += 36
    pen.text("achieved", SIDE, y, size=12.5, weight=600)
    for name, at in (("step", right - 104), ("MBU", right - 50), ("MFU", right)):
        pen.text(name, at, y, size=11, fill=c["muted"], align="right")
    for point in points:
        y += 20
        pen.text(f"{point.phase} {point.label}", SIDE, y, size=11.5, fill=c["ink2"])
        pen.text(spoken(point.seconds), right - 104, y, size=11.5, align="right")
        pen.text(percent(mbu(point.work, point.seconds, ceilings)), right - 50, y, size=11.5, weight=600, align="right")
        pen.text(percent(mfu(point.work, point.seconds, ceilings, dtype)), right, y, size=11.5, weight=600, align="right")


def alternative(ceilings: Ceilings, points: Sequence[Point], about: str, badge: tuple[str, str], dtype: str) -> str:
    said = [f"{p.phase} {p.label}: {si(p.flops, 'FLOP/s')} at {p.work.intensity:.3g} FLOPs a byte, "
            f"MBU {percent(mbu(p.work, p.seconds, ceilings))}, MFU {percent(mfu(p.work, p.seconds, ceilings, dtype))}" for p in points]
    return (f"Roofline, {badge[0]}, {badge[1]}: {about}. Ceilings: {si(ceilings.read.best, 'B/s')} from memory, "
            f"{si(ceilings.cached_read.best, 'B/s')} from the cache, {si(ceilings.flops(dtype), 'FLOP/s')}. {'; '.join(said)}.")
