"""The rows of a still batch timeline: what happened to each request. The encodings of canvas/rows.js."""
from __future__ import annotations

import math

from labkit.views.lane import DECODE, KINDS, PADDING, PREEMPTED, PREFILL, QUEUED, RECOMPUTE, STALLED, Lane
from labkit.views.pen import Pen, text_width
from labkit.views.race_scene import Panel
from labkit.views.still_axis import X0, X1, Scale
from labkit.views.words import spoken


def rows(pen: Pen, panel: Panel, scale: Scale, lanes: list[Lane | None], y: float, pitch: float) -> None:
    """`lanes` from top to bottom; None leaves a row empty."""
    every, boxes = max(1, math.ceil(11 / pitch)), Boxes()
    for row, lane in enumerate(lanes):
        if lane is None:
            continue
        top = y + row * pitch
        if row % every == 0:
            pen.text(lane.letter, X0 - 10, top + pitch / 2 + 4, size=10.5, weight=600, fill=pen.colours["ink2"], align="right")
        if arrival := scale.clip(lane.arrival - panel.start, lane.arrival - panel.start):
            boxes.arrivals.append(((arrival[0], top + pitch / 6), (arrival[0], top + pitch * 5 / 6)))
        for s in lane.segments:
            t1 = max(panel.lanes.now, s.t0) if s.open else s.t1
            if ends := scale.clip(s.t0 - panel.start, t1 - panel.start):
                boxes.add(s.kind, *ends, top, pitch)
        if lane.finished is not None and (ends := scale.clip(lane.finished - panel.start, lane.finished - panel.start)):
            boxes.end(lane.well, ends[0], top, pitch)
    boxes.draw(pen, pitch)


class Boxes:
    """Collects what looks alike, because one patch of many pieces is drawn faster than many patches."""

    def __init__(self) -> None:
        self.arrivals: list = []
        self.kinds: dict[int, list] = {kind: [] for kind in range(7)}
        self.crosses: list = []
        self.ends: dict[bool, list] = {True: [], False: []}

    def add(self, kind: int, x: float, x1: float, top: float, pitch: float) -> None:
        middle, into = top + pitch / 2, self.kinds[kind]
        if kind in (QUEUED, STALLED, PREEMPTED):
            into.append(((x, middle), (x1, middle)))
        elif kind in (PREFILL, RECOMPUTE):
            into.append((x + 0.5, top + pitch / 12, max(1.2, x1 - x - 0.8), pitch * 10 / 12))
        else:
            into.append((x, top + pitch / 4, x1 - x, pitch / 2))
        if kind == PREEMPTED:
            d = min(3.5, pitch * 0.3)
            self.crosses += [((x - d, middle - d), (x + d, middle + d)), ((x - d, middle + d), (x + d, middle - d))]

    def end(self, well: bool, x: float, top: float, pitch: float) -> None:
        self.ends[well].append((x - 1.5, top + pitch / 12, 3.4, pitch * 10 / 12))

    def draw(self, pen: Pen, pitch: float = 12) -> None:
        c, kinds, thin = pen.colours, self.kinds, 1 if pitch >= 5 else 0.5
        pen.strokes(self.arrivals, c["muted"], 1.2 * thin)
        pen.strokes(kinds[QUEUED], c["muted"], 1.6 * thin, (1.5, 3))
        pen.strokes(kinds[STALLED], c["edge"], 1.2 * thin)
        pen.hatches(kinds[PADDING], c["edge"])
        pen.rects(kinds[PADDING], edge=c["edge"], width=0.7 * thin)
        pen.rects(kinds[DECODE], fill=c["decode"])
        pen.rects(kinds[PREFILL], fill=c["prefill"], edge=c["prefillEdge"], width=thin)
        pen.rects(kinds[RECOMPUTE], fill=c["prefill"])
        pen.hatches(kinds[RECOMPUTE], c["again"])
        pen.rects(kinds[RECOMPUTE], edge=c["alert"], width=1.6 * thin)
        pen.strokes(kinds[PREEMPTED], c["alert"], 1.8 * thin, (4, 3))
        pen.strokes(self.crosses, c["alert"], 2.2 * thin)
        pen.rects(self.ends[True], fill=c["ink"])
        pen.rects(self.ends[False], fill=c["paper"], edge=c["alert"], width=1.5)


def legend(pen: Pen, panels: list[Panel], y: float) -> None:
    """What the marks mean; of the rare ones only those that are there."""
    stalled = any(segment.kind == STALLED for panel in panels for segment in panel.lanes.segments)
    ill = any(lane.reason and not lane.well for panel in panels for lane in panel.lanes.lanes.values())
    items = [item for item in pen.colours["segments"] if {"stalled": stalled, "failed": ill}.get(item[0], True)]
    long = sum(mark_width(kind) + text_width(words, 11.5) + 14 for kind, words, _ in items) - 14 <= X1 - X0
    boxes, x = Boxes(), float(X0)
    for kind, *words in items:
        if kind == "preempted":
            boxes.add(PREEMPTED, x + 3.5, x + 16, y, 12)
            boxes.add(RECOMPUTE, x + 15, x + 24, y, 12)
        elif kind in ("finished", "failed"):
            boxes.end(kind == "finished", x + 4, y, 12)
        else:
            boxes.add(KINDS.index(kind), x, x + 24, y, 12)
        x += mark_width(kind)
        x += pen.text(words[0 if long else 1], x, y + 10, size=11.5, fill=pen.colours["ink2"]) + 14
    boxes.draw(pen)


def mark_width(kind: str) -> float:
    return 12 if kind in ("finished", "failed") else 30


def done(pen: Pen, scale: Scale, makespan: float, top: float, bottom: float) -> None:
    """The line at which the last request ended."""
    words, x = f"all done {spoken(makespan)}", scale.at(makespan)
    if x > X1 + 1:
        return
    w = text_width(words, 11, 600)
    late = x + 5 + w > X1 + 4
    pen.rect(x - 0.6, top, 1.2, bottom - top, fill=pen.colours["ink"])
    pen.rect(x - 8 - w if late else x + 2, top, w + 6, 13, fill=pen.colours["paper"], alpha=0.85)
    pen.text(words, x - 5 if late else x + 5, top + 10, size=11, weight=600, align="right" if late else "left")
