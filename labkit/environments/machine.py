"""What this machine has, as the servers will find it: a container's limits count, not its host's."""

import json
import os
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from labkit.environments import home
from labkit.environments.gpu import Gpu, gpus

# What the kernels of torch, vLLM and oneDNN choose by, from slow to fast.
INSTRUCTION_SETS = (
    *("avx", "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
    *("amx_tile", "amx_int8", "amx_bf16", "asimd", "asimddp", "i8mm", "bf16", "sve", "sve2"),
)


@dataclass(frozen=True, slots=True)
class Cpu:
    name: str
    cores: float  # that this process may use: affinity and container quota counted
    threads: int  # of the whole machine
    instruction_sets: list[str]  # those of `INSTRUCTION_SETS` that the CPU says it has


@dataclass(frozen=True, slots=True)
class Memory:
    total: int  # bytes; a container's limit, where there is one
    available: int  # bytes
    shared: int | None  # bytes of /dev/shm, through which Triton talks to its models


@dataclass(frozen=True, slots=True)
class Docker:
    client: bool
    engine: str | None  # version, None when no engine answers
    nvidia: bool  # whether the engine can give containers the GPU
    said: str  # why there is no engine


@dataclass(frozen=True, slots=True)
class Machine:
    system: str  # "Linux 6.1"
    architecture: str  # "x86_64"
    libc: str  # "glibc 2.36"
    python: str
    cpu: Cpu
    memory: Memory
    gpus: list[Gpu]
    docker: Docker
    home: str
    home_free: int  # bytes on the disk of LABKIT_HOME


def look() -> Machine:
    """Look at this machine; at most some seconds, when Docker or `nvidia-smi` is slow to answer."""
    return Machine(
        system=f"{platform.system()} {platform.release()}",
        architecture=platform.machine(),
        libc=" ".join(platform.libc_ver()),
        python=platform.python_version(),
        cpu=cpu(),
        memory=memory(),
        gpus=gpus(),
        docker=docker(),
        home=str(home.home()),
        home_free=shutil.disk_usage(home.home()).free,
    )


def cpu() -> Cpu:
    text = read("/proc/cpuinfo")
    if text:
        name = re.search(r"^model name\s*: (.+)$", text, re.MULTILINE)
        flags = re.search(r"^(?:flags|Features)\s*: (.+)$", text, re.MULTILINE)
        has = set(flags.group(1).split()) if flags else set()
    else:
        name = re.search(r"brand_string: (.+)$", sysctl(), re.MULTILINE)
        has = {"asimd"} if platform.machine() == "arm64" else set()
    usable = float(len(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else float(os.cpu_count() or 1)
    for limit in limits("cpu.max"):
        quota, _, period = limit.partition(" ")
        usable = min(usable, int(quota) / int(period)) if quota.isdigit() else usable
    sets = [name for name in INSTRUCTION_SETS if name in has]
    return Cpu(name.group(1) if name else platform.processor(), usable, os.cpu_count() or 1, sets)


def memory() -> Memory:
    import psutil

    whole = psutil.virtual_memory()
    total = min([whole.total, *(int(limit) for limit in limits("memory.max") if limit.isdigit())])
    shared = shutil.disk_usage("/dev/shm").total if Path("/dev/shm").exists() else None
    return Memory(total, min(whole.available, total), shared)


def limits(name: str) -> list[str]:
    """The values of a cgroup v2 file for this process's group and every group around it."""
    root = Path("/sys/fs/cgroup")
    own = re.search(r"^0::/(.*)$", read("/proc/self/cgroup"), re.MULTILINE)
    group = root / own.group(1) if own else root
    return [text for folder in (group, *group.parents) if folder.is_relative_to(root) and (text := read(folder / name).strip())]


def docker() -> Docker:
    if not shutil.which("docker"):
        return Docker(False, None, False, "docker is not installed")
    try:
        command = ["docker", "info", "--format", "{{json .}}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, stdin=subprocess.DEVNULL)
        info = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        return Docker(True, None, False, "the Docker engine did not answer within 5 s")
    except (OSError, ValueError) as error:
        return Docker(True, None, False, str(error))
    said = "; ".join(info.get("ServerErrors") or []) or done.stderr.strip()
    return Docker(True, info.get("ServerVersion") or None, "nvidia" in (info.get("Runtimes") or {}), said)


def read(path: str | Path) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""


def sysctl() -> str:
    """macOS's `machdep.cpu`; "" elsewhere."""
    tool = shutil.which("sysctl")
    return subprocess.run([tool, "machdep.cpu"], capture_output=True, text=True, timeout=5).stdout if tool else ""
