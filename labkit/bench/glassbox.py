"""The glass box beside the real vLLM over HTTP: the same streamed load, the same model, float32, taking turns.

vLLM stands here in two ways: as the lab starts it, with its probe and without compiling, ready in seconds; and at its best, compiled and
with its own scheduler. Both have tcmalloc and libiomp. The glass box is as the lab starts it, and writes its trace.
"""
from __future__ import annotations

import os
import shutil
import statistics
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from labkit.bench.probe import STOCK
from labkit.bench.report import parser, write
from labkit.models.shapes import shapes, write_shape
from labkit.servers import serve

WAYS = {"glassbox": "glassbox", "vllm": "vllm", "vllm-compiled": "vllm"}  # and which server it is
BLOCK_SIZE = 32  # tokens; vLLM's CPU attention takes multiples of 32
SHAPES = ("5M", "50M", "500M")
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}  # of a number


@dataclass(slots=True)
class Setting:
    """One comparison: `requests` by `concurrency` users, all of whom begin at once. Lengths are tokens, drawn evenly from (low, high)."""

    shape: str = "tiny"  # "tiny" has its weights, any other name of `labkit.models.shapes` random ones
    requests: int = 96
    concurrency: int = 32
    prompt: tuple[int, int] = (16, 64)
    output: tuple[int, int] = (64, 64)
    rounds: int = 3  # fresh servers, taking turns
    runs: int = 3  # on each of them, after one that warms up
    dtype: str = "float32"  # of weights and KV cache

    @property
    def kv_tokens(self) -> int:
        """The same KV budget for both: room for every user's longest request."""
        each = self.prompt[1] + self.output[1]
        return self.concurrency * -(-each // BLOCK_SIZE) * BLOCK_SIZE


def main(argv: list[str]) -> int:
    """Tokens per second and time to first token of the glass box and of vLLM under the same streamed load. Needs a C++ compiler (g++)."""
    parse = parser("glassbox", main.__doc__)
    default = Setting()
    parse.add_argument("--requests", type=int, default=default.requests, help="of one run (default: %(default)s)")
    parse.add_argument("--concurrency", type=int, default=default.concurrency, help="(default: %(default)s)")
    parse.add_argument("--shape", choices=list(shapes()), default="tiny", help="of the main comparison (default: %(default)s)")
    parse.add_argument("--dtype", choices=list(BYTES), default=default.dtype, help="(default: %(default)s)")
    parse.add_argument("--rounds", type=int, default=default.rounds, help="fresh servers for each (default: %(default)s)")
    parse.add_argument("--runs", type=int, default=default.runs, help="on each server (default: %(default)s)")
    parse.add_argument("--quick", action="store_true", help="the main comparison alone: no other shapes, no longer contexts")
    options = parse.parse_args(argv)
    if shutil.which("g++") is None:
        parse.error("vLLM is compiled for this measurement, which needs a C++ compiler: install g++")
    load = {"concurrency": options.concurrency, "rounds": options.rounds, "runs": options.runs, "dtype": options.dtype}
    main_setting = Setting(options.shape, options.requests, **load)
    result = compare(main_setting)
    result["ragged"] = compare(Setting(options.shape, options.requests, output=(16, 112), **load))
    if not options.quick:
        once = load | {"rounds": 1, "runs": 2}
        result["shapes"] = {shape: compare(Setting(shape, options.concurrency, output=(16, 16) if shape == "500M" else (64, 64), **once))
                            for shape in SHAPES}
        result["contexts"] = {str(tokens): compare(Setting("tiny", options.concurrency, prompt=(tokens, tokens), **once))
                              for tokens in (256, 512, 1024)}
    write("glassbox", ["glassbox", *argv], options, result)
    return 0


def compare(setting: Setting) -> dict[str, Any]:
    """Rounds of fresh servers, every other round in the other order. Ratios are the glass box's median over that of each way of vLLM;
    `ratio` and `ttft_ratio` over the better of them."""
    runs: dict[str, list[dict]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        model = "tiny" if setting.shape == "tiny" else str(write_shape(setting.shape, Path(folder) / setting.shape))
        for number in range(setting.rounds):
            for way in list(WAYS) if number % 2 == 0 else list(WAYS)[::-1]:
                runs[way] += measure(way, model, setting, number)
    medians = {way: {key: statistics.median(run[key] for run in done) for key in ("tokens_per_s", "ttft_p50_ms", "tpot_p50_ms")}
               for way, done in runs.items()}
    ours, *theirs = medians.values()
    ratios = {way: round(ours["tokens_per_s"] / medians[way]["tokens_per_s"], 3) for way in WAYS if way != "glassbox"}
    return {"setting": asdict(setting) | {"kv_tokens": setting.kv_tokens}, "median": medians, "ratios": ratios,
            "ratio": min(ratios.values()), "ttft_ratio": round(ours["ttft_p50_ms"] / min(one["ttft_p50_ms"] for one in theirs), 3),
            "runs": runs}


def measure(way: str, model: str, setting: Setting, number: int) -> list[dict[str, Any]]:
    """Runs on a fresh server. The seeds are the round's and the run's: all servers are asked the same, no run what one before it was."""
    from labkit.load.prompts import Prompts
    from labkit.load.run import load

    results = []
    with serve(WAYS[way], model=model, share=False, progress=False, **server_options(way, setting)) as server:
        for run in range(setting.runs + 1):
            vocabulary = shapes()[setting.shape].vocab_size
            prompts = Prompts(length=setting.prompt, max_tokens=setting.output, kind="ids", vocab=vocabulary)
            busy = os.getloadavg()[0]
            done = load(server, setting.requests, concurrency=setting.concurrency, seed=100 * number + run, prompts=prompts,
                        extra={"ignore_eos": True}, request_timeout=600.0, progress=False)
            if done.failures or len(done.records) != setting.requests:
                raise RuntimeError(f"{way}: {done.failures or 'requests are missing'}, see {server.log}")
            if run == 0:
                continue
            summary = done.summary()
            results.append({
                "tokens_per_s": round(done.throughput, 1), "ttft_p50_ms": round(summary["ttft_ms"]["p50"], 2),
                "tpot_p50_ms": round(summary["tpot_ms"]["p50"], 3), "gap_is": summary["gap_is"],
                "client_limited": done.client.client_limited, "load_average_before": round(busy, 2),
            })
            first = results[-1]["ttft_p50_ms"]
            print(f"{setting.shape}, {way}: {done.throughput:.0f} tok/s, TTFT {first:.0f} ms", file=sys.stderr, flush=True)
    return results


def server_options(way: str, setting: Setting) -> dict[str, Any]:
    """The same dtype, block size and the same KV budget for all."""
    same = {"dtype": setting.dtype, "block_size": BLOCK_SIZE, "max_model_len": min(2048, setting.kv_tokens)}
    if setting.shape != "tiny":
        same["load_format"] = "dummy"
    if way == "glassbox":
        return same | {"num_gpu_blocks_override": max(setting.kv_tokens, same["max_model_len"]) // BLOCK_SIZE + 1}
    bytes_each = shapes()[setting.shape].kv_bytes(BYTES[setting.dtype])
    best = {"scheduler_cls": STOCK, "optimization_level": 2} if way == "vllm-compiled" else {}
    return same | best | {"kv_cache_memory_bytes": (max(setting.kv_tokens, same["max_model_len"]) + BLOCK_SIZE) * bytes_each}
