"""The files below docker/: what can be said of them without a Docker engine."""
from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from labkit.servers.triton_config import check, vllm_backend
from labkit.servers.triton_container import IMAGE

DOCKER = Path(__file__).parents[2] / "docker"
COMPOSE = sorted(DOCKER.glob("compose.*.yaml"))
PINNED = re.compile(r"[\w./-]+:v?\d+(\.\d+)+[\w.-]*")


def services(path: Path) -> dict[str, dict]:
    return yaml.safe_load(path.read_text())["services"]


@pytest.mark.parametrize("path", COMPOSE, ids=lambda path: path.name)
def test_every_image_is_pinned_and_every_port_is_bound_to_this_machine_only(path):
    assert {"vllm", "triton", "tgi"} <= set(services(path))
    for service in services(path).values():
        assert PINNED.fullmatch(service["image"]), service["image"]
        assert service["init"] is True
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
        assert "privileged" not in service


def test_servers_that_share_the_labs_network_publish_nothing_and_have_ports_of_their_own():
    every = services(DOCKER / "compose.cpu.yaml")
    inside = {name: service for name, service in every.items() if service.get("network_mode") == "service:lab"}
    ports = [service["command"][service["command"].index("--port") + 1] for service in inside.values()]
    assert set(inside) == {"glassbox", "vllm", "triton", "tgi"}
    assert len(set(ports)) == len(ports)
    assert all("ports" not in service for service in inside.values())


def test_every_service_on_the_gpu_reserves_it_and_reads_the_model_only():
    for service in services(DOCKER / "compose.gpu.yaml").values():
        (device,) = service["deploy"]["resources"]["reservations"]["devices"]
        assert device["capabilities"] == ["gpu"]
        assert any(volume.endswith(":/model:ro") for volume in service["volumes"])


def test_compose_and_labkit_run_the_same_triton_with_the_same_repository():
    assert services(DOCKER / "compose.gpu.yaml")["triton"]["image"] == IMAGE
    assert check((DOCKER / "triton" / "vllm" / "config.pbtxt").read_text()) == vllm_backend()
    assert json.loads((DOCKER / "triton" / "vllm" / "1" / "model.json").read_text())["model"] == "/model"


def test_the_lab_image_is_pinned_runs_without_root_and_copies_only_what_exists():
    lines = re.sub(r"\\\n", " ", (DOCKER / "Dockerfile").read_text()).splitlines()
    words = [line.split() for line in lines if line and not line.startswith("#")]
    assert all(PINNED.fullmatch(word[1]) for word in words if word[0] == "FROM")
    assert [word[1] for word in words if word[0] == "USER"] == ["lab"]
    assert {word[0] for word in words} <= {"FROM", "RUN", "USER", "WORKDIR", "COPY", "ARG", "ENV", "EXPOSE", "CMD"}
    for word in words:
        if word[0] == "COPY":
            assert all((DOCKER.parent / source).exists() for source in word[2:-1]), word
    json.loads(next(line for line in lines if line.startswith("CMD")).removeprefix("CMD"))
