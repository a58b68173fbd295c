"""A scheduler driven without a model: tokens come from a function of what came before."""
from __future__ import annotations

from dataclasses import dataclass, field

from labkit.glassbox.invariants import Checker
from labkit.glassbox.options import EngineOptions
from labkit.glassbox.plan import Plan
from labkit.glassbox.policies.chunked import ChunkedScheduler
from labkit.glassbox.request import Request
from labkit.glassbox.sampling_params import SamplingParams


def next_token(token_ids: list[int]) -> int:
    return (sum(token_ids[-3:]) * 7 + len(token_ids)) % 5


def scheduler_of(**settings) -> ChunkedScheduler:
    options = EngineOptions(**settings)
    options.resolve(context=options.max_model_len)
    return ChunkedScheduler(options)


@dataclass
class Loop:
    """The engine's loop without its tensors, with the checker on."""

    scheduler: ChunkedScheduler
    step_number: int = 0
    finished: dict[str, list[int]] = field(default_factory=dict)
    plans: list[Plan] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.checker = Checker(self.scheduler)

    def add(self, name: str, prompt: list[int], max_tokens: int = 4) -> Request:
        request = Request(name, list(prompt), SamplingParams(max_tokens=max_tokens, temperature=0.0))
        self.scheduler.add(request)
        return request

    def cancel(self, name: str) -> None:
        self.scheduler.finish(self.scheduler.requests[name], "abort")
        self.checker.check(self.step_number)

    def step(self) -> Plan:
        assert self.scheduler.has_unfinished(), "everybody has ended"
        self.step_number += 1
        plan = self.scheduler.schedule(float(self.step_number))
        self.plans.append(plan)
        self.checker.check_plan(plan, self.step_number)
        sampling = plan.sampling
        self.scheduler.advance(plan)
        for request in sampling:
            request.token_ids.append(next_token(request.token_ids))
            full = request.num_tokens >= self.scheduler.options.max_model_len
            if request.num_output_tokens >= request.params.max_tokens or full:
                self.scheduler.finish(request, "length")
                self.finished[request.request_id] = request.output_token_ids
        self.checker.check(self.step_number)
        return plan

    def run(self, limit: int = 10_000) -> None:
        while self.scheduler.has_unfinished():
            assert self.step_number < limit, "no end in sight"
            self.step()
