"""Runs in the environment `references`, which has Triton: the GPU's attention kernel, without a GPU.

`python decode_kernel_program.py interpret FOLDER`, with TRITON_INTERPRET=1: of query.N, cache.N, tables.N and contexts.N in
cases.safetensors Triton's interpreter makes result N.
`... compile FOLDER`: prints as JSON what the machine code for several models and GPUs needs.
"""
import json
import re
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import torch
import triton
from safetensors.torch import load_file, save_file

from labkit.glassbox.gpu.decode_kernel import constants, decode_kernel, paged_decode

what, folder = sys.argv[1], Path(sys.argv[2])
MODELS = {  # heads that share a KV head, head_dim, dtype
    "Llama-3-8B": (4, 128, torch.bfloat16), "Qwen2.5-0.5B": (7, 64, torch.float16), "TinyLlama": (8, 64, torch.bfloat16),
    "Qwen3-0.6B in float32": (2, 128, torch.float32),
}  # fmt: skip
GPUS = {"A100": 80, "H100": 90, "B200": 100}


def interpret() -> None:
    cases = load_file(folder / "cases.safetensors")
    names = ("query", "cache", "tables", "contexts")
    numbers = sorted({name.split(".")[1] for name in cases})
    save_file({number: paged_decode(*(cases[f"{name}.{number}"] for name in names)) for number in numbers}, folder / "results.safetensors")


def needs(model: str, gpu: str) -> dict:
    group, head_dim, dtype = MODELS[model]
    values = constants(group, head_dim, 16, dtype)
    number = {torch.bfloat16: "bf16", torch.float16: "fp16", torch.float32: "fp32"}[dtype]
    types = {"query": f"*{number}", "cache": f"*{number}", "output": f"*{number}", "tables": "*i64", "contexts": "*i64", "scale": "fp32"}
    signature = {name: "constexpr" if name in values else types.get(name, "i32") for name in decode_kernel.arg_names}
    places = {(decode_kernel.arg_names.index(name),): value for name, value in values.items()}
    even = [i for i, name in enumerate(decode_kernel.arg_names) if name not in {*values, "scale", "table_request"}]  # as a launch finds
    attributes = {(i,): [["tt.divisibility", 16]] for i in even}
    source = triton.compiler.ASTSource(decode_kernel, signature, places, attributes)
    code = triton.compile(source, target=triton.backends.compiler.GPUTarget("cuda", GPUS[gpu], 32)).asm
    cubin = folder / "kernel.cubin"
    cubin.write_bytes(code["cubin"])
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    told = subprocess.run([tool, "-res-usage", cubin], capture_output=True, text=True, check=True).stdout
    registers, stack = (int(re.search(rf"{name}:(\d+)", told)[1]) for name in ("REG", "STACK"))
    return {"model": model, "gpu": gpu, "registers": registers, "stack": stack, "tensor_cores": "mma" in code["ptx"]}


if what == "interpret":
    interpret()
else:
    print(json.dumps([needs(model, gpu) for model in MODELS for gpu in GPUS]))
