"""A glass box that is quantized while it serves: blocks and requests at once before and after, nobody lost, tokens as they have to be."""
from __future__ import annotations

import os
import statistics
import sys
import threading
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

from labkit.bench.report import parser, write
from labkit.trace import Run, Step

TIE = 0.05  # of logits

@dataclass(slots=True)
class Setting:
    """`requests` by `concurrency` users on a pool that holds a few of them; lengths are words and tokens, drawn evenly from (low, high)."""

    method: str = "rtn"
    bits: int | None = None  # the method's own
    kv_cache_dtype: str = "int8"
    requests: int = 120
    concurrency: int = 32
    blocks: int = 24  # of the pool, before
    block_size: int = 16  # tokens
    prompt: tuple[int, int] = (16, 48)
    output: tuple[int, int] = (48, 80)
    seed: int = 0

    @property
    def engine(self) -> dict[str, Any]:
        """Options of both engines. Checking every law after every step takes time too: speeds here are for comparison with each other."""
        sizes = {"block_size": self.block_size, "max_num_seqs": 2 * self.concurrency, "max_model_len": self.blocks * self.block_size}
        return sizes | {"check_invariants": True}


@dataclass(slots=True)
class Story:
    """What the trace tells: each request's prompt and tokens before the switch and after it, and who ran."""

    switch: int = 0  # number of the step that is the switch
    prompts: dict[str, list[int]] = field(default_factory=dict)
    limits: dict[str, int] = field(default_factory=dict)  # request -> max_tokens
    before: dict[str, list[int]] = field(default_factory=dict)
    after: dict[str, list[int]] = field(default_factory=dict)
    ended: dict[str, str] = field(default_factory=dict)  # request -> why
    steps: list[Step] = field(default_factory=list)

    @property
    def last_arrival(self) -> int:
        return max(step.step for step in self.steps if step.arrived)


def main(argv: list[str]) -> int:
    """Load a glass box with a small pool over HTTP, quantize it in the middle, and read from its trace what became of everybody."""
    default = Setting()
    parse = parser("quantize", main.__doc__)
    parse.add_argument("--method", default=default.method, help="of labkit quantize (default: %(default)s)")
    parse.add_argument("--bits", type=int, help="default: the method's own")
    parse.add_argument("--kv-cache-dtype", default=default.kv_cache_dtype, help="(default: %(default)s)")
    parse.add_argument("--requests", type=int, default=default.requests, help="(default: %(default)s)")
    parse.add_argument("--concurrency", type=int, default=default.concurrency, help="users (default: %(default)s)")
    parse.add_argument("--blocks", type=int, default=default.blocks, help="of the pool, before (default: %(default)s)")
    options = parse.parse_args(argv)
    setting = Setting(options.method, options.bits, options.kv_cache_dtype, options.requests, options.concurrency, options.blocks)
    busy = round(os.getloadavg()[0], 2)
    story, changed, failures = demonstrate(setting)
    result = {"load_average": busy, "setting": asdict(setting), "engine": setting.engine, "switch": changed, "load_failures": failures}
    result |= summary(story, setting, changed)
    write("quantize", ["quantize", *argv], options, result)
    return 0 if not failures and not result["lost"] and not result["tokens"]["wrong"] else 1


def demonstrate(setting: Setting) -> tuple[Story, dict[str, Any], int]:
    """Serve, load, and quantize when a third of the requests is done. The story, what the switch said, and how many requests failed."""
    from labkit.load.prompts import Prompts
    from labkit.load.run import load
    from labkit.servers import serve
    from labkit.trace.runfile import read_idle

    changed: dict[str, Any] = {}
    with serve("glassbox", share=False, progress=False, num_gpu_blocks_override=setting.blocks, **setting.engine) as server:
        switching = threading.Thread(
            target=lambda: changed.update(server.quantize(setting.method, bits=setting.bits, kv_cache_dtype=setting.kv_cache_dtype))
        )

        def when_a_third_is_done(progress: Any) -> None:
            if progress.done >= setting.requests // 3 and switching.ident is None:
                switching.start()

        prompts = Prompts(length=setting.prompt, max_tokens=setting.output)
        done = load(server, setting.requests, concurrency=setting.concurrency, seed=setting.seed, prompts=prompts, request_timeout=600.0,
                    extra={"ignore_eos": True}, progress=False, on_progress=when_a_third_is_done)
        switching.join()
        failures = setting.requests - sum(record.error is None for record in done.records)
        return tell(read_idle(server.run_file)), changed, failures


def tell(run: Run) -> Story:
    """The story of a run with one switch in it."""
    story = Story()
    for step in run.events:
        if not isinstance(step, Step):
            continue
        story.steps.append(step)
        story.switch = step.step if step.num_blocks else story.switch
        for name, arrival in step.arrived.items():
            story.prompts[name], story.limits[name] = arrival.token_ids, arrival.max_tokens
        for name, tokens in step.sampled.items():
            (story.after if story.switch else story.before).setdefault(name, []).extend(tokens)
        story.ended |= step.finished
    return story


def summary(story: Story, setting: Setting, changed: dict[str, Any]) -> dict[str, Any]:
    """Figures. Before: from the first request that had to wait to the switch; after: from the switch to the last arrival, when as many
    users asked."""
    crowded = next(step.step for step in story.steps if step.waiting)
    before = [step for step in story.steps if crowded <= step.step < story.switch and step.scheduled]
    after = [step for step in story.steps if story.switch < step.step <= story.last_arrival and step.scheduled]
    asked = {name: len(story.before.get(name, [])) + len(story.after.get(name, [])) for name in story.prompts}
    lost = [name for name, tokens in asked.items() if story.ended.get(name) != "length" or tokens != story.limits[name]]
    return {
        "blocks": {"before": changed["num_blocks_before"], "after": changed["num_blocks_after"]},
        "running": {"before": at_once(before), "after": at_once(after)},
        "waiting": {"before": max(step.waiting for step in before), "after": min((step.waiting for step in after), default=0)},
        "tokens_per_s": {"before": rate(before), "after": rate(after)},
        "step_ms": {name: round(statistics.median(step.ms for step in steps), 2) for name, steps in (("before", before), ("after", after))},
        "requests": len(story.prompts),
        "lost": len(lost),
        "tokens": compare(story, setting, changed),
    }


def at_once(steps: list[Step]) -> dict[str, float]:
    return {"median": statistics.median(step.running for step in steps), "most": max(step.running for step in steps)}


def rate(steps: list[Step]) -> float:
    """Tokens per second of the engine, from the end of the first step to the end of the last."""
    seconds = sum(b.t - a.t for a, b in pairwise(steps))
    return round(sum(len(tokens) for step in steps[1:] for tokens in step.sampled.values()) / seconds, 1)


def compare(story: Story, setting: Setting, changed: dict[str, Any]) -> dict[str, Any]:
    """Tokens after the switch beside those of an engine that started quantized and got prompt and output so far.

    Where two logits are as good as equal, sums in another order decide otherwise: a first difference counts as `wrong` where the best
    logit of the engine that started so is more than `TIE` above the next one. What comes after a difference is not compared.
    """
    from labkit.glassbox import Engine, EngineOptions, SamplingParams
    from labkit.models import folder

    options = EngineOptions(
        **setting.engine, num_gpu_blocks_override=changed["num_blocks_after"], quantization=setting.method, quantization_bits=setting.bits,
        kv_cache_dtype=setting.kv_cache_dtype,
    )  # fmt: skip
    engine = Engine.from_folder(folder("tiny"), options)
    gaps, sampler = {name: [] for name in story.after}, engine.runner.sampler

    def noting(logits: Any, requests: list) -> list[int]:
        top = logits.topk(2).values
        for request, gap in zip(requests, (top[:, 0] - top[:, 1]).tolist(), strict=True):
            gaps[request.request_id].append(gap)
        return sampler(logits, requests)

    engine.runner.sampler = noting
    for name, tokens in story.after.items():
        sofar = story.prompts[name] + story.before.get(name, [])
        engine.add_request(sofar, SamplingParams(max_tokens=len(tokens), temperature=0.0, ignore_eos=True, detokenize=False), name)
    found: dict[str, list[int]] = {}
    while engine.has_unfinished():
        for output in engine.step():
            found.setdefault(output.request_id, []).extend(output.token_ids)
    parted, same = [], 0
    for name, tokens in story.after.items():
        at = next((i for i, (ours, theirs) in enumerate(zip(tokens, found[name], strict=True)) if ours != theirs), None)
        same += len(tokens) if at is None else at
        if at is not None:
            parted.append({"at": at, "of": len(tokens), "gap": round(gaps[name][at], 4)})
    moved = sum(name in story.before for name in story.after)
    print(f"{len(story.after) - len(parted)} of {len(story.after)} requests equal, {same} tokens", file=sys.stderr)
    return {
        "requests": len(story.after), "switched_in_the_middle": moved, "equal_requests": len(story.after) - len(parted),
        "equal_tokens": same, "all_tokens": sum(map(len, story.after.values())), "parted": parted,
        "wrong": sum(each["gap"] > TIE for each in parted),
    }  # fmt: skip
