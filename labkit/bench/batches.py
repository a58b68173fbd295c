"""Tokens per second at several batch sizes, on a GPU where there is one: the glass box in each of its ways, and transformers."""
from __future__ import annotations

import os
import random
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from labkit.bench.report import parser, write
from labkit.models.shapes import shapes, write_shape

WAYS = {  # options of the engine
    "glassbox": {},
    "glassbox, layer by layer": {"enforce_eager": True},
    "glassbox, gathered": {"enforce_eager": True, "attention_backend": "gather"},
}
Run = Callable[[list[list[int]]], int]
"""Answers all prompts at once, each with as many tokens as the setting says; returns how many came."""


@dataclass(slots=True)
class Setting:
    """Prompts and answers are `prompt` and `output` tokens long, every one; `dtype` as the engine has it."""

    shape: str
    batches: list[int]
    prompt: int = 128
    output: int = 128
    dtype: str = "auto"
    pairs: int = 3
    seed: int = 0

    def draw(self, batch: int) -> list[list[int]]:
        rng = random.Random(self.seed)
        return [[rng.randrange(16, shapes()[self.shape].vocab_size) for _ in range(self.prompt)] for _ in range(batch)]


def main(argv: list[str]) -> int:
    """Tokens per second, prompts included, of batches of 1, 32 and 256 on a GPU and of 1, 8 and 32 without one. Random weights but for
    the shipped model. For vLLM under the same load see `labkit bench glassbox --shape`."""
    import torch

    gpu = torch.cuda.is_available()
    parse = parser("batches", main.__doc__)
    parse.add_argument("--shape", choices=list(shapes()), default="qwen3-0.6b" if gpu else "tiny", help="(default here: %(default)s)")
    parse.add_argument("--batches", type=int, nargs="+", default=[1, 32, 256] if gpu else [1, 8, 32], metavar="N", help="requests at once")
    parse.add_argument("--prompt", type=int, default=128, help="tokens (default: %(default)s)")
    parse.add_argument("--output-tokens", type=int, default=128, dest="answer", help="of each answer (default: %(default)s)")
    parse.add_argument("--dtype", default="auto", help="(default: what the engine takes here)")
    parse.add_argument("--pairs", type=int, default=3, help="runs of each, taking turns (default: %(default)s)")
    options = parse.parse_args(argv)
    setting = Setting(options.shape, options.batches, options.prompt, options.answer, options.dtype, options.pairs)
    with TemporaryDirectory() as folder:
        result = measure(setting, Path(folder))
    about = {"torch": torch.__version__, "gpu": torch.cuda.get_device_name() if gpu else None, "threads": torch.get_num_threads()}
    write("batches", ["batches", *argv], options, {**about, "load_average": round(os.getloadavg()[0], 2), **result})
    return 0


def measure(setting: Setting, folder: Path) -> dict[str, Any]:
    """A row for each batch size: tokens/s of every way, all runs and their median, and `ratio`, glass box over transformers."""
    from labkit.models import folder as known

    path = known("tiny") if setting.shape == "tiny" else write_shape(setting.shape, folder)
    runs, dtype, device = ways(setting, path)
    rows = []
    for batch in setting.batches:
        prompts, rates = setting.draw(batch), {name: [] for name in runs}
        for run in runs.values():  # the first of a size compiles, chooses and allocates
            run(prompts)
        for pair in range(setting.pairs):
            for name in runs if pair % 2 == 0 else reversed(runs):
                began = time.perf_counter()
                tokens = runs[name](prompts)
                rates[name].append(round(tokens / (time.perf_counter() - began), 1))
        medians = {name: statistics.median(found) for name, found in rates.items()}
        print(f"{batch}: " + "; ".join(f"{name} {rate:.0f} tok/s" for name, rate in medians.items()), file=sys.stderr, flush=True)
        ratio = round(medians["glassbox"] / medians["transformers"], 3)
        rows.append({"batch": batch, "tokens_per_s": medians, "ratio": ratio, "runs": rates})
    return {"setting": asdict(setting), "dtype": dtype, "device": device, "rows": rows}


def ways(setting: Setting, path: Path) -> tuple[dict[str, Run], str, str]:
    """All ways by name; and the dtype and device that they share."""
    from labkit.glassbox import Engine, EngineOptions, SamplingParams

    length, largest = setting.prompt + setting.output, max(setting.batches)
    load_format = "auto" if setting.shape == "tiny" else "dummy"
    params = SamplingParams(max_tokens=setting.output, temperature=0.0, ignore_eos=True, detokenize=False)
    runs: dict[str, Run] = {}
    for name, changes in WAYS.items():
        options = EngineOptions(
            num_gpu_blocks_override=largest * (-(-length // 16) + 1), max_num_seqs=largest, max_model_len=length + 1, dtype=setting.dtype,
            load_format=load_format, enable_prefix_caching=False, **changes,
        )  # fmt: skip
        engine = Engine.from_folder(path, options)
        engine.runner.record()

        def glassbox(prompts: list[list[int]], engine: Engine = engine) -> int:
            return sum(len(output.token_ids) for output in engine.generate(prompts, params))

        runs[name] = glassbox
    dtype, device = engine.runner.kv_cache.tensor.dtype, engine.runner.device
    runs["transformers"] = transformers(setting, path, dtype, device)
    return runs, str(dtype).removeprefix("torch."), str(device)


def transformers(setting: Setting, path: Path, dtype: Any, device: Any) -> Run:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    if setting.shape == "tiny":
        model = AutoModelForCausalLM.from_pretrained(path, dtype=dtype)
    else:
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(path), dtype=dtype)
    model = model.to(device).eval()

    def run(prompts: list[list[int]]) -> int:
        ids, exactly = torch.tensor(prompts, device=device), {"min_new_tokens": setting.output, "max_new_tokens": setting.output}
        with torch.inference_mode():
            found = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, pad_token_id=0, **exactly)
        return found[:, setting.prompt :].cpu().numel()

    return run
