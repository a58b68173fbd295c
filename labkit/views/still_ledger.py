"""`LedgerStill`: the waste ledger as a figure: memory as stacked areas, time as a stacked bar, for each run."""
from __future__ import annotations

from bisect import bisect_left, bisect_right

import numpy as np

from labkit.views.measures import SHARES, SLOTS, Measures
from labkit.views.pen import Pen, text_width, wrap
from labkit.views.picture import EDGE, WIDTH, Picture, banner
from labkit.views.race_scene import SLOT_NAMES, Panel, Words, ledger_alt
from labkit.views.still_axis import RIGHT, X0, X1, Scale, axis, grid, moment, nice_end
from labkit.views.words import percent, spoken, thousands

TOP, HEIGHT, AREA, BAR = 58, 236, 128, 20
LINE = 17  # of the list of numbers


class LedgerStill(Picture):
    """Panels at `now` seconds of their clock."""

    def __init__(self, panels: list[Panel], measures: list[Measures], words: Words, now: float, theme: str = "light"):
        bottom, lines = TOP + HEIGHT * len(panels), wrap(words.footer, WIDTH - 2 * EDGE)
        super().__init__(bottom + 22 + 15 * len(lines) + 10, ledger_alt(words, panels, measures), theme)
        pen, c, last = self.pen, self.pen.colours, max(panel.now for panel in panels)
        scale, shown = Scale(0.0, nice_end(last)), now if now < last - 1e-9 else None
        banner(pen, words.title, [(words.about, {})], words.badge)
        most = max(panel.lanes.slots for panel in panels)
        for i, (panel, m) in enumerate(zip(panels, measures, strict=True)):
            y = TOP + i * HEIGHT
            pen.runs([(panel.name, {"weight": 600, "size": 13}), (panel.rule, {"fill": c["ink2"], "dx": 10})], X0, y + 16)
            grid(pen, scale, y + 26, y + 26 + AREA)
            _memory(pen, panel, scale, most, y + 26)
            moment(pen, scale, shown, y + 22, y + 26 + AREA)
            _time(pen, panel, m, scale, y + 26 + AREA + 24)
            _numbers(pen, panel, m, y + 16)
            if i + 1 < len(panels):
                pen.rect(EDGE, y + HEIGHT - 6.5, WIDTH - 2 * EDGE, 1, fill=c["line"])
        axis(pen, scale, bottom - 2, shown)
        for i, line in enumerate(lines):
            pen.text(line, EDGE, bottom + 32 + 15 * i, size=10.5, fill=c["muted"])


def looks(pen: Pen, name: str) -> tuple[str | None, str | None, str | None]:
    """Fill, edge and hatch of a part of memory or time: no two differ by colour alone."""
    c = pen.colours
    return {"useful": (c["bar"], None, None), "tail": (c["alert"], None, None), "reserved": (c["reserved"], c["alert"], None),
            "cached": (None, None, c["edge"]), "free": (None, c["edge"], None), "prefill": (c["prefill"], c["prefillEdge"], None),
            "decode": (c["decode"], None, None), "recompute": (c["prefill"], c["alert"], c["again"]),
            "padding": (None, c["edge"], c["edge"]), "idle": (None, c["edge"], None)}[name]


def part(pen: Pen, name: str, x: float, y: float, w: float, h: float) -> None:
    fill, edge, hatch = looks(pen, name)
    pen.rect(x, y, w, h, fill=fill or pen.colours["paper"])
    if hatch:
        pen.hatch(x, y, w, h, hatch, width=1.3)
    if edge:
        pen.rect(x + 0.5, y + 0.5, w - 1, h - 1, edge=edge, width=0.9)


def _memory(pen: Pen, panel: Panel, scale: Scale, most: int, y: float) -> None:
    c, lanes, base = pen.colours, panel.lanes, y + AREA
    pen.text("memory", X0 - 10, y + 10, size=10.5, fill=c["muted"], align="right")
    pen.text(compact(most), X0 - 10, y + 23, size=10.5, fill=c["muted"], align="right")
    pen.text("0", X0 - 10, base, size=10.5, fill=c["muted"], align="right")
    pen.rect(X0, y - 0.5, X1 - X0, 1, fill=c["line"])
    begin, end = bisect_left(lanes.ends, scale.begin + panel.start), bisect_right(lanes.ends, scale.end + panel.start)
    if end > begin:
        stops = np.append(np.asarray(lanes.ends[begin:end]), lanes.now) - panel.start
        xs = np.clip(scale.at(stops), X0, X1)
        kept = np.append(np.flatnonzero(np.diff(np.floor(2 * xs))), len(xs) - 2)  # the last step in each half pixel
        left, right = xs[np.append(0, kept[:-1] + 1)], xs[kept + 1]
        floor = np.zeros(len(kept))
        for name in SLOTS:
            top = floor + np.asarray(lanes.columns[name][begin:end], float)[kept] * AREA / most
            _band(pen, name, left, right, base - floor, base - top)
            floor = top
    pen.rect(X0, base - 0.5, X1 - X0, 1, fill=c["ink2"])


def _band(pen: Pen, name: str, left: np.ndarray, right: np.ndarray, low: np.ndarray, high: np.ndarray) -> None:
    """One part of the memory over time, between two stepped lines."""
    if not (low - high).max() > 0.05:
        return
    xs = np.ravel(np.column_stack([left, right]))
    upper, lower = np.repeat(high, 2), np.repeat(low, 2)
    fill, edge, hatch = looks(pen, name)
    patch = pen.polygon([*zip(xs, upper, strict=True), *zip(xs[::-1], lower[::-1], strict=True)], fill=fill)
    if hatch:
        pen.hatch(xs[0], upper.min(), xs[-1] - xs[0], lower.max() - upper.min(), hatch, width=1.1, clip=patch)
    if name != "free":
        pen.line([*zip(xs, upper, strict=True)], edge or pen.colours["ink2"], 0.9)


def _time(pen: Pen, panel: Panel, m: Measures, scale: Scale, y: float) -> None:
    """A bar as long as the run took, on the axis of the panels, divided as its time was."""
    c, total = pen.colours, sum(m.seconds.values())
    pen.text("time", X0 - 10, y + 14, size=10.5, fill=c["muted"], align="right")
    if not total:
        return
    at = scale.at(0.0)
    for name in SHARES:
        w = (X1 - X0) * m.seconds[name] / (scale.end - scale.begin)
        if w <= 0.05:
            continue
        part(pen, name, at, y, w, BAR)
        share = percent(m.seconds[name] / total)
        text = pen.fitting([f"{name} {spoken(m.seconds[name])} · {share}", f"{name} {share}", share], w - 12, 11, 600)
        if text:
            on = {"decode": c["onDecode"], "prefill": "#10151A", "recompute": "#10151A"}.get(name, c["ink"])
            if looks(pen, name)[2]:
                pen.rect(at + 4, y + 4, text_width(text, 11, 600) + 6, BAR - 8, fill=c["prefill"] if name == "recompute" else c["paper"])
            pen.text(text, at + 7, y + 14, size=11, weight=600, fill=on)
        at += w
    words = spoken(total)
    if at + 8 + text_width(words, 11) < X1 + 4:
        pen.text(words, at + 8, y + 14, size=11, fill=c["ink2"])


def _numbers(pen: Pen, panel: Panel, m: Measures, y: float) -> None:
    c, now, mean = pen.colours, WIDTH - EDGE - 54, WIDTH - EDGE
    total, spent = sum(m.slots.values()) or 1, sum(m.seconds.values())
    pen.text("memory", RIGHT, y, size=11.5, weight=600)
    pen.text("now", now, y, size=11, fill=c["muted"], align="right")
    pen.text("mean", mean, y, size=11, fill=c["muted"], align="right")
    for i, name in enumerate(SLOTS):
        line = y + LINE * (i + 1)
        part(pen, name, RIGHT, line - 9, 12, 10)
        pen.text(SLOT_NAMES[name], RIGHT + 18, line, fill=c["ink2"])
        pen.text(percent(m.slots[name] / total), now, line, align="right")
        pen.text(percent(m.mean[name]), mean, line, weight=600, align="right")
    y += LINE * 6 + 6
    pen.text("time", RIGHT, y, size=11.5, weight=600)
    pen.text("share", mean, y, size=11, fill=c["muted"], align="right")
    for i, name in enumerate(SHARES):
        line = y + LINE * (i + 1)
        part(pen, name, RIGHT, line - 9, 12, 10)
        pen.text(name, RIGHT + 18, line, fill=c["ink2"])
        pen.text(spoken(m.seconds[name]), now, line, align="right")
        pen.text(percent(m.seconds[name] / spent) if spent else "–", mean, line, weight=600, align="right")


def compact(n: int) -> str:
    """Four digits as they are, more in thousands or millions."""
    if n < 10_000:
        return thousands(n)
    return f"{n / 1e3:.3g} k" if n < 999_500 else f"{n / 1e6:.3g} M"
