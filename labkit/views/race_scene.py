"""What the batch timeline and the race say in words, and the scales that their panels share. The live view and the still figure draw it."""
from __future__ import annotations

from dataclasses import dataclass, field

from labkit.trace import Header
from labkit.views.lanes import Lanes
from labkit.views.measures import Measures, median
from labkit.views.scene import badge
from labkit.views.words import count, percent, spoken, thousands

LEGEND = (("queued", "queued"), ("prefill", "prefill (one box per chunk)"), ("decode", "decode"), ("padding", "padding, slot held"),
          ("preempted", "preempted, recomputed later"), ("stalled", "stalled: in no step"), ("finished", "finished"))
MARKS = "Small upright mark = arrival."
DEFINITIONS = ("TTFT = end of the step with the first token − arrival. TPOT = (last − first token) / (tokens − 1). "
               "Padding = its share of the time in which steps ran; a step's time is shared out among its tokens.")


@dataclass(slots=True)
class Panel:
    """One run. `zero` is the trace time at which its clock starts."""

    name: str
    rule: str
    lanes: Lanes
    zero: float | None = None  # None: the run's own origin
    over: bool = False  # nothing more will come

    @property
    def start(self) -> float:
        return self.zero if self.zero is not None else self.lanes.origin or 0.0

    @property
    def now(self) -> float:
        """Seconds on its clock."""
        return max(0.0, self.lanes.now - self.start)


@dataclass(slots=True)
class Words:
    """Everything that is said around the panels."""

    title: str
    about: list[tuple[str, str]]  # (number, words) after the title
    badge: tuple[str, str]
    footer: str
    rules: list[tuple[str, str]] = field(default_factory=list)  # name and rule of each panel
    alt: str = ""


def rule_of(header: Header) -> str:
    """A policy in one line, from the configuration of a run."""
    c = header.configuration
    names = [f"{name} {thousands(c[name])}" for name in ("max_num_seqs", "max_num_batched_tokens") if c.get(name)]
    blocks = int(c["num_blocks"]) - int(c.get("null_blocks", 0))
    return " · ".join([*names, f"{thousands(blocks)} blocks × {c['block_size']} tokens"])


def budget_of(header: Header) -> int:
    """Tokens that a step may compute, where chunks are cut to fit it; 0 where they are not."""
    c = header.configuration
    chunks = c.get("policy") == "chunked" or c.get("enable_chunked_prefill")
    return int(c.get("max_num_batched_tokens") or 0) if chunks else 0


def race_words(panels: list[Panel], measures: list[Measures], requests: int) -> Words:
    about = f"policy race · one trace of {count(requests, 'request')}, one clock" if len(panels) > 1 else count(requests, "request")
    shown = badge(panels[0].lanes.header)
    words = Words("Batch timeline", [("", about)], shown,
                  f"{MARKS} Dots: one request each, bar: median. Same scales in all panels. {DEFINITIONS}", [(p.name, p.rule) for p in panels])
    parts = [said(p.name, m, p.over) for p, m in zip(panels, measures, strict=True)]
    words.alt = f"Batch timeline, {shown[0]}, {shown[1]}: {len(panels)} policies on one trace of {count(requests, 'request')}. {' '.join(parts)}"
    return words


def timeline_words(panel: Panel, m: Measures) -> Words:
    shown, running = badge(panel.lanes.header), panel.lanes.pool.running
    about = [(thousands(m.requests), "requests"), (thousands(running), "running"), (thousands(panel.lanes.pool.waiting), "waiting"),
             (thousands(m.finished), "finished"), (thousands(m.preemptions), "preemptions so far")]
    words = Words("Batch timeline", about, shown, f"{MARKS} Dots: one request each, bar: median. {DEFINITIONS}", [(panel.name, panel.rule)])
    lead = f"{count(m.requests, 'request')}, {running} running, {panel.lanes.pool.waiting} waiting"
    words.alt = f"Batch timeline, {shown[0]}, {shown[1]}: {lead}. {said(panel.name, m, panel.over)}"
    return words


def said(name: str, m: Measures, over: bool) -> str:
    """The measures of one run in a sentence."""
    if not m.requests:
        return f"{name}: nothing yet."
    ttft, tpot = median(m.ttft), median(m.tpot)
    parts = [f"{m.finished} of {m.requests} finished"]
    parts += [f"median TTFT {spoken(ttft)}"] if ttft is not None else []
    parts += [f"median TPOT {spoken(tpot)}"] if tpot is not None else []
    parts += [f"{thousands(m.throughput)} tokens/s", f"{percent(m.padding)} padding"]
    parts += [count(m.preemptions, "preemption")] if m.preemptions else []
    parts += [f"all done at {spoken(m.makespan)}"] if over and m.makespan is not None else [f"at {spoken(m.until)}"]
    return f"{name}: {', '.join(parts)}."
