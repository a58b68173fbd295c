"""`RaceStill`: panels of the batch timeline one above the other, on one clock and one scale."""
from __future__ import annotations

from dataclasses import dataclass

from labkit.views.lanes import STALLED, Lane
from labkit.views.measures import Measures, median
from labkit.views.pen import Pen, text_width
from labkit.views.picture import EDGE, WIDTH, Picture, banner
from labkit.views.race_scene import LEGEND, Panel, Words
from labkit.views.still_lanes import DOWN, UP, Scale, done, nice_end, rows, strip, strip_scale
from labkit.views.words import duration, percent, thousands

X0, X1, RIGHT = 62, 862, 884
TOP = 84  # of the first panel
LEAST = 176  # height that a panel's read-outs take
AROUND = 20 + 8 + UP + DOWN + 12  # height of a panel beside its rows


@dataclass(slots=True)
class Shape:
    """Pixels: `pitch` of a row, `height` of a panel."""

    rows: int
    pitch: float
    height: float

    @classmethod
    def of(cls, panels: int, rows: int) -> Shape:
        rows = max(1, rows)
        pitch = min(12.0, max(1100 / (rows * panels), 4.0 if rows <= 100 else 400 / rows))
        if rows * pitch < LEAST - AROUND:
            pitch = min(16.0, (LEAST - AROUND) / rows)
        return cls(rows, pitch, max(LEAST, rows * pitch + AROUND))


class RaceStill(Picture):
    """`rows[i]` are the requests of panel i from top to bottom; None where it never saw the request of that row."""

    def __init__(self, panels: list[Panel], lanes: list[list[Lane | None]], measures: list[Measures], words: Words, theme: str = "light"):
        shape = Shape.of(len(panels), max(map(len, lanes)))
        bottom = TOP + len(panels) * shape.height
        super().__init__(bottom + 66, words.alt, theme)
        pen, c = self.pen, self.pen.colours
        end = nice_end(max(max(p.now for p in panels), *(m.until for m in measures), 0.0))
        scale = Scale(X0, X1, 0.0, end, *strip_scale(panels))
        runs = [part for number, text in words.about for part in ((number, {"weight": 600, "fill": c["ink"], "dx": 12}), (f" {text}", {}))]
        banner(pen, words.title, runs if len(words.about) > 1 else [(words.about[0][1], {})], words.badge)
        _legend(pen, panels)
        pen.text("read-outs", RIGHT, 66, size=11.5, fill=c["muted"])
        pen.text(f"median of n = {max(len(m.ttft) for m in measures)}", WIDTH - EDGE, 66, size=11, fill=c["muted"], align="right")
        limits = Limits.of(measures)
        for i, panel in enumerate(panels):
            y = TOP + i * shape.height
            _panel(pen, panel, measures[i], scale, lanes[i], shape, y)
            readouts(pen, measures[i], limits, y)
            if i + 1 < len(panels):
                pen.rect(EDGE, y + shape.height - 8.5, WIDTH - 2 * EDGE, 1, fill=c["line"])
        _axis(pen, scale, bottom)
        for i, line in enumerate(wrap(words.footer, WIDTH - 2 * EDGE)[:2]):
            pen.text(line, EDGE, bottom + 36 + 15 * i, size=10.5, fill=c["muted"])


def _panel(pen: Pen, panel: Panel, m: Measures, scale: Scale, lanes: list[Lane | None], shape: Shape, y: float) -> None:
    c, top = pen.colours, y + 20
    strip_y = top + shape.rows * shape.pitch + 8 + UP
    pen.runs([(panel.name, {"weight": 600, "size": 13}), (panel.rule, {"fill": c["ink2"], "dx": 10})], X0, y + 10)
    for t in ticks(scale):
        pen.rect(scale.at(t) - 0.5, top - 2, 1, strip_y + DOWN - top + 2, fill=c["line"])
    if not any(lanes):
        pen.text("nothing yet: send a request", X0 + 12, top + 24, fill=c["muted"])
    rows(pen, panel, scale, lanes, top, shape.pitch)
    strip(pen, panel, scale, strip_y)
    if m.makespan is not None and panel.over:
        done(pen, scale, m.makespan + panel.lanes.origin - panel.start, top - 2, top + shape.rows * shape.pitch + 4)


def ticks(scale: Scale, most: int = 9) -> list[float]:
    span = scale.end - scale.begin
    power = 10.0
    while power > span / most:
        power /= 10
    step = next(k * power for k in (1, 2, 5, 10) if k * power >= span / most * 0.999)
    first = -(-scale.begin // step)
    return [step * k for k in range(int(first), int(scale.end / step + 1e-6) + 1)]


def _axis(pen: Pen, scale: Scale, y: float) -> None:
    marks = ticks(scale)
    unit = duration(scale.end)[1]
    factor, digits = {"ms": 1e3, "s": 1, "min": 1 / 60}[unit], 1 if marks[1] * {"ms": 1e3, "s": 1, "min": 1 / 60}[unit] % 1 else 0
    for t in marks:
        number = thousands(t * factor) if not digits else f"{t * factor:.1f}"
        pen.text(f"{number} {unit}" if t == marks[-1] else number, scale.at(t), y + 8, size=10.5, fill=pen.colours["muted"], align="center")


def _legend(pen: Pen, panels: list[Panel]) -> None:
    c, kinds = pen.colours, {s.kind for p in panels for s in p.lanes.segments}
    x, y = X0, 56
    for kind, words in LEGEND:
        if kind == "stalled" and STALLED not in kinds:
            continue
        middle, w = y + 6, 24
        if kind == "queued":
            pen.strokes([((x, middle), (x + w, middle))], c["muted"], 1.6, (1.5, 3))
        elif kind == "stalled":
            pen.strokes([((x, middle), (x + w, middle))], c["edge"], 1)
        elif kind == "prefill":
            pen.rect(x + 0.5, y + 1, w - 1, 10, fill=c["prefill"], edge=c["prefillEdge"])
        elif kind == "decode":
            pen.rect(x, y + 3, w, 6, fill=c["decode"])
        elif kind == "padding":
            pen.hatches([(x, y + 3, w, 6)], c["edge"])
            pen.rect(x, y + 3, w, 6, edge=c["edge"], width=0.7)
        elif kind == "preempted":
            pen.strokes([((x + 4, middle), (x + 17, middle))], c["alert"], 1.8, (4, 3))
            pen.strokes([((x, middle - 3.5), (x + 7, middle + 3.5)), ((x, middle + 3.5), (x + 7, middle - 3.5))], c["alert"], 2.2)
            pen.rect(x + 17, y + 1, 8, 10, fill=c["prefill"], edge=c["alert"], width=1.5)
        else:
            x -= 16
            pen.rect(x + 20, y + 1, 3.4, 10, fill=c["ink"])
        x += 30 + pen.text(words, x + 30, 66, size=11.5, fill=c["ink2"]) + 14


@dataclass(slots=True)
class Limits:
    """Ends of the scales that the read-outs of all panels share."""

    ttft: float
    tpot: float
    throughput: float

    @classmethod
    def of(cls, measures: list[Measures]) -> Limits:
        return cls(max([*(t for m in measures for t in m.ttft), 1e-9]), 1.05 * max([*(t for m in measures for t in m.tpot), 1e-9]),
                   max([*(m.throughput for m in measures), 1e-9]))


def readouts(pen: Pen, m: Measures, limits: Limits, y: float) -> None:
    c, right = pen.colours, WIDTH - EDGE
    _dots(pen, "TTFT", m.ttft, limits.ttft, y + 32, "prefill")
    _dots(pen, "TPOT", m.tpot, limits.tpot, y + 72, "decode")
    for label, number, unit, share, at in (("throughput", thousands(m.throughput), "tokens/s", m.throughput / limits.throughput, y + 112),
                                           ("padding", percent(m.padding).split()[0], "% of step time", m.padding, y + 146)):
        pen.text(label, RIGHT, at, fill=c["ink2"])
        pen.runs([(number, {"weight": 600, "size": 16}), (f" {unit}", {"fill": c["ink2"]})], right, at, align="right")
        if label == "throughput":
            pen.rect(RIGHT, at + 8, (right - RIGHT) * share, 5, fill=c["ink2"])
        else:
            pen.hatches([(RIGHT, at + 8, (right - RIGHT) * share, 5)] if share else [], c["edge"])
            pen.rect(RIGHT, at + 8, (right - RIGHT) * share, 5, edge=c["edge"], width=0.7)
            pen.rect(RIGHT + 0.5, at + 8, right - RIGHT - 1, 5, edge=c["edge"], width=0.7)


def _dots(pen: Pen, label: str, values: list[float], limit: float, y: float, phase: str) -> None:
    c, right, middle, line = pen.colours, WIDTH - EDGE, median(values), y + 14
    pen.text(label, RIGHT, y, fill=c["ink2"])
    number, unit = duration(middle) if middle is not None else ("–", "")
    pen.runs([(number, {"weight": 600, "size": 16}), (f" {unit}", {"fill": c["ink2"]})], right, y, align="right")
    pen.rect(RIGHT, line - 0.4, right - RIGHT, 0.8, fill=c["edge"])
    r, alpha = (3.6, 0.75) if len(values) <= 60 else (2.4, 0.5)
    for value in values:
        x = RIGHT + 4 + (right - RIGHT - 8) * value / limit
        if phase == "prefill":
            pen.circle(x, line, r, fill=c[phase], edge=c["prefillEdge"]).set_alpha(alpha)
        else:
            pen.rect(x - 0.83 * r, line - 0.83 * r, 1.67 * r, 1.67 * r, fill=c[phase], edge=c["decodeEdge"], alpha=alpha)
    if middle is not None:
        pen.rect(RIGHT + 3 + (right - RIGHT - 8) * middle / limit, line - 8, 2, 16, fill=c["ink"])


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
