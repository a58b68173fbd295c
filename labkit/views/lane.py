"""`Lane`: one request's row in the batch timeline, made of `Segment`s."""
from __future__ import annotations

from dataclasses import dataclass, field

from labkit.trace import letter

QUEUED, PREFILL, RECOMPUTE, DECODE, STALLED, PADDING, PREEMPTED = range(7)
KINDS = ("queued", "prefill", "recompute", "decode", "stalled", "padding", "preempted")


@dataclass(slots=True)
class Segment:
    """A stretch of one request's row. `tokens` were computed in it. While `open` it goes on until now: `t1`, `tokens` and `last` are not
    final. A prefill chunk and a chunk that is recomputed are a segment each; steps of decode that follow one another are one."""

    ordinal: int
    kind: int  # QUEUED .. PREEMPTED
    t0: float
    t1: float
    step: int  # number of its first step
    last: int
    tokens: int = 0
    blocks: int = 0  # held at its end
    open: bool = False
    index: int = -1  # in `Lanes.segments`


@dataclass(slots=True)
class Lane:
    """One request. Times are the trace's seconds; None: not yet, or, for a request that was `joined` in its middle, unknown."""

    id: str
    ordinal: int
    prompt: int  # tokens
    max_tokens: int
    arrival: float
    joined: bool = False  # the trace does not hold its beginning
    first: float | None = None  # when its first token was there
    latest: float | None = None
    outputs: int = 0
    finished: float | None = None
    reason: str = ""  # why it ended: "stop", "length", or what went wrong
    preemptions: int = 0
    computed: int = 0  # tokens whose KV is in the cache
    blocks: int = 0
    empty: int = 0  # blocks that hold no token yet
    highest: int = 0  # tokens computed before the last preemption, or since
    busy: int = -1  # the count of busy steps when it last was in one
    run: Segment | None = None  # the open stretch of decode or padding
    wait: Segment | None = None  # the open stretch of waiting
    segments: list[Segment] = field(default_factory=list)

    @property
    def letter(self) -> str:
        return letter(self.ordinal)

    @property
    def well(self) -> bool:
        """Whether it ended as it was meant to."""
        return self.finished is not None and self.reason in ("stop", "length")

    @property
    def ttft(self) -> float | None:
        """Seconds from arrival to the end of the step that gave the first token."""
        return None if self.first is None else self.first - self.arrival

    @property
    def tpot(self) -> float | None:
        """Seconds a token after the first; None before the request has ended, and for a single token."""
        known = self.well and self.first is not None and self.outputs > 1
        return (self.latest - self.first) / (self.outputs - 1) if known else None
