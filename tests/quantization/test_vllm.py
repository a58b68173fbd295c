"""Exported checkpoints in the real vLLM on this machine; a start takes 15 to 25 seconds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from labkit.bench.agreement import continuations, partings, prompts
from labkit.environments import machine
from labkit.environments.machine import cpu
from labkit.models import folder
from labkit.quantization.command import main
from labkit.quantization.export.load import load_model
from labkit.servers import ServerError, serve
from labkit.servers.vllm import VNNI, check_kernels

PROMPTS, TOKENS = 20, 64


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Makes the shipped model's checkpoint of a method, once."""
    root = tmp_path_factory.mktemp("checkpoints")

    def make(method: str):
        out = root / method
        if not out.exists():
            assert main(["tiny", "--method", method, "--rows", "8", "--out", str(out)]) == 0
        return out

    return make


@pytest.fixture
def kernels():
    if "avx512f" not in cpu().instruction_sets:
        pytest.skip("vLLM's 4-bit kernel on the CPU needs AVX-512")


@pytest.mark.parametrize("method", ["gptq", "awq", "smoothquant"])
def test_vllm_continues_as_the_packed_weights_do(checkpoints, request, method):
    """Greedily; where the two part, both tokens are nearly as likely. 4-bit weights are served in float16 without being asked to. Without
    VNNI vLLM's 8-bit products are not those of the packed weights."""
    if method != "smoothquant":
        request.getfixturevalue("kernels")
    exact = method != "smoothquant" or VNNI & set(cpu().instruction_sets)
    heads = prompts(PROMPTS)
    with serve("vllm", model=checkpoints(method), share=False, progress=False) as server:
        tails = continuations(server, heads, TOKENS)
    assert all(len(tail) == TOKENS for tail in tails)
    found = partings(load_model(checkpoints(method)), heads, tails)
    assert all(parting.gap < 0.1 for parting in found)
    assert PROMPTS - len(found) >= (0.7 if exact else 0.3) * PROMPTS


def test_a_4_bit_checkpoint_in_float32_is_refused_with_the_remedy(checkpoints, kernels):
    with pytest.raises(ServerError, match="computes in 16 bits, not in float32: leave dtype out"):
        serve("vllm", model=checkpoints("awq"), dtype="float32", share=False, progress=False)


@pytest.fixture
def only(monkeypatch):
    """Makes this machine's CPU one with these instruction sets only."""

    def has(*instruction_sets: str) -> None:
        old = replace(cpu(), instruction_sets=list(instruction_sets))
        monkeypatch.setattr(machine, "cpu", lambda: old)

    return has


def test_a_cpu_without_avx_512_is_told_before_vllm_dies_of_it(checkpoints, only):
    only("avx", "avx2", "avx_vnni")
    with pytest.raises(ServerError, match="needs AVX-512, which this CPU lacks. Serve the original .* smoothquant"):
        check_kernels(checkpoints("awq"), [])
    check_kernels(folder("tiny"), ["--dtype", "float32"])


@pytest.mark.parametrize("instruction_sets", [("avx", "avx2"), ("avx", "avx2", "avx512f")])
def test_a_cpu_without_vnni_is_told_that_its_8_bit_products_are_cut_off(checkpoints, only, instruction_sets):
    only(*instruction_sets)
    with pytest.warns(UserWarning, match="no VNNI instructions: .* 8-bit"):
        check_kernels(checkpoints("smoothquant"), [])


@pytest.mark.parametrize("instruction_sets", [("avx", "avx2", "avx_vnni"), ("avx", "avx2", "avx512f", "avx512_vnni"), ("asimd", "i8mm")])
def test_nothing_is_said_of_8_bit_products_where_they_are_right(checkpoints, only, recwarn, instruction_sets):
    only(*instruction_sets)
    check_kernels(checkpoints("smoothquant"), [])
    check_kernels(folder("tiny"), [])
    assert not recwarn.list
