"""Runs for the views to show: policies on one small trace. `static` and `dynamic` are written down event by event, `real` ones come from
the glass box's own policies and engine; all keep time by one formula."""
from __future__ import annotations

import math
from collections.abc import Callable

from labkit.glassbox.engine import Engine
from labkit.glassbox.options import EngineOptions
from labkit.glassbox.plan import Plan
from labkit.glassbox.policies import make_scheduler
from labkit.glassbox.refusal import Overloaded
from labkit.glassbox.sampling_params import SamplingParams
from labkit.glassbox.slot_runner import SlotRunner
from labkit.trace import Arrival, Event, Header, Run, Step, Tape

WORKLOAD = [(0, 180, 46), (18, 60, 20), (35, 420, 64), (120, 96, 14), (165, 240, 52), (190, 64, 30), (260, 520, 40), (300, 80, 58),
            (390, 150, 22), (430, 300, 36)]  # arrival ms, prompt, output
SIZE, BLOCKS, CAPACITY, BUDGET = 16, 100, 4, 256
RULES = {"static": "wait for 4 requests, pad, run until the longest is done",
         "dynamic": "start with whoever came within 60 ms (at most 4), then as static",
         "chunked": f"every step: all decodes first, then prefill chunks up to {BUDGET} tokens"}


def cost(prefill: int, decode: int) -> float:
    """Seconds of a step."""
    return (7 + 0.055 * prefill + 0.28 * decode) / 1e3


def header(badge: str = "live", blocks: int = BLOCKS, **configuration) -> Header:
    shape = {"block_size": SIZE, "num_blocks": blocks, "null_blocks": 0, "max_num_batched_tokens": BUDGET, "enable_chunked_prefill": True,
             **configuration}
    return Header("glassbox", badge, {"labkit": "0.1.0"}, "tiny", shape, {}, 0, "2026-11-24T10:00:00+00:00", name="step-cost clock")


def batches(choose: Callable[[list[tuple], float], tuple[list[tuple], float]], workload=None) -> list[Event]:
    """Request-level batching: prompts padded to the longest, every slot and every block held until the longest answer is done."""
    queue = [(f"r{i}", at / 1e3, prompt, output) for i, (at, prompt, output) in enumerate(workload or WORKLOAD)]
    events, t, number, told = [], 0.0, 0, 0
    everyone = list(queue)

    def emit(end: float, ms: float, waiting: int, running: int, **what) -> None:
        nonlocal number, told
        new = [r for r in everyone[told:] if r[1] <= end - ms / 1e3 + 1e-9]
        told += len(new)
        number += 1
        arrived = {name: Arrival(prompt, output, at, list(range(prompt))) for name, at, prompt, output in new}
        events.append(Step(number, end, ms, arrived=arrived, waiting=waiting, running=running, **what))

    while queue:
        batch, t = choose(queue, t)
        queue = [r for r in queue if r not in batch]
        longest, most = max(r[2] for r in batch), max(r[3] for r in batch)
        free = iter(range(BLOCKS))
        given = {r[0]: [next(free) for _ in range(-(-(r[2] + r[3]) // SIZE))] for r in batch}
        ms = 1e3 * cost(longest * len(batch), 0)
        t += ms / 1e3
        emit(t, ms, len([r for r in queue if r[1] <= t]), len(batch), scheduled={r[0]: r[2] for r in batch}, given=given,
             padding={r[0]: longest - r[2] for r in batch if r[2] < longest}, sampled={r[0]: [1] for r in batch})
        for k in range(1, most):
            busy = [r for r in batch if k < r[3]]
            ms = 1e3 * cost(0, len(batch))
            t += ms / 1e3
            emit(t, ms, len([r for r in queue if r[1] <= t]), len(busy), scheduled={r[0]: 1 for r in busy},
                 padding={r[0]: 1 for r in batch if r not in busy}, sampled={r[0]: [1] for r in busy},
                 finished={r[0]: "length" for r in busy if k + 1 == r[3]}, held=[r[0] for r in busy if k + 1 == r[3] < most],
                 released=[r[0] for r in batch if r[3] < most] if k + 1 == most else [])
    return events


def static() -> Run:
    return Run(header(policy="static"), batches(lambda queue, t: (queue[:CAPACITY], max(t, queue[:CAPACITY][-1][1]))))


def dynamic(delay: float = 0.06) -> Run:
    def choose(queue: list[tuple], t: float) -> tuple[list[tuple], float]:
        begin = max(t, queue[0][1])
        if len([r for r in queue if r[1] <= begin]) >= CAPACITY:
            return queue[:CAPACITY], begin
        limit = max(begin, queue[0][1] + delay)
        batch = [r for r in queue if r[1] <= limit][:CAPACITY]
        return batch, max(begin, batch[-1][1]) if len(batch) == CAPACITY else limit
    return Run(header(policy="dynamic"), batches(choose))


class CostClock:
    """Stands still but for what is added to it."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class CostRunner(SlotRunner):
    """A runner without a model that takes the time a step costs."""

    def __init__(self, clock: CostClock) -> None:
        super().__init__(SIZE)
        self.clock = clock

    def run(self, plan: Plan) -> dict[str, int]:
        decodes = sum(r.num_computed_tokens >= r.num_prompt_tokens and plan.num_scheduled_tokens[r.request_id] == 1 for r in plan.requests)
        padded = sum(plan.padding.get(r.request_id, 0) for r in plan.requests)
        self.clock.now += cost(plan.total_num_scheduled_tokens - decodes + padded, decodes + len(plan.held))
        return super().run(plan)


def real(policy: str, workload=None, blocks: int = BLOCKS, **parameters) -> Run:
    """A policy of the glass box on a workload: its own engine and trace, with a clock that adds up what steps cost."""
    options = EngineOptions(block_size=SIZE, num_gpu_blocks_override=blocks, max_num_seqs=16, max_num_batched_tokens=BUDGET,
                            enable_prefix_caching=False)
    options.max_model_len = blocks * SIZE
    scheduler, clock = make_scheduler(policy, options, **parameters), CostClock()
    tape = Tape(header(policy=policy, blocks=blocks, max_num_batched_tokens=parameters.get("max_num_batched_tokens", BUDGET)))
    engine = Engine(scheduler, CostRunner(clock), recorder=tape, clock=clock)
    coming = [(at / 1e3, f"r{i}", prompt, output) for i, (at, prompt, output) in enumerate(workload or WORKLOAD)]
    while coming or engine.has_unfinished():
        while coming and coming[0][0] <= clock.now:
            at, name, prompt, output = coming.pop(0)
            told, clock.now = clock.now, at
            try:
                engine.add_request(range(prompt), SamplingParams(max_tokens=output, ignore_eos=True, detokenize=False), name)
            except Overloaded:
                pass
            clock.now = told
        scheduler.draining = not coming
        before = clock.now
        if engine.has_unfinished():
            engine.step()
        if clock.now == before:
            due = [coming[0][0]] if coming else []
            clock.now = max(before, min([*due, engine.wait_until if engine.wait_until is not None else math.inf]))
    return tape.run


def chunked(workload=None, blocks: int = BLOCKS, seqs: int = 16, budget: int = BUDGET) -> Run:
    """With few blocks, requests are preempted."""
    return real("chunked", workload, blocks, max_num_seqs=seqs, max_num_batched_tokens=budget)


def race() -> dict[str, Run]:
    return {"static": static(), "dynamic": dynamic(), "chunked": chunked()}
