"""What each step computed, below the rows of a still batch timeline: the encodings of canvas/bars.js."""
from __future__ import annotations

from bisect import bisect_left

import numpy as np

from labkit.views.lanes import Lanes
from labkit.views.measures import column
from labkit.views.pen import Pen
from labkit.views.race_scene import Panel, budget_of
from labkit.views.still_axis import X0, X1, Scale
from labkit.views.words import thousands

UP, DOWN = 24, 16  # pixels for tokens of prefill, above the line, and for requests in decode, below it
BARS = ("prefill", "recompute", "padded", "decode", "held")


def strip_scale(panels: list[Panel]) -> tuple[float, float]:
    """Tokens and requests that fill the two parts, in all panels alike. Prompts that tower above every budget and every other panel's
    are cut off, so that chunks can still be seen beside them; a budget that is not far above them is seen too."""
    peaks, slots, budgets = [], [1.0], [0.0]
    for panel in panels:
        columns = {name: np.asarray(panel.lanes.columns[name], float) for name in BARS}
        up, down = columns["prefill"] + columns["recompute"] + columns["padded"], columns["decode"] + columns["held"]
        peaks += [up.max()] if up.any() else []
        slots += [down.max()] if down.size else []
        budgets.append(float(budget_of(panel.lanes.header)))
    most, budget = max(peaks, default=1.0), max(budgets)
    full = min(most, 2 * max(min(peaks, default=1.0), min(budget, most)))
    return max(1.0, full, 1.6 * budget if budget < 1.6 * full else 0.0), max(slots)


def bars_between(lanes: Lanes, zero: float, scale: Scale) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Where bars begin and end, in pixels, and how high they are, in tokens: a bar a step, or a bar a pixel where there are more steps,
    as high as the mean of those that begin in it."""
    begin, end = bisect_left(lanes.ends, scale.begin + zero), bisect_left(lanes.starts, scale.end + zero)
    columns = {name: column(lanes, name, begin, max(begin, end)) for name in BARS}
    busy = np.flatnonzero(sum(columns.values()) > 0)
    columns = {name: values[busy] for name, values in columns.items()}
    times = (np.asarray(stamps[begin:max(begin, end)])[busy] - zero for stamps in (lanes.starts, lanes.ends))
    left, right = (np.clip(scale.at(t), X0, X1) for t in times)
    if len(busy) <= X1 - X0:
        return left, right, columns
    groups, first, sizes = np.unique(np.floor(left), return_index=True, return_counts=True)
    means = {name: np.add.reduceat(values, first) / sizes for name, values in columns.items()}
    return groups, np.maximum(groups + 1.0, right[first + sizes - 1]), means


def strip(pen: Pen, panel: Panel, scale: Scale, full: tuple[float, float], y: float) -> None:
    """Prefill tokens above the line at `y`, requests in decode below it; `full` fills the two parts."""
    c, (most, slots) = pen.colours, full
    pen.rect(X0, y - UP, X1 - X0, UP + DOWN, fill=c["panel"])
    left, right, columns = bars_between(panel.lanes, panel.start, scale)
    fresh, again, padded, decode, held, cut = [], [], [], [], [], []
    for i, (x, x1) in enumerate(zip(left, right, strict=True)):
        w = max(0.8, x1 - x - 0.35)
        p, r, q, d, h = (columns[name][i] for name in BARS)
        unit = UP * min(1.0, (p + r + q) / most) / max(1.0, p + r + q)
        fresh += [(x, y - unit * p, w, unit * p)] if p else []
        again += [(x, y - unit * (p + r), w, unit * r)] if r else []
        padded += [(x, y - unit * (p + r + q), w, unit * q)] if q else []
        cut += [(x, x + w, p + r + q, q)] if p + r + q > 1.001 * most and w > 2 else []
        decode += [(x, y + 0.5, w, DOWN * d / slots)] if d else []
        held += [(x, y + 0.5 + DOWN * d / slots, w, DOWN * h / slots)] if h else []
    pen.hatches(padded + held, c["edge"])
    pen.rects(padded, edge=c["edge"], width=0.6)
    pen.rects(fresh, fill=c["prefill"], edge=c["prefillEdge"] if len(left) < 300 else None, width=0.8)
    pen.rects(again, fill=c["prefill"])
    pen.hatches(again, c["again"])
    pen.rects(again, edge=c["alert"], width=1)
    pen.rects(decode, fill=c["decode"])
    pen.rect(X0, y - 0.5, X1 - X0, 1, fill=c["ink2"])
    _cut(pen, cut, [x for x, *_ in fresh + again + padded], y)
    if 0 < (budget := budget_of(panel.lanes.header)) <= most:
        at = y - UP * budget / most
        pen.line([(X0, at), (X1, at)], c["prefillEdge"], dash=(4, 3))
        pen.text(f"budget {thousands(budget)} tokens per step", X1 - 2, at - 3, size=10.5, fill=c["ink2"], align="right")
    pen.text("prefill", X0 - 10, y - UP / 2 + 3, size=10.5, fill=c["muted"], align="right")
    pen.text("decode", X0 - 10, y + DOWN / 2 + 5, size=10.5, fill=c["muted"], align="right")


def _cut(pen: Pen, cut: list[tuple[float, float, float, float]], bars: list[float], y: float) -> None:
    """A gap in bars that are higher than there is room, and beside it how many tokens they stand for, as far as no other bar begins."""
    for x, x1, total, padded in cut:
        words = [f"{thousands(total)} tokens, {100 * padded / total:.0f} % padding"] if padded else []
        words += [f"{thousands(total)} tokens", thousands(total)]
        room = min((bar for bar in bars if bar > x1 - 1), default=X1) - x1 - 8
        pen.polygon([(x - 1, y - UP + 6), (x1 + 1, y - UP + 3), (x1 + 1, y - UP + 5), (x - 1, y - UP + 8)], fill=pen.colours["panel"])
        if text := pen.fitting(words, room, 10.5):
            pen.text(text, x1 + 4, y - UP + 9, size=10.5, fill=pen.colours["ink2"])
