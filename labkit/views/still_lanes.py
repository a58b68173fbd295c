"""One panel of a still batch timeline: the rows of requests and, below, what each step computed. The encodings of canvas/rows.js."""
from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

import numpy as np

from labkit.views.lanes import DECODE, PADDING, PREEMPTED, PREFILL, QUEUED, RECOMPUTE, STALLED, Lane, Lanes
from labkit.views.measures import column
from labkit.views.pen import Pen, text_width
from labkit.views.race_scene import Panel, budget_of
from labkit.views.words import spoken, thousands

UP, DOWN = 24, 16  # pixels of the strip for tokens of prefill and for requests in decode
BARS = ("prefill", "recompute", "padded", "decode", "held")


@dataclass(slots=True)
class Scale:
    """Pixels of the time axis, and what the strips of all panels share."""

    x0: float
    x1: float
    begin: float  # seconds
    end: float
    up: float  # tokens that fill the upper strip
    down: float

    def at(self, t: float) -> float:
        return self.x0 + (self.x1 - self.x0) * (t - self.begin) / (self.end - self.begin)

    def clip(self, t0: float, t1: float) -> tuple[float, float] | None:
        """Pixels of a stretch of time, cut to the axis; None outside."""
        return None if t1 < self.begin or t0 > self.end else (self.at(max(t0, self.begin)), self.at(min(t1, self.end)))


def strip_scale(panels: list[Panel]) -> tuple[float, float]:
    """Tokens and requests at the ends of the strips: all steps fit, but for prompts that tower above every other panel and budget."""
    peaks, slots = [], [1.0]
    for panel in panels:
        columns = {name: np.asarray(panel.lanes.columns[name], float) for name in BARS}
        up, down = columns["prefill"] + columns["recompute"] + columns["padded"], columns["decode"] + columns["held"]
        peaks += [up.max()] if up.size and up.max() else []
        slots += [down.max()] if down.size else []
    most = 2 * max([min(peaks, default=0.0), *(float(budget_of(panel.lanes.header)) for panel in panels)])
    return max(1.0, min(max(peaks, default=1.0), most or 1.0)), max(slots)


def nice_end(seconds: float) -> float:
    """The end of an axis that shows this much: two digits, rounded up."""
    if seconds <= 0:
        return 1.0
    step = 10 ** (np.floor(np.log10(seconds)) - 1)
    return float(np.ceil(seconds / step - 1e-9) * step)


def rows(pen: Pen, panel: Panel, scale: Scale, lanes: list[Lane | None], y: float, pitch: float) -> None:
    """`lanes` from top to bottom; None leaves a row empty."""
    c = pen.colours
    every = max(1, int(np.ceil(11 / pitch)))
    boxes: dict[str, list] = {name: [] for name in ("queued", "prefill", "recompute", "decode", "padding", "stalled", "lost", "cross", "arrival")}
    caps: dict[str, list] = {"well": [], "ill": []}
    for row, lane in enumerate(lanes):
        top = y + row * pitch
        if lane is None:
            continue
        if row % every == 0:
            pen.text(lane.letter, scale.x0 - 10, top + pitch / 2 + 4, size=10.5, weight=600, fill=c["ink2"], align="right")
        _row(panel, scale, lane, top, pitch, boxes)
        if lane.finished is not None and (ends := scale.clip(lane.finished - panel.start, lane.finished - panel.start)):
            caps["well" if lane.well else "ill"].append((ends[0] - 1.5, top + pitch / 12, 3.4, pitch * 10 / 12))
    pen.strokes(boxes["arrival"], c["muted"], 1.2)
    pen.strokes(boxes["queued"], c["muted"], 1.6, (1.5, 3))
    pen.strokes(boxes["stalled"], c["edge"], 1)
    pen.hatches(boxes["padding"], c["edge"])
    pen.rects(boxes["padding"], edge=c["edge"], width=0.7)
    pen.rects(boxes["decode"], fill=c["decode"])
    thin = 1 if pitch >= 5 else 0.5
    pen.rects(boxes["prefill"], fill=c["prefill"], edge=c["prefillEdge"], width=thin)
    pen.rects(boxes["recompute"], fill=c["prefill"], edge=c["alert"], width=1.5 * thin)
    pen.strokes(boxes["lost"], c["alert"], 1.8, (4, 3))
    pen.strokes(boxes["cross"], c["alert"], 2.2)
    pen.rects(caps["well"], fill=c["ink"])
    pen.rects(caps["ill"], fill=c["paper"], edge=c["alert"], width=1.5)


def _row(panel: Panel, scale: Scale, lane: Lane, top: float, pitch: float, boxes: dict[str, list]) -> None:
    middle, inset, low = top + pitch / 2, pitch / 12, pitch / 4
    if arrival := scale.clip(lane.arrival - panel.start, lane.arrival - panel.start):
        boxes["arrival"].append(((arrival[0], top + pitch / 6), (arrival[0], top + pitch * 5 / 6)))
    for s in lane.segments:
        ends = scale.clip(s.t0 - panel.start, (max(panel.lanes.now, s.t0) if s.open else s.t1) - panel.start)
        if ends is None:
            continue
        x, x1 = ends
        if s.kind in (QUEUED, STALLED):
            boxes["queued" if s.kind == QUEUED else "stalled"].append(((x, middle), (x1, middle)))
        elif s.kind in (PREFILL, RECOMPUTE):
            name = "prefill" if s.kind == PREFILL else "recompute"
            boxes[name].append((x + 0.5, top + inset, max(1.2, x1 - x - 0.8), pitch - 2 * inset))
        elif s.kind == DECODE:
            boxes["decode"].append((x, top + low, x1 - x, pitch - 2 * low))
        elif s.kind == PADDING:
            boxes["padding"].append((x, top + low, x1 - x, pitch - 2 * low))
        elif s.kind == PREEMPTED:
            boxes["lost"].append(((x, middle), (x1, middle)))
            d = min(3.5, pitch * 0.3)
            boxes["cross"] += [((x - d, middle - d), (x + d, middle + d)), ((x - d, middle + d), (x + d, middle - d))]


def bars_between(lanes: Lanes, zero: float, scale: Scale) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Where bars begin and end, in pixels, and how high they are, in tokens: a bar a step, or a pixel where there are more of them."""
    begin, end = bisect_left(lanes.ends, scale.begin + zero), bisect_left(lanes.starts, scale.end + zero)
    columns = {name: column(lanes, name, begin, end) for name in BARS}
    busy = np.flatnonzero(sum(columns.values()) > 0) if end > begin else np.zeros(0, int)
    at = (scale.x1 - scale.x0) / (scale.end - scale.begin)
    left = scale.x0 + at * (np.asarray(lanes.starts[begin:end])[busy] - zero - scale.begin)
    right = scale.x0 + at * (np.asarray(lanes.ends[begin:end])[busy] - zero - scale.begin)
    columns = {name: values[busy] for name, values in columns.items()}
    left, right = np.clip(left, scale.x0, scale.x1), np.clip(right, scale.x0, scale.x1)
    if len(busy) <= scale.x1 - scale.x0:
        return left, right, columns
    pixel = np.floor(left).astype(int)  # the mean of the steps that begin in a pixel
    groups, first, sizes = np.unique(pixel, return_index=True, return_counts=True)
    means = {name: np.add.reduceat(values, first) / sizes for name, values in columns.items()}
    return groups.astype(float), np.maximum(groups + 1.0, right[first + sizes - 1]), means


def strip(pen: Pen, panel: Panel, scale: Scale, y: float) -> None:
    """What steps computed: prefill tokens above the line at `y`, requests in decode below it."""
    c = pen.colours
    pen.rect(scale.x0, y - UP, scale.x1 - scale.x0, UP + DOWN, fill=c["panel"])
    left, right, columns = bars_between(panel.lanes, panel.start, scale)
    fresh, again, decode, tall, held, clipped = [], [], [], [], [], []
    for i, (x, x1) in enumerate(zip(left, right, strict=True)):
        w = max(0.8, x1 - x - 0.35)
        total = columns["prefill"][i] + columns["recompute"][i] + columns["padded"][i]
        if total:
            high = UP * min(1.0, total / scale.up)
            a, b = high * columns["prefill"][i] / total, high * (columns["prefill"][i] + columns["recompute"][i]) / total
            fresh.append((x, y - a, w, a))
            if b > a:
                again.append((x, y - b, w, b - a))
            if high > b + 0.01:
                tall.append((x, y - high, w, high - b))
            if total > 1.001 * scale.up and w > 2:
                clipped.append((x, x + w, total, columns["padded"][i]))
        down = DOWN * columns["decode"][i] / scale.down
        decode += [(x, y + 0.5, w, down)] if down else []
        held += [(x, y + 0.5 + down, w, DOWN * columns["held"][i] / scale.down)] if columns["held"][i] else []
    dense = len(left) > 0.4 * (scale.x1 - scale.x0)
    pen.hatches(tall + held, c["edge"])
    pen.rects(tall, edge=c["edge"], width=0.6)
    pen.rects(fresh, fill=c["prefill"], edge=None if dense else c["prefillEdge"], width=0.8)
    pen.rects(again, fill=c["prefill"], edge=c["alert"], width=1)
    pen.rects(decode, fill=c["decode"])
    pen.rect(scale.x0, y - 0.5, scale.x1 - scale.x0, 1, fill=c["ink2"])
    _labels(pen, clipped, scale, y)
    if 0 < (budget := budget_of(panel.lanes.header)) <= scale.up:
        high = y - UP * budget / scale.up
        pen.line([(scale.x0, high), (scale.x1, high)], c["prefillEdge"], dash=(4, 3))
        pen.text(f"budget {thousands(budget)} tokens per step", scale.x1 - 2, high - 3, size=10.5, fill=c["ink2"], align="right")
    pen.text("prefill", scale.x0 - 10, y - UP / 2 + 3, size=10.5, fill=c["muted"], align="right")
    pen.text("decode", scale.x0 - 10, y + DOWN / 2 + 5, size=10.5, fill=c["muted"], align="right")


def _labels(pen: Pen, clipped: list, scale: Scale, y: float) -> None:
    """How many tokens the steps had that are higher than their strip."""
    for i, (x, x1, total, padded) in enumerate(clipped):
        words = [f"{thousands(total)} tokens, {100 * padded / total:.0f} % padding"] if padded else []
        words += [f"{thousands(total)} tokens", thousands(total)]
        room = (clipped[i + 1][0] if i + 1 < len(clipped) else scale.x1) - x1 - 8
        pen.rect(x - 1, y - UP + 4, x1 - x + 2, 1.5, fill=pen.colours["panel"])
        if text := pen.fitting(words, room, 10.5):
            pen.text(text, x1 + 4, y - UP + 9, size=10.5, fill=pen.colours["ink2"])


def done(pen: Pen, scale: Scale, makespan: float, top: float, bottom: float) -> None:
    """The line at which the last request ended."""
    words = f"all done {spoken(makespan)}"
    if scale.clip(makespan, makespan) is None:
        return
    x, w = scale.at(makespan), text_width(words, 11, 600)
    late = x + 5 + w > scale.x1 + 4
    pen.rect(x - 0.6, top, 1.2, bottom - top, fill=pen.colours["ink"])
    left = x - 8 - w if late else x + 2
    pen.rect(left, top - 1, w + 6, 14, fill=pen.colours["paper"], alpha=0.85)
    pen.text(words, x - 5 if late else x + 5, top + 10, size=11, weight=600, align="right" if late else "left")
