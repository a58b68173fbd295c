"""The glass box without HTTP: beside transformers' static batches on ragged outputs, and its decode step beside the machine's roofline."""
from __future__ import annotations

import os
import random
import statistics
import sys
import time
from dataclasses import asdict, dataclass
from typing import Any

from labkit.bench.report import parser, write

VOCABULARY = 2048


@dataclass(slots=True)
class Setting:
    """Lengths are tokens, drawn evenly from (low, high)."""

    requests: int = 128
    batch: int = 32
    prompt: tuple[int, int] = (16, 64)
    output: tuple[int, int] = (8, 128)
    pairs: int = 3
    seed: int = 0

    def draw(self) -> list[tuple[list[int], int]]:
        """(prompt, output tokens) of each request."""
        rng = random.Random(self.seed)
        return [([rng.randrange(16, VOCABULARY) for _ in range(rng.randint(*self.prompt))], rng.randint(*self.output))
                for _ in range(self.requests)]


def main(argv: list[str]) -> int:
    """Tokens per second against transformers' generate in batches of the same size, and a decode step against its shortest time."""
    import torch

    default = Setting()
    parse = parser("offline", main.__doc__)
    parse.add_argument("--requests", type=int, default=default.requests, help="(default: %(default)s)")
    parse.add_argument("--batch", type=int, default=default.batch, help="requests at once (default: %(default)s)")
    parse.add_argument("--pairs", type=int, default=default.pairs, help="runs of each, taking turns (default: %(default)s)")
    parse.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of both (default: %(default)s)")
    options = parse.parse_args(argv)
    torch.set_num_threads(options.threads)
    setting = Setting(options.requests, options.batch, pairs=options.pairs)
    result = {"threads": options.threads, "load_average": round(os.getloadavg()[0], 2), **against_transformers(setting)}
    result["decode"] = [decode(options.batch, context, options.threads) for context in (64, 512)]
    write("offline", ["offline", *argv], options, result)
    return 0


def against_transformers(setting: Setting) -> dict[str, Any]:
    """`ratio`: glass box over transformers, median of pairs. A static batch runs until its longest member ends; what others are given
    beyond their own length is not counted as output."""
    requests = setting.draw()
    wanted = sum(tokens for _, tokens in requests)
    ways = {"glassbox": glassbox(setting), "transformers": transformers(setting)}
    for run in ways.values():
        run(requests[: setting.batch])
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for pair in range(setting.pairs):
        for name in ways if pair % 2 == 0 else reversed(ways):
            began = time.perf_counter()
            ways[name](requests)
            rates[name].append(round(wanted / (time.perf_counter() - began), 1))
        print(", ".join(f"{name} {done[-1]:.0f} tok/s" for name, done in rates.items()), file=sys.stderr, flush=True)
    ratios = [ours / theirs for ours, theirs in zip(rates["glassbox"], rates["transformers"], strict=True)]
    return {"setting": asdict(setting), "output_tokens": wanted, "ratio": round(statistics.median(ratios), 3), "tokens_per_s": rates}


def glassbox(setting: Setting):
    from labkit.glassbox import Engine, EngineOptions, SamplingParams
    from labkit.models import folder

    blocks = setting.batch * (-(-(setting.prompt[1] + setting.output[1]) // 16) + 1)
    options = EngineOptions(max_num_seqs=setting.batch, num_gpu_blocks_override=max(blocks, 128), enable_prefix_caching=False)
    engine = Engine.from_folder(folder("tiny"), options)

    def run(requests: list[tuple[list[int], int]]) -> None:
        params = [SamplingParams(max_tokens=tokens, temperature=0.0, ignore_eos=True, detokenize=False) for _, tokens in requests]
        engine.generate([prompt for prompt, _ in requests], params)

    return run


def transformers(setting: Setting):
    import torch
    from transformers import AutoModelForCausalLM

    from labkit.models import folder

    model = AutoModelForCausalLM.from_pretrained(folder("tiny"), dtype=torch.float32).eval()

    def run(requests: list[tuple[list[int], int]]) -> None:
        for start in range(0, len(requests), setting.batch):
            batch = requests[start : start + setting.batch]
            width, longest = max(len(prompt) for prompt, _ in batch), max(tokens for _, tokens in batch)
            ids = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt, _ in batch])
            mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt, _ in batch])
            with torch.inference_mode():
                model.generate(ids, attention_mask=mask, max_new_tokens=longest, min_new_tokens=longest, do_sample=False, pad_token_id=0)

    return run


def decode(batch: int, context: int, threads: int, steps: int = 40) -> dict[str, Any]:
    """Seconds of whole engine steps that decode `batch` requests at about `context` tokens, and the roofline's bound, measured then."""
    from labkit.glassbox import Engine, EngineOptions, SamplingParams
    from labkit.models import folder
    from labkit.models.shapes import shapes
    from labkit.planning import bound, measure, work

    shape = shapes()["tiny"]
    blocks = batch * (-(-(context + 2 * steps) // 16) + 1)
    options = EngineOptions(num_gpu_blocks_override=max(blocks, 128), max_num_seqs=batch, max_num_batched_tokens=2048)
    engine = Engine.from_folder(folder("tiny"), options)
    rng = random.Random(0)
    for _ in range(batch):
        prompt = [rng.randrange(16, VOCABULARY) for _ in range(context - steps // 2)]
        engine.add_request(prompt, SamplingParams(max_tokens=2 * steps, temperature=0.0, ignore_eos=True, detokenize=False))
    while any(request.num_uncomputed_tokens > 1 for request in engine.scheduler.requests.values()):
        engine.step()
    times = []
    for _ in range(steps):
        began = time.perf_counter()
        engine.step()
        times.append(time.perf_counter() - began)
    needed = work(shape, [(context, 1)] * batch)
    ceilings = measure(needed.weights + needed.kv_read, threads=threads)  # what a step reads, which the next one reads again
    shortest = bound(needed, ceilings)
    seconds = statistics.median(times)
    return {"batch": batch, "context": context, "seconds": seconds, "best_seconds": min(times), "bound_seconds": shortest.seconds,
            "bound_by": shortest.limit, "over_bound": round(seconds / shortest.seconds, 2),
            "best_over_bound": round(min(times) / shortest.seconds, 2), "ceilings": asdict(ceilings)}
