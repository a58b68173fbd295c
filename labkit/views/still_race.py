"""`RaceStill`: panels of the batch timeline one above the other, on one clock and one scale."""
from __future__ import annotations

from dataclasses import dataclass

from labkit.views.lane import Lane
from labkit.views.measures import Measures, median
from labkit.views.pen import Pen, wrap
from labkit.views.picture import EDGE, WIDTH, Picture, banner
from labkit.views.race_scene import Panel, Words, counters, race_alt
from labkit.views.still_axis import RIGHT, X0, Scale, axis, grid, moment, nice_end
from labkit.views.still_bars import DOWN, UP, strip, strip_scale
from labkit.views.still_rows import done, legend, rows
from labkit.views.words import duration, percent, thousands

TOP = 84  # of the first panel
LEAST = 180  # height that a panel's read-outs take
AROUND = 20 + 8 + UP + DOWN + 12  # height of a panel beside its rows
PITCH, HIGHEST, ALL = 12.0, 420.0, 1100.0  # heights of a row, of the rows of a panel, and of the rows of all panels, at most


@dataclass(slots=True)
class Shape:
    """Pixels: the rows of a panel are `high` together, `pitch` each; `height` is the whole panel's."""

    high: float
    pitch: float

    @classmethod
    def of(cls, panels: int, rows: int) -> Shape:
        high = max(min(PITCH * max(1, rows), HIGHEST, ALL / panels), LEAST - AROUND)
        return cls(high, min(16.0, high / max(1, rows)))

    @property
    def height(self) -> float:
        return self.high + AROUND


class RaceStill(Picture):
    """Panels at `now` seconds of their clock. names: the requests of their rows, from top to bottom."""

    def __init__(self, panels: list[Panel], names: list[str], measures: list[Measures], words: Words, now: float, theme: str = "light"):
        lanes = [[panel.lanes.lanes.get(name) for name in names] for panel in panels]
        shape = Shape.of(len(panels), len(names))
        bottom = TOP + len(panels) * shape.height
        lines = wrap(words.footer, WIDTH - 2 * EDGE)
        super().__init__(bottom + 22 + 15 * len(lines) + 10, race_alt(words, panels, measures), theme)
        pen, c, last = self.pen, self.pen.colours, max(panel.now for panel in panels)
        scale, full = Scale(0.0, nice_end(last)), strip_scale(panels)
        head(pen, words, panels, measures)
        limits, shown = Limits.of(panels), now if now < last - 1e-9 else None
        for i, panel in enumerate(panels):
            y = TOP + i * shape.height
            _panel(pen, panel, measures[i], scale, full, lanes[i], shape, y)
            moment(pen, scale, shown, y + 16, y + 20 + shape.high + 8 + UP + DOWN)
            readouts(pen, measures[i], limits, y)
            if i + 1 < len(panels):
                pen.rect(EDGE, y + shape.height - 8.5, WIDTH - 2 * EDGE, 1, fill=c["line"])
        axis(pen, scale, bottom - 2, shown)
        for i, line in enumerate(lines):
            pen.text(line, EDGE, bottom + 32 + 15 * i, size=10.5, fill=c["muted"])


def head(pen: Pen, words: Words, panels: list[Panel], measures: list[Measures]) -> None:
    c, runs = pen.colours, [(words.about, {})]
    if not words.about:
        parts = ((number, f" {text}", 14 if i else 0) for i, (number, text) in enumerate(counters(measures[0])))
        runs = [run for number, text, dx in parts for run in ((number, {"weight": 600, "fill": c["ink"], "dx": dx}), (text, {}))]
    banner(pen, words.title, runs, words.badge)
    legend(pen, panels, 56)
    counts = [len(m.ttft) for m in measures]
    same = f"median of n = {thousands(counts[0])}" if len(set(counts)) == 1 else f"medians, n = {', '.join(map(thousands, counts))}"
    pen.text("read-outs", RIGHT, 66, size=11.5, fill=c["muted"])
    pen.text(pen.fitting([same, "medians"], WIDTH - EDGE - RIGHT - 66, 11), WIDTH - EDGE, 66, size=11, fill=c["muted"], align="right")


def _panel(pen: Pen, panel: Panel, m: Measures, scale: Scale, full: tuple[float, float], lanes: list[Lane | None], shape: Shape,
           y: float) -> None:
    c, top = pen.colours, y + 20
    line = top + shape.high + 8 + UP
    pen.runs([(panel.name, {"weight": 600, "size": 13}), (panel.rule, {"fill": c["ink2"], "dx": 10})], X0, y + 10)
    grid(pen, scale, top - 2, line + DOWN)
    if not any(lanes):
        pen.text("nothing yet: send a request", X0 + 12, top + 24, fill=c["muted"])
    rows(pen, panel, scale, lanes, top, shape.pitch)
    strip(pen, panel, scale, full, line)
    if panel.over and m.makespan is not None:
        done(pen, scale, m.makespan, top - 2, line - UP - 4)


@dataclass(slots=True)
class Limits:
    """Ends of the scales that the read-outs of all panels share: they hold whatever moment is shown."""

    ttft: float
    tpot: float
    throughput: float

    @classmethod
    def of(cls, panels: list[Panel]) -> Limits:
        lanes = [lane for panel in panels for lane in panel.lanes.lanes.values()]
        rates = (sum(lane.outputs for lane in p.lanes.lanes.values()) / p.now for p in panels if p.now)
        return cls(max((lane.ttft for lane in lanes if lane.ttft is not None), default=1.0),
                   1.05 * max((lane.tpot for lane in lanes if lane.tpot is not None), default=1.0), max(rates, default=1.0))


def readouts(pen: Pen, m: Measures, limits: Limits, y: float) -> None:
    c, right = pen.colours, WIDTH - EDGE
    wide = right - RIGHT
    _dots(pen, "TTFT", m.ttft, limits.ttft, y + 32, "prefill")
    _dots(pen, "TPOT", m.tpot, limits.tpot, y + 72, "decode")
    _number(pen, "throughput", thousands(m.throughput), "tokens/s", y + 116)
    pen.rect(RIGHT, y + 124, wide * min(1.0, m.throughput / limits.throughput), 5, fill=c["ink2"])
    _number(pen, "padding", percent(m.padding).split()[0], "% of step time", y + 150)
    pen.hatches([(RIGHT, y + 158, wide * m.padding, 5)] if m.padding else [], c["edge"])
    pen.rect(RIGHT, y + 158, wide * m.padding, 5, edge=c["edge"], width=0.7)
    pen.rect(RIGHT + 0.5, y + 158, wide - 1, 5, edge=c["edge"], width=0.7)


def _number(pen: Pen, label: str, number: str, unit: str, y: float) -> None:
    pen.text(label, RIGHT, y, fill=pen.colours["ink2"])
    pen.runs([(number, {"weight": 600, "size": 16}), (f" {unit}", {"fill": pen.colours["ink2"]})], WIDTH - EDGE, y, align="right")


def _dots(pen: Pen, label: str, values: list[float], limit: float, y: float, phase: str) -> None:
    c, wide, middle, line = pen.colours, WIDTH - EDGE - RIGHT, median(values), y + 14
    _number(pen, label, *(duration(middle) if middle is not None else ("–", "")), y)
    pen.rect(RIGHT, line - 0.4, wide, 0.8, fill=c["edge"])
    r, alpha = (3.6, 0.75) if len(values) <= 60 else (2.4, 0.5)
    for value in values:
        x = RIGHT + 4 + (wide - 8) * min(1.0, value / limit)
        if phase == "prefill":
            pen.circle(x, line, r, fill=c[phase], edge=c["prefillEdge"], alpha=alpha)
        else:
            pen.rect(x - 0.83 * r, line - 0.83 * r, 1.67 * r, 1.67 * r, fill=c[phase], edge=c["decodeEdge"], alpha=alpha)
    if middle is not None:
        pen.rect(RIGHT + 3 + (wide - 8) * min(1.0, middle / limit), line - 8, 2, 16, fill=c["ink"])
