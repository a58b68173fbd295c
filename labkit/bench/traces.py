"""Traces without a model: the glass box's own scheduler, block pool and tracer, driven by random arrivals; only the tokens are made up."""
from __future__ import annotations

import random

from labkit.glassbox.options import EngineOptions
from labkit.glassbox.plan import Plan
from labkit.glassbox.policies.chunked import ChunkedScheduler
from labkit.glassbox.request import Request
from labkit.glassbox.sampling_params import SamplingParams
from labkit.glassbox.tracing import Tracer
from labkit.trace import Event, Header, Run

STEP = 0.01  # seconds


class Recording:
    """A recorder that keeps events in a list and asks for a snapshot every `snapshot_every` of them."""

    def __init__(self, header: Header, snapshot_every: int):
        self.header, self.snapshot_every = header, snapshot_every
        self.events: list[Event] = []
        self.wants_snapshot = False

    def emit(self, event: Event) -> None:
        self.events.append(event)
        self.wants_snapshot = len(self.events) % self.snapshot_every == 0


def header(blocks: int, block_size: int, context: int) -> Header:
    configuration = {"block_size": block_size, "num_blocks": blocks, "null_blocks": 0, "max_model_len": context}
    return Header("glassbox", "live", {"labkit": "0.1.0"}, "tiny", configuration, {}, 0, "2026-11-22T10:00:00+00:00", name="a test")


def record(seed: int, *, steps: int = 120, blocks: int = 24, block_size: int = 4, rate: float = 0.35, seqs: int = 6, longest: int = 40,
           snapshot_every: int = 1 << 60, pools: dict[int, int] | None = None) -> Run:
    """A run in which prompts share prefixes, chunks mix with decodes, requests are cancelled and, with few blocks, preempted. pools: step
    from which on the pool has another number of blocks, as when a running engine is quantized."""
    rng, context = random.Random(seed), min(blocks * block_size, 2 * longest)
    options = EngineOptions(block_size=block_size, num_gpu_blocks_override=blocks, max_num_seqs=seqs, max_num_batched_tokens=2 * longest)
    options.max_model_len = context
    scheduler = ChunkedScheduler(options)
    recording = Recording(header(blocks, block_size, context), snapshot_every)
    tracer = Tracer(recording, scheduler)
    stem = [rng.randrange(5) for _ in range(longest)]
    number = 0
    while number < steps:
        number += 1
        now, finished = number * STEP, {}  # the step runs in the second half of the time since the last one
        if rng.random() < rate:
            prompt = stem[:rng.choice([0, longest // 3, longest // 2])] + [rng.randrange(5) for _ in range(rng.randint(1, longest // 2))]
            request = Request(f"r{number}", prompt, SamplingParams(max_tokens=rng.randint(1, longest)), arrival=now - 0.8 * STEP)
            scheduler.add(request)
            tracer.arrive(request)
        if scheduler.requests and rng.random() < 0.05:
            victim = rng.choice(list(scheduler.requests.values()))
            scheduler.finish(victim, "abort")
            tracer.step(number, now - 0.6 * STEP, now - 0.6 * STEP, Plan(), {}, {victim.request_id: "abort"})
            number, now = number + 1, now + STEP
        if number in (pools or {}):
            plan = Plan()
            for request in reversed(scheduler.running.copy()):
                scheduler.preempt(plan, request)
            scheduler.resize(pools[number])
            tracer.step(number, now - 0.6 * STEP, now - 0.55 * STEP, plan, {}, {}, pools[number])
            number, now = number + 1, now + STEP
        plan = scheduler.schedule(now)
        sampling, sampled = plan.sampling, {}
        scheduler.advance(plan)
        for request in sampling:
            sampled[request.request_id] = rng.randrange(5)
            request.token_ids.append(sampled[request.request_id])
            if request.num_output_tokens >= request.params.max_tokens or request.num_tokens >= context:
                scheduler.finish(request, "length")
                finished[request.request_id] = "length"
        tracer.step(number, now - STEP / 2, now, plan, sampled, finished)
    return Run(recording.header, recording.events)
