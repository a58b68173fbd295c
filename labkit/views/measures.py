"""What a run's lanes come to, at their end or as it stood at any moment. Definitions:

    TTFT         end of the step that gave the first token - arrival
    TPOT         (last token - first token) / (tokens - 1), of requests that have ended well
    throughput   tokens sampled / time since the first arrival, until the last request ended
    time         a step's duration is shared out among the tokens that it computed; idle is when no step ran
    padding      the share of padding in the time in which steps ran
"""
from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field

import numpy as np

from labkit.views.lane import PREEMPTED
from labkit.views.lanes import Lanes

SHARES = ("prefill", "decode", "recompute", "padding", "idle")  # of time
SLOTS = ("useful", "tail", "reserved", "cached", "free")  # of memory


@dataclass(slots=True)
class Measures:
    """Seconds, tokens a second, fractions. `until` is the moment that they hold for, counted from the first arrival."""

    until: float = 0.0
    requests: int = 0
    finished: int = 0
    failed: int = 0  # ended otherwise than by "stop" or "length"
    preemptions: int = 0
    waiting: int = 0
    running: int = 0
    ttft: list[float] = field(default_factory=list)
    tpot: list[float] = field(default_factory=list)
    tokens: int = 0
    throughput: float = 0.0
    padding: float = 0.0
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(SHARES, 0.0))
    slots: dict[str, int] = field(default_factory=lambda: dict.fromkeys(SLOTS, 0))
    mean: dict[str, float] = field(default_factory=lambda: dict.fromkeys(SLOTS, 0.0))  # fractions of the slots, averaged over the time
    makespan: float | None = None  # when the last request ended; None while one is alive


def median(values: list[float]) -> float | None:
    return float(np.median(values)) if values else None


def measure(lanes: Lanes, t: float | None = None) -> Measures:
    """The measures at `t` (the trace's seconds); None: at the end of what is known."""
    out, now = Measures(), lanes.now if t is None else min(t, lanes.now)
    if lanes.origin is None:
        return out
    arrived = [lane for lane in lanes.lanes.values() if lane.arrival <= now]
    ended = [lane for lane in arrived if lane.finished is not None and lane.finished <= now]
    out.requests, out.finished = len(arrived), len(ended)
    out.failed = sum(not lane.well for lane in ended)
    out.ttft = [lane.ttft for lane in arrived if lane.first is not None and lane.first <= now]
    out.tpot = [lane.tpot for lane in ended if lane.tpot is not None]
    out.preemptions = sum(lane.preemptions for lane in arrived) if t is None else sum(
        segment.kind == PREEMPTED and segment.t0 <= now for segment in lanes.segments)
    if ended and len(ended) == len(arrived):
        now = min(now, max(lane.finished for lane in ended))
        out.makespan = now - lanes.origin
    out.until = now - lanes.origin
    out.slots["free"] = lanes.slots
    n = bisect_right(lanes.ends, now)
    busy = split(lanes, 0, n)
    out.seconds = {name: float(column.sum()) for name, column in busy.items()}
    ran = sum(out.seconds.values())
    out.seconds["idle"] = max(0.0, out.until - ran)
    out.padding = out.seconds["padding"] / ran if ran else 0.0
    out.tokens = int(column(lanes, "sampled", 0, n).sum())
    out.throughput = out.tokens / out.until if out.until > 0 else 0.0
    if n:
        out.waiting, out.running = lanes.columns["waiting"][n - 1], lanes.columns["running"][n - 1]
        out.slots = {name: lanes.columns[name][n - 1] for name in SLOTS}
        held = np.diff([*lanes.ends[:n], max(now, lanes.ends[n - 1])])  # what a step leaves stays until the next one ends
        spent = {name: float((column(lanes, name, 0, n) * held).sum()) for name in SLOTS}
        total = sum(spent.values())  # the pool may have been smaller for a while
        out.mean = {name: part / total if total else 0.0 for name, part in spent.items()}
    return out


def column(lanes: Lanes, name: str, begin: int, end: int) -> np.ndarray:
    return np.asarray(lanes.columns[name][begin:end], float)


def split(lanes: Lanes, begin: int, end: int) -> dict[str, np.ndarray]:
    """Seconds of each step from index `begin` to before `end` that each of `SHARES` but idle took."""
    spent = np.asarray(lanes.ends[begin:end]) - np.asarray(lanes.starts[begin:end])
    parts = {name: column(lanes, name, begin, end) for name in ("prefill", "decode", "recompute")}
    parts["padding"] = column(lanes, "padded", begin, end) + column(lanes, "held", begin, end)
    total = sum(parts.values())
    rate = np.divide(spent, total, out=np.zeros_like(spent), where=total > 0)
    return {name: part * rate for name, part in parts.items()}
