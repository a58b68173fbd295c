"""`labkit trace FILE`: what a run file holds, in a few lines."""
from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass

from labkit.trace.events import Step, TraceError
from labkit.trace.runfile import Run, read
from labkit.trace.state import PoolState


@dataclass(slots=True)
class Summary:
    """A run in numbers. Usage is a fraction of the blocks that requests can hold, times are seconds."""

    name: str
    source: str
    badge: str
    model: str
    started: str
    seconds: float
    steps: int
    requests: int
    finished: int
    preempted: int
    peak_running: int
    peak_waiting: int
    peak_usage: float
    hit_rate: float
    sampled_tokens: int
    dropped: int
    torn: bool


def summarize(run: Run) -> Summary:
    """Fold the whole run once."""
    state = PoolState(run.header)
    peak_running = peak_waiting = steps = 0
    peak_usage = 0.0
    for event in run.events:
        state.apply(event)
        steps += isinstance(event, Step) and bool(event.scheduled)
        peak_running, peak_waiting = max(peak_running, state.running), max(peak_waiting, state.waiting)
        peak_usage = max(peak_usage, state.usage)
    h = run.header
    return Summary(h.name, h.source, h.badge, h.model, h.started, run.events[-1].t if run.events else 0.0, steps, len(state.ordinals),
                   state.finished, state.preempted, peak_running, peak_waiting, round(peak_usage, 4), round(state.hit_rate, 4),
                   state.sampled_tokens, state.dropped, run.torn)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="labkit trace", description="Summarize a run file.")
    parser.add_argument("file", help="a run file (*.jsonl), as servers write them below LABKIT_HOME/runs")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    arguments = parser.parse_args(argv)
    try:
        summary = summarize(read(arguments.file))
    except (OSError, TraceError) as error:
        print(f"labkit trace: {error}", file=sys.stderr)
        return 1
    if arguments.json:
        print(json.dumps(asdict(summary)))
    else:
        for name, value in asdict(summary).items():
            print(f"{name.replace('_', ' '):>15}  {value}")
    return 0
