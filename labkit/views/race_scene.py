"""What the batch timeline and the race say in words, and the scales that their panels share. The live view and the still figure draw it."""
from __future__ import annotations

from dataclasses import dataclass

from labkit.trace import Header
from labkit.views.lanes import Lanes
from labkit.views.measures import Measures, median
from labkit.views.scene import SOURCES, badge
from labkit.views.words import count, percent, spoken, thousands

MARKS = "Small upright mark = arrival. Dots: one request each, bar: median."
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
    """What is said around the panels, whatever moment they show."""

    title: str
    about: str  # behind the title
    badge: tuple[str, str]
    footer: str
    rules: list[tuple[str, str]]  # name and rule of each panel


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


def badge_of(panels: list[Panel]) -> tuple[str, str]:
    """That of the first run that has begun."""
    return badge(next((panel for panel in panels if panel.rule), panels[0]).lanes.header)


def numbersof(panels: list[Panel], title: str, about: str, footer: str) -> Words:
    return Words(title, about, badge_of(panels), footer, [(panel.name, panel.rule) for panel in panels])


def race_words(panels: list[Panel], requests: int) -> Words:
    about = f"policy race · one trace of {count(requests, 'request')}, one clock"
    return numbersof(panels, "Batch timeline", about, f"{MARKS} Same scales in all panels. {DEFINITIONS}")


def timeline_words(panel: Panel) -> Words:
    return numbersof([panel], "Batch timeline", "", f"{MARKS} {DEFINITIONS}")


def ledger_words(panels: list[Panel]) -> Words:
    about = "where memory and time went" + (f" · {count(len(panels), 'run')}, one clock" if len(panels) > 1 else "")
    return numbersof(panels, "Waste ledger", about, LEDGER_MARKS)


def counters(m: Measures) -> list[tuple[str, str]]:
    """(number, words) of a single run, behind the title."""
    return [(thousands(m.requests), "requests"), (thousands(m.running), "running"), (thousands(m.waiting), "waiting"),
            (thousands(m.finished), "finished"), (thousands(m.preemptions), "preemptions so far")]


def race_alt(words: Words, panels: list[Panel], measures: list[Measures]) -> str:
    """The picture in a few sentences of numbers."""
    m = measures[0]
    lead = words.about or f"{count(m.requests, 'request')}, {m.running} running, {m.waiting} waiting"
    parts = [said(panel.name, m, panel.over) for panel, m in zip(panels, measures, strict=True)]
    return f"{words.title}, {', '.join(words.badge)}: {lead}. {' '.join(parts)}"


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


def ledger_alt(words: Words, panels: list[Panel], measures: list[Measures]) -> str:
    """The picture in a few sentences of numbers."""
    parts = []
    for panel, m in zip(panels, measures, strict=True):
        memory = ", ".join(f"{SLOT_NAMES[name]} {percent(share)}" for name, share in m.mean.items())
        total = sum(m.seconds.values()) or 1.0
        spent = ", ".join(f"{name} {percent(seconds / total)}" for name, seconds in m.seconds.items())
        numbers = f"{spoken(m.until)}; memory on average {memory}; time {spent}." if panel.lanes.ends else "nothing yet."
        parts.append(f"{panel.name}: {numbers}")
    return f"{words.title}, {', '.join(words.badge)}: {' '.join(parts)}"
