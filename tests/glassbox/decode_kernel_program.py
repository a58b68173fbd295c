"""Runs in the environment `references`, which has Triton: the GPU's attention kernel in Triton's interpreter, on a CPU.

`python decode_kernel_program.py FOLDER`: of query.N, cache.N, tables.N and contexts.N in cases.safetensors it makes result N.
"""
import os
import sys
from pathlib import Path

os.environ["TRITON_INTERPRET"] = "1"
sys.path.insert(0, str(Path(__file__).parents[2]))

from safetensors.torch import load_file, save_file

from labkit.glassbox.gpu.decode_kernel import paged_decode

folder = Path(sys.argv[1])
cases = load_file(folder / "cases.safetensors")
names = ("query", "cache", "tables", "contexts")
numbers = sorted({name.split(".")[1] for name in cases})
save_file({number: paged_decode(*(cases[f"{name}.{number}"] for name in names)) for number in numbers}, folder / "results.safetensors")
