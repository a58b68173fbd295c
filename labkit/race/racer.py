"""`Racer`: one policy with its engine, its pool and its clock, working through a workload."""
from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

from labkit.glassbox.engine import Engine, RunnerLike
from labkit.glassbox.refusal import Overloaded
from labkit.glassbox.sampling_params import SamplingParams
from labkit.glassbox.scheduler import Scheduler
from labkit.race.clock import CostClock, RealClock
from labkit.race.workload import Item, Workload
from labkit.trace import Event, Header, Run


class Feed:
    """The recorder of a racer: keeps every event and tells whoever watches."""

    wants_snapshot = False

    def __init__(self, header: Header, tell: Callable[[Event], None]) -> None:
        self.header, self.tell = header, tell
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)
        self.tell(event)


class Racer:
    """`advance` until it returns False. `broken` is what the policy raised, after which it races no more."""

    def __init__(self, scheduler: Scheduler, runner: RunnerLike, workload: Workload, clock: RealClock | CostClock, feed: Feed) -> None:
        self.feed, self.clock = feed, clock
        self.engine = Engine(scheduler, runner, recorder=feed, clock=clock)
        self.pending: deque[tuple[str, Item]] = deque((f"r{number}", item) for number, item in enumerate(workload.items))
        self.broken: Exception | None = None
        self.refused: list[str] = []  # turned away at the door

    @property
    def run(self) -> Run:
        """What has happened so far."""
        return Run(self.feed.header, list(self.feed.events))

    @property
    def now(self) -> float:
        """Seconds since its start."""
        return self.clock() - self.clock.origin

    def advance(self) -> bool:
        """Take in what has arrived, then make one step or wait for the next thing that can happen. False: everything has ended."""
        try:
            return self._advance()
        except Exception as error:  # a policy is anybody's code: it ends its own race, not the others'
            self.broken = error
            return False

    def _advance(self) -> bool:
        self._take_arrived()
        engine = self.engine
        if not engine.has_unfinished():
            if not self.pending:
                return False
            self.clock.wait_until(self._due)
            return True
        engine.scheduler.draining = not self.pending
        engine.step()
        if engine.num_step_tokens == 0 and engine.wait_until is not None:
            self.clock.wait_until(min(engine.wait_until, self._due))
        return True

    @property
    def _due(self) -> float:
        """When the next request arrives, on its clock."""
        return self.clock.origin + self.pending[0][1].arrival if self.pending else math.inf

    def _take_arrived(self) -> None:
        while self.pending and self._due <= self.clock():
            due = self._due
            name, item = self.pending.popleft()
            params = SamplingParams(max_tokens=item.max_tokens, temperature=0.0, ignore_eos=True, detokenize=False)
            with self.clock.at(due):
                try:
                    self.engine.add_request(item.prompt, params, name, item.priority)
                except Overloaded:
                    self.refused.append(name)
