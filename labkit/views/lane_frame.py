"""`LanePacker`: the lanes of one or several runs as one binary message to the browser, which holds all of them and draws any part.

The layout of a message is told in frame.py. Sections of panel i are called "i.name"; times are u4, in units of 10 microseconds since
the first arrival, `NONE` for never. A frame tells what is new since the last one:

    requests   ordinal, prompt, limit (of output tokens), arrival, first (token), latest (token), finish, outputs (u4), preempted (u2),
               reason (u1, index into `REASONS`)
    segments   index, lane (ordinal), t0, t1 (NONE: still open), at (first step), last (step), tokens, blocks (u4), kind (u1)
    steps      start, end, step, prefill, recompute, padded (u4), decode, held, sampled, waiting, running (u2): appended;
               with memory also useful, tail, reserved, cached, free (u4)

A request or a segment that was told before is replaced. `base` in the head is the number of the frame that this one builds on.
"""
from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from labkit.views.frame import join
from labkit.views.lanes import Lanes
from labkit.views.race_scene import Panel, Words, budget_of

TICK, NONE = 1e-5, 0xFFFFFFFF
REASONS = ("", "length", "stop", "abort", "lost", "refused", "timeout", "error")
WIDE = ("step", "prefill", "recompute", "padded")
NARROW = ("decode", "held", "sampled", "waiting", "running")
MEMORY = ("useful", "tail", "reserved", "cached", "free")


class LanePacker:
    """Packs frames for one widget; remembers what the last one said. Not thread-safe."""

    def __init__(self, rows: bool = True, memory: bool = False):
        """rows: tell of requests and segments. memory: tell of the pool."""
        self.rows, self.memory = rows, memory
        self.sequence = 0
        self.reset()

    def reset(self) -> None:
        """Make the next frame complete."""
        self._told: list[int] | None = None  # steps of each panel that the reader has, counted from the beginning of its run
        self._generations: list[int] = []

    @property
    def complete(self) -> bool:
        """Whether the next frame is."""
        return self._told is None

    def pack(self, panels: list[Panel], words: Words, **head: Any) -> bytes:
        generations = [panel.lanes.generation for panel in panels]
        if generations != self._generations:
            self.reset()
        whole = self._told is None
        told = self._told or [0] * len(panels)
        head |= {"seq": self.sequence + 1, "base": 0 if whole else self.sequence, "about": words.about,
                 "now": [p.now for p in panels], "over": [p.over for p in panels],
                 "slots": [p.lanes.slots for p in panels], "begun": [p.lanes.origin is not None for p in panels],
                 "done": [None if p.lanes.done is None else p.lanes.done - p.start for p in panels]}
        if whole:
            head["words"] = {**asdict(words), "reasons": REASONS}
            head["panels"] = [{"budget": budget_of(p.lanes.header)} for p in panels]
        sections: dict[str, np.ndarray] = {}
        for i, panel in enumerate(panels):
            parts = self._steps(panel, max(0, told[i] - panel.lanes.trimmed))
            if self.rows:
                parts |= requests(panel, panel.lanes.lanes if whole else panel.lanes.touched)
                parts |= segments(panel, range(len(panel.lanes.segments)) if whole else sorted(panel.lanes.changed))
                panel.lanes.touched.clear()
                panel.lanes.changed.clear()
            sections |= {f"{i}.{name}": column for name, column in parts.items()}
        self._told = [panel.lanes.trimmed + len(panel.lanes.ends) for panel in panels]
        self._generations = generations
        self.sequence += 1
        return join(head, sections)

    def _steps(self, panel: Panel, begin: int) -> dict[str, np.ndarray]:
        lanes: Lanes = panel.lanes
        out = {"start": ticks(lanes.starts[begin:], panel.start), "end": ticks(lanes.ends[begin:], panel.start)}
        out |= {name: np.asarray(lanes.columns[name][begin:], "<u4") for name in (*WIDE, *(MEMORY if self.memory else ()))}
        return out | {name: np.minimum(np.asarray(lanes.columns[name][begin:], "<u4"), 0xFFFF).astype("<u2") for name in NARROW}


def ticks(seconds: Any, zero: float) -> np.ndarray:
    return np.clip((np.asarray(seconds, float) - zero) / TICK + 0.5, 0, NONE - 1).astype("<u4")


def requests(panel: Panel, names: Any) -> dict[str, np.ndarray]:
    lanes = [panel.lanes.lanes[name] for name in names if name in panel.lanes.lanes]
    out = {name: np.array([getattr(lane, field) for lane in lanes], "<u4") for name, field in
           (("ordinal", "ordinal"), ("prompt", "prompt"), ("limit", "max_tokens"), ("outputs", "outputs"))}
    for name, field in (("arrival", "arrival"), ("first", "first"), ("latest", "latest"), ("finish", "finished")):
        times = [getattr(lane, field) for lane in lanes]
        out[name] = np.where([t is None for t in times], NONE, ticks([t or 0.0 for t in times], panel.start)).astype("<u4")
    out["preempted"] = np.array([min(lane.preemptions, 0xFFFF) for lane in lanes], "<u2")
    out["reason"] = np.array([REASONS.index(lane.reason if lane.reason in REASONS else "error") for lane in lanes], "u1")
    return out


def segments(panel: Panel, indices: Any) -> dict[str, np.ndarray]:
    told = [panel.lanes.segments[i] for i in indices]
    out = {name: np.array([getattr(s, field) for s in told], "<u4") for name, field in
           (("index", "index"), ("lane", "ordinal"), ("at", "step"), ("last", "last"), ("tokens", "tokens"), ("blocks", "blocks"))}
    out["t0"], t1 = ticks([s.t0 for s in told], panel.start), ticks([s.t1 for s in told], panel.start)
    out["t1"] = np.where([s.open for s in told], NONE, t1).astype("<u4")
    return out | {"kind": np.array([s.kind for s in told], "u1")}


