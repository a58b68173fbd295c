"""What a race comes to, for each policy: the measures of its run, in seconds, tokens a second and shares.

    pause       longest time between two tokens of one request: what a reader notices
    makespan    from the start of the race, before the first arrival, to the last end
    the others  as in `labkit.views.measures`
"""
from __future__ import annotations

from labkit.trace import Run, Step
from labkit.views.lanes import Lanes
from labkit.views.measures import measure, median

Score = dict[str, float | int | None]


def score(run: Run, requests: int) -> Score:
    """None where nothing can be said yet: no token, or not everybody has ended."""
    lanes = Lanes(run.header)
    for event in run.events:
        lanes.append(event)
    found = measure(lanes)
    reasons = [reason for event in run.events if isinstance(event, Step) for reason in event.finished.values()]
    refused = reasons.count("refused")
    return {
        "requests": requests,
        "finished": found.finished - found.failed,
        "refused": refused,
        "ttft": median(found.ttft),
        "ttft_worst": max(found.ttft, default=None),
        "tpot": median(found.tpot),
        "tpot_worst": max(found.tpot, default=None),
        "pause": pause(run),
        "throughput": found.throughput,
        "padding": found.padding,
        "preemptions": found.preemptions,
        "makespan": lanes.origin + found.makespan if len(reasons) == requests and found.makespan is not None else None,
        **{f"time_{name}": share for name, share in found.seconds.items()},
    }


def pause(run: Run) -> float | None:
    """Seconds; None where no request has two tokens."""
    latest: dict[str, float] = {}
    longest = None
    for event in run.events:
        for name in event.sampled if isinstance(event, Step) else ():
            if name in latest:
                longest = max(longest or 0.0, event.t - latest[name])
            latest[name] = event.t
    return longest
