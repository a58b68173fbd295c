"""What goes into each environment on this machine. Standard library only."""

import hashlib
import json
import platform
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

from labkit.environments.gpu import gpus
from labkit.environments.uv import REQUIREMENTS, InstallError

PYTHON = "3.11"  # of every environment: torch-cpu.txt holds hashes for it


@dataclass(frozen=True, slots=True)
class Recipe:
    """`locks` are files of `requirements/`; torch has a lock of its own, because its CPU build comes from an index of its own."""

    locks: tuple[str, ...]
    torch: str | None  # "torch-cpu.txt", "torch-cuda.txt", or None where the locks bring it
    proof: str  # Python code that succeeds in a working environment; what it imports gets byte-compiled, which the first start profits from
    disk: int  # bytes, about
    download: int  # bytes, about, when uv's cache is empty
    project: Path | None = None  # installed editable

    def files(self) -> list[Path]:
        return [REQUIREMENTS / name for name in (*self.locks, *([self.torch] if self.torch else []))]

    def digest(self) -> str:
        """Changes with any lock, the Python version and the project's metadata."""
        hasher = hashlib.sha256(PYTHON.encode())
        for path in self.files():
            hasher.update(path.read_bytes())
        if self.project:
            metadata = tomllib.loads((self.project / "pyproject.toml").read_text())["project"]
            hasher.update(json.dumps(metadata, sort_keys=True).encode())
        return hasher.hexdigest()


def torch_lock() -> str:
    """The lock of the torch build for this machine: CUDA where `nvidia-smi` answers. For ARM Linux there is one build only."""
    return "torch-cuda.txt" if gpus() or (sys.platform == "linux" and platform.machine() != "x86_64") else "torch-cpu.txt"


def lab(root: Path) -> Recipe:
    """Notebooks, clients, the glass box and the tests, with labkit itself from the checkout at `root`."""
    torch = torch_lock()
    cuda = torch == "torch-cuda.txt"
    return Recipe(
        locks=("lab.txt",),
        torch=torch,
        proof="import torch, transformers, matplotlib.pyplot, ipykernel.kernelapp, jupyterlab.labapp, anywidget, aiohttp, labkit.cli",
        disk=8_000_000_000 if cuda else 2_000_000_000,
        download=3_000_000_000 if cuda else 500_000_000,
        project=root,
    )


def server(name: str) -> Recipe:
    """The environment `name` on this machine: of a server, or the "references" that tests compare quantization with.

    Raises `InstallError` for a name that has none.
    """
    if name == "vllm" and gpus():
        return Recipe(
            locks=("vllm-cuda.txt",),
            torch=None,
            proof="import vllm.entrypoints.openai.api_server, vllm.v1.engine.async_llm, vllm.v1.worker.gpu_worker",
            disk=14_000_000_000,
            download=6_000_000_000,
        )
    if name == "vllm":
        return Recipe(
            locks=("vllm.txt",),
            torch="torch-cpu.txt",
            proof="import pytriton, vllm.entrypoints.openai.api_server, vllm.v1.engine.async_llm, vllm.v1.worker.cpu_worker",
            disk=2_800_000_000,
            download=600_000_000,
        )
    if name == "triton":
        return Recipe(
            locks=("triton.txt",),
            torch="torch-cpu.txt",
            proof="import pytriton, numpy, safetensors, tokenizers, torch",
            disk=1_400_000_000,
            download=400_000_000,
        )
    if name == "references":
        return Recipe(
            locks=("references.txt",),
            torch="torch-cpu.txt",
            proof="import bitsandbytes, llmcompressor, torchao.quantization, transformers, triton",
            disk=2_200_000_000,
            download=700_000_000,
        )
    raise InstallError(f"there is no environment called {name!r}: labkit installs {', '.join(NAMES)}")


NAMES = ("vllm", "triton", "references")
