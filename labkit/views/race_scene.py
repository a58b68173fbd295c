"""What the batch timeline and the race say in words, and the scales that their panels share. The live view and the still figure draw it."""
from __future__ import annotations

from dataclasses import dataclass, field

from labkit.trace import Header
from labkit.views.lanes import Lanes
from labkit.views.measures import Measures, median
from labkit.views.scene import SOURCES, badge
from labkit.views.words import count, percent, spoken, thousands

MARKS = "Small upright mark = arrival."
DEFINITIONS = ("TTFT = end of the step with the first token − arrival. TPOT = (last − first token) / (tokens − 1). "
               "Padding = its share of the time in which steps ran; a step's time is shared out among its tokens.")
LEDGER_MARKS = (
    "Memory: token slots of the KV cache. Empty tail = slots of a last block, part filled; reserved = blocks that hold no token yet, or "
    "are kept for a request that has ended. Time: a step's time is shared out among its tokens; padding = tokens computed for nothing; "
    "recompute = computed before, lost to preemption; idle = no step ran.")
WHOLE_PROMPTS = ("static", "dynamic", "tgi", "continuous")  # policies that never cut a prompt, whatever the engine's options say
SLOT_NAMES = {"useful": "useful", "tail": "empty tail", "reserved": "reserved", "cached": "cached", "free": "free"}


@dataclass(slots=True)
class Panel:
    """One run. Its clock starts with its first arrival, so that runs of one trace share it."""

    name: str
    rule: str
    lanes: Lanes
    over: bool = False  # nothing more will come

    @property
    def start(self) -> float:
        """Where its clock starts, in the trace's seconds."""
        return self.lanes.origin or 0.0

    @property
    def now(self) -> float:
        """Seconds on its clock."""
        return max(0.0, self.lanes.now - self.start)


@dataclass(slots=True)
class Words:
    """Everything that is said around the panels."""

    title: str
    about: list[tuple[str, str]]  # (number, words) after the title; the number may be empty
    badge: tuple[str, str]
    footer: str
    rules: list[tuple[str, str]] = field(default_factory=list)  # name and rule of each panel
    alt: str = ""


def name_of(header: Header) -> str:
    """What a panel of a single run is called: the policy of a glass box, else the server."""
    own = header.configuration.get("policy") if header.source == "glassbox" else None
    return str(own or SOURCES.get(header.source, header.source))


def rule_of(header: Header) -> str:
    """A policy in one line, from the configuration of a run: in its own words, if the run has them, else in numbers."""
    c = header.configuration
    if "rule" in c:
        return c["rule"]
    names = [f"{name} {thousands(c[name])}" for name in ("max_num_seqs", "max_num_batched_tokens") if c.get(name)]
    blocks = int(c["num_blocks"]) - int(c.get("null_blocks", 0))
    return " · ".join([*names, f"{thousands(blocks)} blocks × {c['block_size']} tokens"])


def budget_of(header: Header) -> int:
    """Tokens that a step may compute, where chunks are cut to fit it; 0 where they are not."""
    c = header.configuration
    chunks = c.get("enable_chunked_prefill") and c.get("policy") not in WHOLE_PROMPTS
    return int(c.get("max_num_batched_tokens") or 0) if chunks else 0


def shown_badge(panels: list[Panel]) -> tuple[str, str]:
    """That of the first run that has begun."""
    return badge(next((panel for panel in panels if panel.rule), panels[0]).lanes.header)


def race_words(panels: list[Panel], measures: list[Measures], requests: int) -> Words:
    trace, shown = f"one trace of {count(requests, 'request')}", shown_badge(panels)
    footer = f"{MARKS} Dots: one request each, bar: median. Same scales in all panels. {DEFINITIONS}"
    words = Words("Batch timeline", [("", f"policy race · {trace}, one clock")], shown, footer, [(p.name, p.rule) for p in panels])
    parts = " ".join(said(p.name, m, p.over) for p, m in zip(panels, measures, strict=True))
    words.alt = f"Batch timeline, {shown[0]}, {shown[1]}: {count(len(panels), 'run')} of {trace}. {parts}"
    return words


def timeline_words(panel: Panel, m: Measures) -> Words:
    shown, running = badge(panel.lanes.header), panel.lanes.pool.running
    about = [(thousands(m.requests), "requests"), (thousands(running), "running"), (thousands(panel.lanes.pool.waiting), "waiting"),
             (thousands(m.finished), "finished"), (thousands(m.preemptions), "preemptions so far")]
    footer = f"{MARKS} Dots: one request each, bar: median. {DEFINITIONS}"
    words = Words("Batch timeline", about, shown, footer, [(panel.name, panel.rule)])
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


def ledger_words(panels: list[Panel], measures: list[Measures]) -> Words:
    shown = shown_badge(panels)
    about = "where memory and time went" + (f" · {count(len(panels), 'run')}, one clock" if len(panels) > 1 else "")
    words = Words("Waste ledger", [("", about)], shown, LEDGER_MARKS, [(p.name, p.rule) for p in panels])
    parts = []
    for panel, m in zip(panels, measures, strict=True):
        memory = ", ".join(f"{SLOT_NAMES[name]} {percent(share)}" for name, share in m.mean.items())
        total = sum(m.seconds.values()) or 1.0
        spent = ", ".join(f"{name} {percent(seconds / total)}" for name, seconds in m.seconds.items())
        parts.append(f"{panel.name}: {spoken(m.until)}; memory on average {memory}; time {spent}.")
    words.alt = f"Waste ledger, {shown[0]}, {shown[1]}: {' '.join(parts)}"
    return words
