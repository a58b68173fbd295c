"""`History`: a run as it comes in, the pool at any position of it, and the curve that the step slider stands on."""
from __future__ import annotations

from array import array
from bisect import bisect_right
from dataclasses import dataclass

from labkit.trace import Event, Header, PoolState, Snapshot, Step, letter

KEYFRAME_BYTES = 128_000_000  # what all keyframes together may hold, about
BLOCK_BYTES = 300  # what one block in use costs in a keyframe, about


@dataclass(slots=True)
class Mark:
    """Something worth jumping to. kind: admit, share, preempt or finish."""

    position: int
    kind: str
    letter: str


class History:
    """Append events in order; ask for the state at any position.

    A position counts the steps (and the snapshots that stand where steps were missed) from 0. Positions `first` to
    `last` are held: a run of more than `limit` loses its beginning here, never its end. Not thread-safe.
    """

    def __init__(self, header: Header, limit: int = 200_000):
        self.header, self.limit = header, limit
        self.first = 0
        self.marks: list[Mark] = []
        self.steps, self.used, self.cached, self.times = array("I"), array("I"), array("I"), array("d")  # by position - first
        self.pools: list[tuple[int, int]] = []  # (position, blocks of the pool from there on)
        self._records: list[tuple[Event, ...]] = []
        self._live = PoolState(header)
        self._cursor: tuple[int, PoolState] | None = None
        self._keyframes: dict[int, PoolState] = {}
        self._interval = 32  # positions between keyframes; doubled whenever there are too many
        self.keyframe_limit = max(4, min(64, KEYFRAME_BYTES // (BLOCK_BYTES * self._live.num_blocks)))

    def __len__(self) -> int:
        """Positions held."""
        return len(self._records)

    @property
    def last(self) -> int:
        """The newest position; -1 before the first event."""
        return self.first + len(self._records) - 1

    def append(self, event: Event) -> None:
        """Take one event in. A snapshot of a step that is already there only confirms it."""
        if isinstance(event, Header):
            return
        if isinstance(event, Snapshot) and self._records and event.step == self._live.step:
            self._live.apply(event)
            self._records[-1] = (*self._records[-1], event)
            self._keyframes.pop(self.last, None)
            return
        happenings = self._happenings(event) if isinstance(event, Step) else []
        self._live.apply(event)
        self._records.append((event,))
        if not self.pools or self.pools[-1][1] != self._live.num_blocks:
            self.pools.append((self.last, self._live.num_blocks))
        ordinals = self._live.ordinals
        self.marks += [Mark(self.last, kind, letter(ordinals[name])) for kind, name in happenings if name in ordinals]
        counts = self._live.counts()
        self.steps.append(event.step)
        self.times.append(event.t)
        self.used.append(counts["used"] + counts["tail"] + counts["shared"])
        self.cached.append(counts["cached"])
        if self.last % self._interval == 0:
            self._keyframes[self.last] = self._live.copy()
            self._thin()
        if len(self._records) > self.limit:
            self._trim()

    def state_at(self, position: int) -> PoolState:
        """The pool at the end of `position`, clamped to what is held. For reading only, and only until the next call."""
        if not self._records:
            return self._live
        position = min(max(position, self.first), self.last)
        if position == self.last:
            return self._live
        key = max((p for p in self._keyframes if p <= position), default=None)
        at, state = self._cursor or (-1, None)
        if state is None or not (key if key is not None else -1) <= at <= position:
            at, state = (key, self._keyframes[key].copy()) if key is not None else (-1, PoolState(self.header))
        for record in self._records[at + 1 - self.first:position + 1 - self.first]:
            for event in record:
                state.apply(event)
        self._cursor = (position, state)
        return state

    def position_of(self, step: int) -> int:
        """The last position whose step is at most `step`."""
        return max(self.first, self.first + bisect_right(self.steps, step) - 1)

    def largest(self) -> int:
        """The most blocks that the pool has had."""
        return max((blocks for _, blocks in self.pools), default=self._live.num_blocks)

    def fullest(self) -> int:
        """The first of the positions with the most blocks in use."""
        return self.first + max(range(len(self.used)), key=self.used.__getitem__, default=0)

    # parts -----------------------------------------------------------------------------------------------------------
    def _happenings(self, step: Step) -> list[tuple[str, str]]:
        """(kind, request) of everything in this step that is worth a mark, seen from the state before it."""
        live = self._live.requests
        out = [("preempt", name) for name in step.preempted]
        for name in step.scheduled:
            if name in step.preempted or name not in live or live[name].status == "waiting":
                out.append(("admit", name))
                if step.shared.get(name):
                    out.append(("share", name))
        return out + [("finish", name) for name in step.finished]

    def _thin(self) -> None:
        while len(self._keyframes) > self.keyframe_limit:
            self._interval *= 2
            oldest = min(self._keyframes)
            self._keyframes = {p: s for p, s in self._keyframes.items() if p % self._interval == 0 or p == oldest}

    def _trim(self) -> None:
        """Forget the oldest tenth. The earliest position that stays becomes a keyframe: nothing before it can be folded again."""
        cut = self.first + max(1, self.limit // 10)
        self._keyframes[cut] = self.state_at(cut).copy()
        self._cursor = None
        gone = cut - self.first
        del self._records[:gone], self.steps[:gone], self.times[:gone], self.used[:gone], self.cached[:gone]
        self._keyframes = {p: s for p, s in self._keyframes.items() if p >= cut}
        self.marks = [mark for mark in self.marks if mark.position >= cut]
        before = [blocks for position, blocks in self.pools if position <= cut]
        self.pools = [(cut, before[-1]), *(pool for pool in self.pools if pool[0] > cut)]
        self.first = cut
