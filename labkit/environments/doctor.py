"""`labkit doctor`: what this machine has, which way each server would run here and why, and what stands in the way."""

import argparse
import ctypes.util
import json
import os
import sys
from dataclasses import asdict, dataclass

from labkit import __version__
from labkit.environments import bfloat16
from labkit.environments.gpu import LEAST_DRIVER
from labkit.environments.machine import Machine, look
from labkit.environments.routes import Route, routes, version

GIB = 1 << 30
LIBRARIES = ("torch", "transformers", "tokenizers", "numpy", "jupyterlab", "anywidget", "openai", "tritonclient", "aiohttp", "papermill")


@dataclass(frozen=True, slots=True)
class Problem:
    what: str
    remedy: str
    grave: bool = True  # False: it works, with less speed or comfort


def problems(machine: Machine, ways: list[Route]) -> list[Problem]:
    found = []
    for gpu in machine.gpus:
        if int(gpu.driver.split(".")[0] or 0) < LEAST_DRIVER:
            what = f"{gpu.name}: driver {gpu.driver} is older than the {LEAST_DRIVER} that CUDA 13 asks for"
            found.append(Problem(what, "update the NVIDIA driver"))
    torch = version("torch")
    if machine.gpus and torch and "+cpu" in torch:
        found.append(Problem("there is a GPU, but the lab's torch is built for the CPU", "run `make lab` once more", grave=False))
    for way in ways:
        if not way.runs:
            found.append(
                Problem(f"{way.server}: {way.why}", "use the glass box here, or lab.attach(url) to one that runs elsewhere", grave=False)
            )
        if way.disk > machine.home_free:
            what = f"{way.server} needs {amount(way.disk)} in {machine.home}, which has {amount(machine.home_free)} free"
            found.append(Problem(what, "free some space, or set LABKIT_HOME to a folder on a larger disk"))
    if machine.memory.total < 6 * GIB:
        what = f"{amount(machine.memory.total)} of memory: vLLM takes about 3 GiB besides its model"
        found.append(Problem(what, "close other programs, or stay with the glass box", grave=False))
    if machine.memory.shared is not None and machine.memory.shared < GIB // 4:
        what = f"/dev/shm holds {amount(machine.memory.shared)}; Triton's Python models pass their tensors through it"
        found.append(Problem(what, "in a container: --shm-size=1g"))
    if machine.system.startswith("Linux") and not machine.gpus and not ctypes.util.find_library("tcmalloc_minimal"):
        found.append(Problem("tcmalloc is not installed: vLLM on the CPU is slower", "apt install libtcmalloc-minimal4", grave=False))
    return found


def amount(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def report() -> dict:
    """Everything the doctor knows, as plain data."""
    machine = look()
    ways = routes(machine)
    found = problems(machine, ways)
    return {
        "labkit": __version__,
        "machine": asdict(machine),
        "bfloat16": bfloat16.proven(),
        "servers": [asdict(way) for way in ways],
        "packages": {name: version(name) for name in LIBRARIES},
        "problems": [asdict(problem) for problem in found],
        "healthy": not any(problem.grave for problem in found),
    }


class Pen:
    """Bold and colour where the terminal shows them; the words alone say everything."""

    def __init__(self) -> None:
        self.colours = sys.stdout.isatty() and "NO_COLOR" not in os.environ

    def paint(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.colours else text

    def head(self, text: str) -> None:
        print("\n" + self.paint("1", text))

    def row(self, name: str, text: str, *more: str) -> None:
        print(f"  {self.paint('36', f'{name:<11}')} {text}")
        for line in more:
            print(f"  {'':<11} {self.paint('2', line)}")


def show(facts: dict) -> None:
    pen, machine = Pen(), facts["machine"]
    cpu, memory, docker = machine["cpu"], machine["memory"], machine["docker"]
    pen.head(f"This machine (labkit {facts['labkit']}, Python {machine['python']})")
    pen.row("system", f"{machine['system']}, {machine['architecture']}, {machine['libc']}")
    pen.row("CPU", f"{cpu['name']}: {cpu['cores']:g} of {cpu['threads']} threads", " ".join(cpu["instruction_sets"]))
    pen.row("bfloat16", "works in torch (tried in a child process)" if facts["bfloat16"] else "does not work in torch: float32 everywhere")
    pen.row("memory", f"{amount(memory['total'])}, {amount(memory['available'])} available")
    for gpu in machine["gpus"]:
        pen.row("GPU", f"{gpu['name']}, {amount(gpu['memory'])}, driver {gpu['driver']}, compute capability {gpu['capability']}")
    if not machine["gpus"]:
        pen.row("GPU", "none that nvidia-smi tells of")
    engine = f"engine {docker['engine']}{', with GPUs' if docker['nvidia'] else ''}" if docker["engine"] else f"no engine: {docker['said']}"
    pen.row("Docker", engine)
    pen.row("home", f"{machine['home']}, {amount(machine['home_free'])} free")
    pen.head("How each server runs here")
    for way in facts["servers"]:
        mark = pen.paint("32", "ready") if way["installed"] and way["runs"] else pen.paint("33", way["state"] if way["runs"] else "no")
        versions = ", ".join(f"{name} {number}" for name, number in (way["versions"] or {}).items())
        more = [f"because: {way['why']}"] + ([versions] if versions else [])
        if way["download"]:
            size = f"up to {amount(way['download'])}, {amount(way['disk'])} on the disk"
            more.append(f"fetched at its first use, or by `labkit install {way['environment']}`: {size}")
        pen.row(way["server"], f"{mark}  {way['way']}", *more)
    pen.head("Packages of the lab")
    print("  " + ", ".join(f"{name} {number or 'missing'}" for name, number in facts["packages"].items()))
    pen.head("Problems" if facts["problems"] else "No problems")
    for problem in facts["problems"]:
        mark = pen.paint("31;1", "problem") if problem["grave"] else pen.paint("33", "note   ")
        print(f"  {mark} {problem['what']}\n          remedy: {problem['remedy']}")
    print()


def doctor() -> None:
    """Print what this machine has and which way each server would run on it."""
    show(report())


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="labkit doctor", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(argv)
    facts = report()
    if options.json:
        print(json.dumps(facts))
    else:
        show(facts)
    return 0 if facts["healthy"] else 1
