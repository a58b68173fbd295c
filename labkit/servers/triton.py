"""Triton: the real tritonserver of the nvidia-pytriton wheel, on a model repository that labkit writes."""
from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from labkit.servers.driver import Launch, Order, ServerError, canonical, given, import_path

if TYPE_CHECKING:
    from labkit.environments.build import Environment
    from labkit.servers.triton_repository import Wheel

NEEDED = {"glassbox": 1400 << 20, "vllm": 4 << 30}  # bytes: the server, and a stub with torch for each model that computes
ROOT = Path(__file__).parents[2]
HOST = "127.0.0.1"
PHASES = (
    (r"Unable to find image '([^']+)' locally", "downloading {} (many GB)"),
    (r'loading: (\w+):', "loading the model {}"),
    (r"successfully loaded '(\w+)'", "the model {} is loaded"),
    (r"Started HTTPService", "opening its ports"),
)
CAUSES = (  # what the log says, what it means and what to do
    (r"could not select device driver", "Docker has no access to the GPU: install the NVIDIA Container Toolkit and restart Docker"),
    (r"docker: (Error[^\n]*)", "Docker says: {}"),
    (r"Socket '([\d.:]+)' already in use", "the address {} is taken by another process. Give another port=..., or none"),
    (r"terminate called after throwing an instance of 'boost::interprocess::",  # of a lock that the model held as it died
     "the process of a Triton model has died, and Triton with it. If it was not killed, the system may be out of memory"),
    (r"labkit: (the process of a Triton model has died[^\n]*)", "{}. If it was not killed, the system may be out of memory"),
    (r"No space left on device|Unable to .{0,40}shared memory",
     "/dev/shm is full: Triton talks to its models through shared memory. Free some room, or give a container more with --shm-size"),
    (r"failed to load '(\w+)' version 1: \w+: (.*?)\n(?:\nAt:|[A-Z]\d{4} )", "the model {} could not be loaded: {}"),
    (r"Poll failed for model directory '(\w+)': ([^\n]*)", "Triton refuses the model {}: {}"),
    (r'Bad option: "([^"]+)"\.\s*([^\n]*)', "tritonserver does not take this value of {}: {}"),
)


class Triton:
    """The server of the wheel runs in the environment `triton`; with `--engine vllm` in `vllm`, which holds the wheel too, or on a
    machine with a GPU in NVIDIA's container."""

    name = "triton"
    badge = "live"

    def environments(self, flags: list[str]) -> list[str]:
        return ["triton", "vllm"] if given(flags, "engine") == "vllm" and not containerised(flags) else ["triton"]

    def plan(self, order: Order) -> Launch:
        from labkit.environments.install import environment
        from labkit.servers import triton_container
        from labkit.servers import triton_repository as repository
        from labkit.servers.triton_options import parse

        place = environment("triton")
        options = parse(order.flags, server_flags(repository.Wheel(place.site_packages)))
        if options.engine == "vllm" and containerised(order.flags):
            triton_container.check_docker()
            return triton_container.launch(order, options, *further_ports(order))
        if options.engine == "vllm":
            place = environment("vllm")
            words = vllm_words(replace(order, flags=canonical(options.engine_flags)), place)
            configs = [repository.vllm_model(words, Path(order.model))]
        else:
            configs = repository.glassbox_models(options, Path(order.model))
        repository.check_users_own(options.model_repository, {config.name for config in configs})
        wheel = repository.Wheel(place.site_packages)
        models, backends = repository.write(order.folder, configs, wheel, ROOT)
        grpc, metrics = further_ports(order)
        argv = [sys.executable, "-m", "labkit.servers.triton_supervisor", f"labkit-{order.folder.name}-", str(wheel.binary),
                *(f"--model-repository={folder}" for folder in [models, *options.model_repository]), f"--backend-directory={backends}",
                *(f"--{kind}-address={HOST}" for kind in ("http", "grpc", "metrics")),
                f"--http-port={order.port}", f"--grpc-port={grpc}", f"--metrics-port={metrics}",
                "--disable-auto-complete-config",  # it would start every stub twice
                "--exit-timeout-secs=6", *options.server_flags]
        if shutil.which("nvidia-smi") is None:
            argv.append("--allow-gpu-metrics=false")  # looking for a GPU's manager takes a second where there is none
        env = stub_environment(place.python, wheel) | {
            "PYTHONPATH": import_path(ROOT),
            "LABKIT_TRACE_SOCKET": str(order.trace_socket), "LABKIT_TRACE_FILE": str(order.run_file),
            "LABKIT_TRACE_NAME": f"Triton, {options.engine}", "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_COLOR": "0", "HF_HUB_OFFLINE": "1"}
        return Launch(argv, f"http://{HOST}:{order.port}/v2/health/ready", env=env, metrics_url=f"http://{HOST}:{metrics}/metrics",
                      model=options.engine, ports={"grpc": grpc, "metrics": metrics}, traced=True, memory=NEEDED[options.engine],
                      grace=15.0)

    def phase(self, line: str) -> str | None:
        for pattern, words in PHASES:
            if found := re.search(pattern, line):
                return words.format(*found.groups())
        return None

    def explain(self, log: str) -> str | None:
        for pattern, words in CAUSES:
            if found := re.search(pattern, log, re.DOTALL):
                return words.format(*(" ".join(part.split()) for part in found.groups()))
        return None


def further_ports(order: Order) -> list[int]:
    """Two free ports beside the order's own, on which nobody listens yet."""
    from labkit.servers.preflight import free_ports

    return [port for port in free_ports(3) if port != order.port][:2]


def vllm_words(order: Order, place: Environment) -> list[str]:
    """vLLM's options as labkit's own vLLM server has them: names checked, defaults filled in, the probe as the scheduler."""
    from labkit.servers.vllm import Vllm, check_names

    check_names(order.flags, place.folder / "vllm-options.json")
    words, _ = Vllm().filled_in(order, on_gpu=False)
    return words if given(words, "scheduler-cls") else [*words, "--scheduler-cls", "labkit.servers.vllm_probe.probed_scheduler"]


def containerised(flags: list[str]) -> bool:
    """Whether vLLM runs in NVIDIA's container: where there is a GPU, unless the user chose."""
    from labkit.environments.gpu import gpus

    choice = given(flags, "container")
    return bool(gpus()) if choice is None else bool(choice)


def server_flags(wheel: Wheel) -> set[str]:
    """The names of tritonserver's own options, from itself."""
    done = subprocess.run([wheel.binary, "--help"], capture_output=True, text=True, timeout=30,
                          env={"LD_LIBRARY_PATH": str(wheel.libraries)}, check=False)
    if not (names := set(re.findall(r"^\s*--([a-z][a-z-]+)", done.stdout + done.stderr, re.MULTILINE))):
        raise ServerError(f"tritonserver does not run on this machine: {(done.stderr or done.stdout).strip()[:500]}")
    return names


def stub_environment(python: Path, wheel: Wheel) -> dict[str, str]:
    """What makes Triton's Python stubs the interpreter of an environment.

    The stub finds its standard library and packages by the first python3 on PATH, and its libpython through the loader: both
    have to be those of one interpreter, or C extensions fail with undefined symbols.
    """
    code = "import sysconfig as s; print(s.get_config_var('LIBDIR')); print(s.get_config_var('INSTSONAME'))"
    folder, library = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    if not (Path(folder) / library).is_file():
        raise ServerError(f"the Python of the environment {python.parent.parent} has no shared library ({folder}/{library}), which "
                          f"Triton's Python backend needs. Make the lab from another Python 3.11: python.org's, Debian's, conda's, uv's")
    return {"PATH": os.pathsep.join([str(python.parent), os.environ.get("PATH", os.defpath)]),
            "LD_LIBRARY_PATH": os.pathsep.join(filter(None, [folder, str(wheel.libraries), os.environ.get("LD_LIBRARY_PATH")]))}
