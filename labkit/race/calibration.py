"""`calibrate`: a short run of the real engine, whose measured steps become a `StepCost`."""
from __future__ import annotations

import gc
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from time import perf_counter

from labkit.glassbox.engine import Engine, RunnerLike
from labkit.glassbox.options import EngineOptions
from labkit.glassbox.plan import Plan
from labkit.glassbox.policies import make_scheduler
from labkit.glassbox.sampling_params import SamplingParams
from labkit.race.step_cost import FEWEST, StepCost, amounts

BUDGETS = (32, 64, 128, 256, 512)  # tokens of a step
CROWDS = (1, 2, 4, 8, 16)  # requests at once
SHORTEST, LONGEST, OUTPUTS = 4, 600, (2, 20)  # tokens


class Stopwatch:
    """A runner that notes what each step had to do."""

    def __init__(self, runner: RunnerLike) -> None:
        self.runner, self.vocab_size = runner, runner.vocab_size
        self.amounts: tuple[float, ...] = ()

    def run(self, plan: Plan) -> dict[str, int]:
        self.amounts = amounts(plan)
        return self.runner.run(plan)


def calibrate(model: str = "tiny", *, seconds: float = 3.0, seed: int = 0, device: str = "auto") -> StepCost:
    """Measure mixed steps of the real engine for `seconds`: batches of 1 to 16, prompts up to 600 tokens, in chunks of all sizes.

    A step is measured whole: scheduling, computing, sampling and what the engine does besides.
    """
    from labkit.glassbox.build import build_runner
    from labkit.glassbox.warm_up import warm_up
    from labkit.models.registry import folder

    options = EngineOptions(num_gpu_blocks_override=1024, max_num_seqs=max(CROWDS), max_model_len=2 * LONGEST, enable_prefix_caching=False,
                            max_num_batched_tokens=max(BUDGETS), device=device)
    runner, config = build_runner(folder(model), options)
    rng, watch, measured = random.Random(seed), Stopwatch(runner), []

    def going_on() -> bool:
        return perf_counter() < begin + seconds or len(measured) < FEWEST

    with undisturbed():
        warm_up(runner, options)
        begin = perf_counter()
        while going_on():
            engine = Engine(make_scheduler("chunked", replace(options, max_num_batched_tokens=rng.choice(BUDGETS))), watch)
            for _ in range(rng.choice(CROWDS)):
                length = round(SHORTEST * (LONGEST / SHORTEST) ** rng.random())
                engine.add_request([rng.randrange(config.vocab_size) for _ in range(length)], _exactly(rng.randint(*OUTPUTS)))
            while engine.has_unfinished() and going_on():
                started = perf_counter()
                engine.step()
                measured.append((watch.amounts, 1e3 * (perf_counter() - started)))
    return StepCost.fit(measured, {"model": model, "seconds": seconds, "seed": seed})


@contextmanager
def undisturbed() -> Iterator[None]:
    """Times that are the engine's own. Torch computes on all cores but one, as in the server: a thread that waits for a core holds up all
    the others. And what a notebook has made so far is not looked through for garbage: that took 150 ms in the middle of a race."""
    import torch

    before = torch.get_num_threads()
    try:
        if "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) - 1))
        gc.collect()
        gc.freeze()
        yield
    finally:
        gc.unfreeze()
        torch.set_num_threads(before)


def _exactly(tokens: int) -> SamplingParams:
    return SamplingParams(max_tokens=tokens, temperature=0.0, ignore_eos=True, detokenize=False)
