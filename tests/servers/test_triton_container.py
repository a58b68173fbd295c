"""The container with NVIDIA's vLLM backend, as far as a machine without Docker can see: with a fake `docker` on PATH."""
from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

import pytest

from labkit.models import folder
from labkit.servers import ServerError, serve
from labkit.servers.triton_config import check
from labkit.servers.triton_container import engine_arguments, mount
from tests.servers.conftest import alive, eventually


class FakeDocker:
    def __init__(self, state: Path):
        self.state = state

    def calls(self, verb: str) -> list[list[str]]:
        calls = self.state / "calls"
        return [words for line in calls.read_text().splitlines() if (words := json.loads(line))[0] == verb] if calls.exists() else []

    def container(self, name: str) -> int:
        return int((self.state / name).read_text())


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeDocker:
    program = tmp_path / "bin" / "docker"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\n" + (Path(__file__).parent / "fake_docker.py").read_text())
    program.chmod(0o755)
    state = tmp_path / "state"
    state.mkdir()
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_DOCKER", str(state))
    return FakeDocker(state)


def start(**settings: object):
    return serve("triton", engine="vllm", container=True, share=False, progress=False, **settings)


def values(words: list[str], flag: str) -> list[str]:
    return [value for word, value in zip(words, words[1:], strict=False) if word == flag]


def test_with_a_fake_docker_the_command_line_is_pinned_labelled_local_and_removes_itself(docker):
    with start(max_model_len=512, dtype="bfloat16", log_verbose=1) as server:
        (words,) = docker.calls("run")
        assert {"--rm", "--init", "--gpus"} <= set(words)
        assert values(words, "--publish") == [f"127.0.0.1:{server.ports[name]}:{inner}"
                                              for name, inner in (("http", 8000), ("grpc", 8001), ("metrics", 8002))]
        assert [label.partition("=")[0] for label in values(words, "--label")] == ["labkit.session"]
        image = words.index("tritonserver") - 1
        assert re.fullmatch(r"nvcr\.io/nvidia/tritonserver:\d\d\.\d\d-vllm-python-py3", words[image])
        assert words[image + 1:] == ["tritonserver", "--model-repository=/repository", "--log-verbose=1"]
        mounts = dict(volume.split(":", 1) for volume in values(words, "--volume"))
        assert mounts[str(folder("tiny"))] == "/model:ro"
        repository = next(Path(path) for path, place in mounts.items() if place == "/repository:ro")
        assert check((repository / "vllm" / "config.pbtxt").read_text()).backend == "vllm"
        assert json.loads((repository / "vllm" / "1" / "model.json").read_text()) == {
            "model": "/model", "max_model_len": 512, "dtype": "bfloat16"}
        assert server.health()
        assert server.model == "vllm"


def test_with_a_fake_docker_stopping_the_server_stops_the_container_by_name(docker):
    server = start()
    (run,) = docker.calls("run")
    (name,) = values(run, "--name")
    container = docker.container(name)
    assert alive(container)
    server.stop()
    assert docker.calls("stop") == [["stop", "--time", "8", name]]
    assert not alive(container)


def test_with_a_fake_docker_a_guard_that_is_killed_leaves_no_container(docker):
    with start() as server:
        (name,) = values(docker.calls("run")[0], "--name")
        container = docker.container(name)
        os.kill(server.record.guard, 9)
        assert eventually(lambda: ["rm", "--force", name] in docker.calls("rm"))
        assert eventually(lambda: not alive(container))


def test_with_a_fake_docker_whose_engine_is_down_its_own_words_are_shown(docker, monkeypatch):
    monkeypatch.setenv("FAKE_DOCKER_DOWN", "Cannot connect to the Docker daemon at unix:///var/run/docker.sock")
    with pytest.raises(ServerError, match="no Docker engine answers: Cannot connect to the Docker daemon"):
        start()
    assert not docker.calls("run")


def test_without_docker_the_error_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ServerError, match="there is no `docker` here. Install Docker Engine"):
        start()


def test_a_hub_model_is_mounted_with_the_files_that_its_folder_links_to(tmp_path):
    snapshot, blobs = tmp_path / "models--a--b" / "snapshots" / "1", tmp_path / "models--a--b" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    (blobs / "abc").write_text("{}")
    (snapshot / "config.json").symlink_to("../../blobs/abc")
    assert mount(snapshot) == (tmp_path / "models--a--b", "/model/snapshots/1")


def test_engine_options_become_json_of_their_own_types():
    words = ["--max-num-seqs", "8", "--gpu-memory-utilization", "0.5", "--enforce-eager", "--quantization", "awq"]
    assert engine_arguments(words) == {"max_num_seqs": 8, "gpu_memory_utilization": 0.5, "enforce_eager": True, "quantization": "awq"}
