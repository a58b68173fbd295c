"""The GPU's attention kernel without a GPU: its results in Triton's interpreter, and what NVIDIA's assembler says of its machine code."""
from __future__ import annotations

import json
import os
import platform
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from labkit.environments.install import install

pytestmark = pytest.mark.skipif(
    not (platform.system() == "Linux" and platform.machine() == "x86_64"), reason="the environment with Triton is locked for x86-64 Linux"
)
CASES = {  # num_heads, num_kv_heads, head_dim, block_size, dtype; tiles are 64 slots of 16-bit numbers, 32 of float32
    "0": (4, 2, 64, 16, torch.float32),
    "1": (6, 2, 24, 5, torch.float32),
    "2": (3, 3, 80, 1, torch.float32),
    "3": (8, 1, 64, 32, torch.float16),  # the interpreter multiplies the bit patterns of bfloat16
    "4": (36, 2, 64, 16, torch.float16),
}
CONTEXTS = [1, 7, 63, 64, 65, 150]
NUM_BLOCKS = 200


def make(heads: int, kv_heads: int, head_dim: int, block_size: int, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    contexts = torch.tensor(CONTEXTS)
    blocks = -(-max(CONTEXTS) // block_size)
    return {
        "query": torch.randn(len(contexts), heads, head_dim, generator=draw).to(dtype),
        "cache": torch.randn(NUM_BLOCKS, 2, kv_heads, block_size, head_dim, generator=draw).to(dtype),
        "tables": torch.stack([torch.randperm(NUM_BLOCKS, generator=draw)[:blocks] for _ in contexts]),
        "contexts": contexts,
    }


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> dict[str, torch.Tensor]:
    folder = tmp_path_factory.mktemp("kernel")
    cases = {f"{name}.{number}": part for number, case in CASES.items() for name, part in make(*case).items()}
    save_file(cases, folder / "cases.safetensors")
    run_program("interpret", folder)
    return load_file(folder / "results.safetensors")


def run_program(what: str, folder: Path) -> str:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environ |= {"TRITON_CACHE_DIR": str(folder / "triton")} | ({"TRITON_INTERPRET": "1"} if what == "interpret" else {})
    command = [install("references").python, "-P", Path(__file__).with_name("decode_kernel_program.py"), what, folder]
    done = subprocess.run(command, capture_output=True, text=True, env=environ, cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.parametrize("number", CASES)
def test_the_kernel_gives_what_a_loop_over_requests_and_heads_gives(results, number):
    heads, kv_heads, head_dim, _, dtype = CASES[number]
    case, rows = make(*CASES[number]), []
    for query, table, context in zip(case["query"].double(), case["tables"], case["contexts"], strict=True):
        slots = case["cache"].double()[table].permute(1, 2, 0, 3, 4).flatten(2, 3)  # [2, num_kv_heads, slots, head_dim]
        keys, values = slots[:, :, :context].repeat_interleave(heads // kv_heads, 1)
        weights = (keys @ query[:, :, None] * head_dim**-0.5).softmax(1)
        rows.append((weights * values).sum(1))
    exact = dtype is torch.float32
    torch.testing.assert_close(results[number].double(), torch.stack(rows), rtol=1e-4 if exact else 1e-2, atol=1e-5 if exact else 1e-2)


@pytest.fixture(scope="module")
def usages(tmp_path_factory) -> list[dict]:
    return json.loads(run_program("compile", tmp_path_factory.mktemp("machine-code")))


def test_the_kernel_keeps_its_numbers_in_registers_on_gpus_from_ampere_on(usages):
    """What does not fit into registers goes to memory, which costs more than the keys and values that are read."""
    assert len(usages) == 12, "models of 4 shapes on 3 GPUs"
    assert all(usage["stack"] == 0 and usage["registers"] < 128 for usage in usages), usages
    assert all(usage["tensor_cores"] != usage["model"].endswith("float32") for usage in usages), "they would round float32"
