"""An engine driven without a model: tokens come from what stands in the slots of the pool."""
from __future__ import annotations

from dataclasses import dataclass, field

from labkit.glassbox.engine import Engine
from labkit.glassbox.options import EngineOptions
from labkit.glassbox.plan import Plan
from labkit.glassbox.policies import make_scheduler
from labkit.glassbox.request import Request
from labkit.glassbox.sampling_params import SamplingParams
from labkit.glassbox.scheduler import Scheduler
from labkit.glassbox.slot_runner import SlotRunner


def scheduler_of(policy="chunked", parameters: dict | None = None, **settings) -> Scheduler:
    """Options: a pool of 6 blocks of 4 tokens, unless told otherwise."""
    defaults = dict(block_size=4, num_gpu_blocks_override=6, max_model_len=24, max_num_seqs=4, max_num_batched_tokens=24)
    options = EngineOptions(**defaults | settings, check_invariants=True)
    options.resolve(context=options.max_model_len)
    return make_scheduler(policy, options, **parameters or {})


@dataclass
class Loop:
    """The engine with the checker on, on a clock that ticks once a step; `plans` has what was decided."""

    scheduler: Scheduler
    recorder: object = None
    now: float = 0.0  # seconds
    finished: dict[str, list[int]] = field(default_factory=dict)  # request id -> output tokens
    refused: dict[str, str] = field(default_factory=dict)  # request id -> message
    plans: list[Plan] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.runner = SlotRunner(self.scheduler.options.block_size)
        self.engine = Engine(self.scheduler, self.runner, recorder=self.recorder, clock=lambda: self.now)
        self.checker, self._schedule = self.engine.checker, self.scheduler.schedule
        self.scheduler.schedule = self._watch

    def add(self, name: str, prompt: list[int], max_tokens: int = 4, priority: int = 0) -> Request:
        self.now += 1e-6
        self.engine.add_request(prompt, SamplingParams(max_tokens=max_tokens, temperature=0.0), name, priority)
        return self.scheduler.requests[name]

    def cancel(self, name: str) -> None:
        self.engine.abort(name)
        self.checker.check(self.engine.step_number)

    def step(self) -> Plan:
        """One step of the engine; the clock goes on to the time that an empty plan names, otherwise by a second."""
        assert self.scheduler.has_unfinished(), "everybody has ended"
        requests = dict(self.scheduler.requests)
        for output in self.engine.step():
            if output.refusal is not None:
                self.refused[output.request_id] = output.refusal.message
            elif output.finished:
                self.finished[output.request_id] = requests[output.request_id].output_token_ids
        waits = self.engine.wait_until not in (None, float("inf"))
        self.now = self.engine.wait_until if waits else self.now + 1.0
        return self.plans[-1]

    def run(self, limit: int = 10_000) -> None:
        while self.scheduler.has_unfinished():
            assert self.engine.step_number < limit, "no end in sight"
            self.step()

    def alone(self, prompt: list[int], max_tokens: int) -> list[int]:
        """What a request's tokens must be, whatever runs beside it."""
        token_ids = list(prompt)
        while len(token_ids) - len(prompt) < max_tokens and len(token_ids) < self.scheduler.options.max_model_len:
            token_ids.append(self.runner.next_token(token_ids))
        return token_ids[len(prompt) :]

    def _watch(self, now: float) -> Plan:
        self.plans.append(self._schedule(now))
        return self.plans[-1]
