"""The two clocks of a race: the machine's own, and one that moves as far as each step costs."""
from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

from labkit.glassbox.plan import Plan
from labkit.race.step_cost import StepCost


class RealClock:
    """Seconds of `perf_counter`; `origin` is when the race of this policy began."""

    def __init__(self) -> None:
        self.origin = perf_counter()
        self._pinned: float | None = None

    def __call__(self) -> float:
        return perf_counter() if self._pinned is None else self._pinned

    def wait_until(self, t: float) -> None:
        time.sleep(max(0.0, t - perf_counter()))

    @contextmanager
    def at(self, t: float) -> Iterator[None]:
        """It is `t` in here: a request that arrives while a step runs has arrived when it was due, not when the step is over."""
        self._pinned = t
        try:
            yield
        finally:
            self._pinned = None


class CostClock:
    """Seconds that steps have cost so far. Nothing waits: it is set forward."""

    def __init__(self) -> None:
        self.origin = self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def wait_until(self, t: float) -> None:
        self.now = max(self.now, t)

    @contextmanager
    def at(self, t: float) -> Iterator[None]:
        now, self.now = self.now, t
        try:
            yield
        finally:
            self.now = now


class CostRunner:
    """Takes the place of a model: sets the clock forward by what the step would have cost, and makes up the tokens."""

    def __init__(self, cost: StepCost, clock: CostClock, vocab_size: int) -> None:
        self.cost, self.clock, self.vocab_size = cost, clock, vocab_size

    def run(self, plan: Plan) -> dict[str, int]:
        self.clock.now += self.cost.seconds(plan)
        return {request.request_id: request.num_tokens % self.vocab_size for request in plan.sampling}
