"""Exported checkpoints in the real vLLM on this machine; a start takes 15 to 25 seconds."""

from __future__ import annotations

import json
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from labkit.models import folder
from labkit.models.prompts import prompt
from labkit.quantization.command import main
from labkit.quantization.export.load import load_model
from labkit.quantization.quality import KINDS
from labkit.servers import ServerError, serve

PROMPTS, TOKENS = 20, 64


def complete(server, ids: list[int]) -> list[int]:
    body = {"model": server.model, "prompt": ids, "temperature": 0, "max_tokens": TOKENS, "return_token_ids": True, "ignore_eos": True}
    request = urllib.request.Request(server.url + "/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as response:
        return json.load(response)["choices"][0]["token_ids"]


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
    from labkit.environments.machine import cpu

    if "avx512f" not in cpu().instruction_sets:
        pytest.skip("vLLM's 4-bit kernel on the CPU needs AVX-512")


@pytest.mark.parametrize("method", ["gptq", "awq", "smoothquant"])
def test_vllm_continues_as_the_packed_weights_do(checkpoints, request, method):
    """Greedily; where the two part, both tokens are nearly as likely. 4-bit weights are served in float16 without being asked to."""
    from transformers import AutoTokenizer

    if method != "smoothquant":
        request.getfixturevalue("kernels")
    tokenizer = AutoTokenizer.from_pretrained(folder("tiny"))
    heads = [tokenizer(prompt(KINDS[n % len(KINDS)], f"vllm/{n}").text).input_ids for n in range(PROMPTS)]
    with serve("vllm", model=checkpoints(method), share=False, progress=False) as server:
        with ThreadPoolExecutor(8) as users:
            tails = list(users.map(lambda head: complete(server, head), heads))
    model = load_model(checkpoints(method))
    same = 0
    for head, tail in zip(heads, tails, strict=True):
        with torch.inference_mode():
            table = model(torch.tensor([head + tail[:-1]])).logits[0].log_softmax(-1)[len(head) - 1 :]
        best = table.argmax(-1).tolist()
        place = next((place for place in range(TOKENS) if best[place] != tail[place]), None)
        same += place is None
        if place is not None:
            assert table[place, best[place]] - table[place, tail[place]] < 0.1
    assert same >= 0.7 * PROMPTS


def test_a_4_bit_checkpoint_in_float32_is_refused_with_the_remedy(checkpoints, kernels):
    with pytest.raises(ServerError, match="computes in 16 bits, not in float32: leave dtype out"):
        serve("vllm", model=checkpoints("awq"), dtype="float32", share=False, progress=False)


def test_a_cpu_without_avx_512_is_told_before_vllm_dies_of_it(checkpoints, monkeypatch):
    from dataclasses import replace

    from labkit.environments import machine
    from labkit.servers.vllm import check_kernels

    old = replace(machine.cpu(), instruction_sets=["avx", "avx2"])
    monkeypatch.setattr(machine, "cpu", lambda: old)
    with pytest.raises(ServerError, match="needs AVX-512, which this CPU lacks. Serve the original .* smoothquant"):
        check_kernels(checkpoints("awq"), [])
    check_kernels(checkpoints("smoothquant"), [])
    check_kernels(folder("tiny"), ["--dtype", "float32"])
