"""NVIDIA's Triton container with its vLLM backend, for machines with a GPU and Docker: the command line that starts it."""
from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from labkit.servers.driver import Launch, Order, ServerError, options
from labkit.servers.triton_config import render, vllm_backend
from labkit.servers.triton_options import TritonOptions

IMAGE = "nvcr.io/nvidia/tritonserver:26.06-vllm-python-py3"
HOST = "127.0.0.1"
GRACE = 8  # seconds between SIGTERM and SIGKILL inside the container


def check_docker() -> None:
    """Raises `ServerError` unless a Docker engine answers."""
    if not shutil.which("docker"):
        raise ServerError("vLLM inside Triton on a GPU runs from NVIDIA's container, and there is no `docker` here. Install Docker Engine "
                          "and the NVIDIA Container Toolkit, or take engine='glassbox' or lab.serve('vllm')")
    said = subprocess.run(["docker", "info", "--format", "{{.ServerVersion}}"], capture_output=True, text=True, timeout=20, check=False)
    if said.returncode:
        raise ServerError(f"`docker` is here, but no Docker engine answers: {(said.stderr or said.stdout).strip()[:300]}. Start it, and "
                          f"see that you may use it (`docker info`)")


def launch(order: Order, chosen: TritonOptions, grpc: int, metrics: int) -> Launch:
    """Writes the model repository for Triton's own vLLM backend into the order's folder; the container reads it and the model."""
    folder, inside = mount(Path(order.model))
    repository = order.folder / "repository"
    version = repository / "vllm" / "1"
    version.mkdir(parents=True)
    (repository / "vllm" / "config.pbtxt").write_text(render(vllm_backend()), encoding="utf-8")
    (version / "model.json").write_text(json.dumps({"model": inside, **engine_arguments(chosen.engine_flags)}, indent=1), encoding="utf-8")
    name, label = f"labkit-{order.folder.name}", f"labkit.session={order.folder.name}"
    ports = {order.port: 8000, grpc: 8001, metrics: 8002}
    run = ["docker", "run", "--rm", "--init", "--name", name, "--label", label, "--stop-timeout", str(GRACE),
           "--gpus", "all", "--shm-size", "1g", "--ulimit", "memlock=-1",
           *(word for ours, inner in ports.items() for word in ("--publish", f"{HOST}:{ours}:{inner}")),
           "--volume", f"{repository}:/repository:ro", "--volume", f"{folder}:/model:ro",
           "--env", "HF_HUB_OFFLINE=1", "--env", "VLLM_NO_USAGE_STATS=1",
           IMAGE, "tritonserver", "--model-repository=/repository", *chosen.server_flags]
    root = str(Path(__file__).parents[2])
    return Launch([sys.executable, "-m", "labkit.servers.container", name, str(GRACE), *run],
                  f"http://{HOST}:{order.port}/v2/health/ready", metrics_url=f"http://{HOST}:{metrics}/metrics",
                  env={"PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))},
                  model="vllm", ports={"grpc": grpc, "metrics": metrics}, grace=GRACE + 12.0)


def mount(model: Path) -> tuple[Path, str]:
    """The folder to mount at /model, and the model's place in there. A hub's cache has links to files beside the model's folder:
    the folder that holds both is mounted."""
    real = model.resolve()
    root = Path(os.path.commonpath([real, *(path.resolve() for path in real.rglob("*") if path.is_symlink())]))
    return root, str(Path("/model") / real.relative_to(root))


def engine_arguments(flags: list[str]) -> dict[str, object]:
    """vLLM's options as the backend's model.json wants them: by underscored names, numbers as numbers."""
    def value(text: object) -> object:
        try:
            return json.loads(text) if isinstance(text, str) else text
        except ValueError:
            return text

    return {name: value(given) for name, given in options(flags).items()}
