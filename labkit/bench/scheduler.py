"""`labkit bench scheduler`: microseconds that `schedule()` takes, beside vLLM's own scheduler driven the same way. No model runs.

Both only compute, on one thread: its CPU time is what a quiet machine's clock would show, and other processes do not get into it.
"""
from __future__ import annotations

import argparse
import gc
import json
import os
import random
import subprocess
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import labkit
from labkit.bench import report

VOCABULARY = 2000


@dataclass(slots=True)
class Setting:
    """One measurement. With `churn` two of the running requests end in an average step, and as many come, half of each prompt shared."""

    running: int = 256  # requests
    blocks: int = 100_000  # that can be given out
    block_size: int = 16  # tokens
    prompt: int = 512  # tokens
    max_num_batched_tokens: int = 8192
    max_model_len: int = 2048
    steps: int = 300
    churn: bool = False
    seed: int = 0


class Subject(Protocol):
    """A scheduler under measurement. Times are nanoseconds of its thread."""

    def add(self, name: str, token_ids: list[int], max_tokens: int) -> None: ...

    def step(self, tokens: Iterator[int]) -> tuple[int, int, list[str]]:
        """Schedule and account for a token from `tokens` for each request that samples; (time of schedule(), time of both, who ended)."""


def measure(subject: Subject, setting: Setting) -> dict[str, list[float]]:
    """Fill the batch, then time `steps` steps: microseconds of schedule(), and of all that the scheduler does in a step."""
    rng = random.Random(setting.seed)
    tokens = iter(lambda: rng.randrange(VOCABULARY), None)
    stems = [[rng.randrange(VOCABULARY) for _ in range(setting.prompt // 2)] for _ in range(8)]
    names = iter(range(1 << 30))

    def arrive() -> int:
        own = [rng.randrange(VOCABULARY) for _ in range(setting.prompt // 2 + rng.randrange(setting.block_size))]
        prompt, output = rng.choice(stems) + own, rng.randint(1, setting.running) if setting.churn else setting.max_model_len
        began = time.thread_time_ns()
        subject.add(f"r{next(names)}", prompt, output)
        return time.thread_time_ns() - began

    for _ in range(setting.running):
        arrive()
    for _ in range(2 * setting.running * setting.prompt // setting.max_num_batched_tokens):  # all prompts are in, and a little more
        for _ in subject.step(tokens)[2]:
            arrive()
    gc.collect()
    gc.freeze()  # as both engines do: what is here to stay is not looked through again
    times: dict[str, list[float]] = {"schedule": [], "step": []}
    adding = 0
    for _ in range(setting.steps):
        schedule, both, ended = subject.step(tokens)
        times["schedule"].append(schedule / 1e3)
        times["step"].append((both + adding) / 1e3)
        adding = sum(arrive() for _ in ended)
    gc.unfreeze()
    return times


class GlassBox:
    """The engine with the chunked policy, and a runner that draws its tokens. schedule() includes `advance`, as vLLM's does."""

    vocab_size = VOCABULARY

    def __init__(self, setting: Setting) -> None:
        from labkit.glassbox.engine import Engine
        from labkit.glassbox.options import EngineOptions
        from labkit.glassbox.policies import make_scheduler
        from labkit.glassbox.sampling_params import SamplingParams

        options = EngineOptions(
            block_size=setting.block_size,
            num_gpu_blocks_override=setting.blocks,
            max_num_seqs=setting.running,
            max_num_batched_tokens=setting.max_num_batched_tokens,
            max_model_len=setting.max_model_len,
        )
        self.scheduler = make_scheduler("chunked", options)
        self.engine, self.params = Engine(self.scheduler, self), SamplingParams
        self._schedule, self._advance = self.scheduler.schedule, self.scheduler.advance
        self.scheduler.schedule, self.scheduler.advance = self._timed(self._schedule), self._timed(self._advance)
        self.scheduling = self.running = 0

    def add(self, name: str, token_ids: list[int], max_tokens: int) -> None:
        self.engine.add_request(token_ids, self.params(max_tokens=max_tokens, temperature=0.0, ignore_eos=True), name)

    def step(self, tokens: Iterator[int]) -> tuple[int, int, list[str]]:
        self.tokens, self.scheduling, self.running = tokens, 0, 0
        began = time.thread_time_ns()
        outputs = self.engine.step()
        both = time.thread_time_ns() - began - self.running
        return self.scheduling, both, [output.request_id for output in outputs if output.finished]

    def run(self, plan: Any) -> dict[str, int]:
        """The runner's part, which is not counted."""
        began = time.thread_time_ns()
        sampled = {request.request_id: next(self.tokens) for request in plan.sampling}
        self.running = time.thread_time_ns() - began
        return sampled

    def _timed(self, function: Any) -> Any:
        def call(argument: Any) -> Any:
            began = time.thread_time_ns()
            result = function(argument)
            self.scheduling += time.thread_time_ns() - began
            return result

        return call


class VllmChild:
    """vLLM's scheduler in vLLM's own environment: a process that answers settings with times, one line of JSON each."""

    def __init__(self) -> None:
        from labkit.environments.install import environment
        from labkit.models import folder

        root = str(Path(labkit.__file__).parents[1])
        environ = {**os.environ, "PYTHONPATH": root, "VLLM_LOGGING_LEVEL": "ERROR"}
        command = [str(environment("vllm").python), "-P", "-m", "labkit.bench.vllm_scheduler", str(folder("tiny"))]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environ, text=True, bufsize=1)
        self.version = self._read()["version"]

    def measure(self, setting: Setting) -> dict[str, list[float]]:
        self._process.stdin.write(json.dumps(asdict(setting)) + "\n")
        return self._read()

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait(30)

    def _read(self) -> dict[str, Any]:
        for line in self._process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise RuntimeError(f"vLLM's scheduler could not be measured: its process ended with {self._process.wait()}; see the lines above")


def main(argv: list[str]) -> int:
    """Alternate both in rounds; exit status 1 if the glass box is slower in the median."""
    parse = report.parser("scheduler", "Microseconds a step of the chunked policy's schedule(), beside vLLM's own scheduler.")
    parse.add_argument("--rounds", type=int, default=5, help="of each scheduler in each scenario (default %(default)s)")
    parse.add_argument("--steps", type=int, default=Setting().steps, help="timed in a round (default %(default)s)")
    options = parse.parse_args(argv)
    child = VllmChild()
    try:
        result = {"decode": compare(child, options, churn=False), "churn": compare(child, options, churn=True)}
    finally:
        child.close()
    ratios = [scenario["ratio"] for scenario in result.values()]
    setting = {name: value for name, value in asdict(Setting()).items() if name not in ("steps", "churn", "seed")}
    about = {"vllm": child.version, "setting": setting, "clock": "CPU time of the thread", "rounds": options.rounds, "steps": options.steps}
    report.write("scheduler", ["scheduler", *argv], options, {**about, **result})
    return 0 if min(ratios) >= 1 else 1


def compare(child: VllmChild, options: argparse.Namespace, churn: bool) -> dict[str, Any]:
    times: dict[str, dict[str, list[float]]] = {name: {"schedule": [], "step": []} for name in ("glassbox", "vllm")}
    for number in range(options.rounds):
        setting = Setting(steps=options.steps, churn=churn, seed=number)
        for name, measured in (("glassbox", measure(GlassBox(setting), setting)), ("vllm", child.measure(setting))):
            for part, values in measured.items():
                times[name][part] += values
    summary = {name: {f"{part}_us": summarize(values) for part, values in parts.items()} for name, parts in times.items()}
    ratio = {part: summary["vllm"][f"{part}_us"]["median"] / summary["glassbox"][f"{part}_us"]["median"] for part in ("schedule", "step")}
    return {**summary, "ratio": round(ratio["schedule"], 2), "ratio_step": round(ratio["step"], 2)}


def summarize(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    picks = {"least": 0.0, "median": 0.5, "p90": 0.9, "p99": 0.99}
    return {name: round(ordered[int(share * (len(ordered) - 1))], 1) for name, share in picks.items()}
