"""The real vLLM engine inside the real tritonserver, on the CPU."""
from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from labkit.clients.exchange import Reply, Request
from labkit.clients.triton import TritonClient
from labkit.clients.triton_grpc import TritonGrpcClient
from labkit.environments.gpu import gpus
from labkit.models import folder
from labkit.servers import Server, ServerError, serve
from labkit.trace import Step, read
from tests.servers.conftest import alive, eventually

PROMPTS = ["Once upon a time", "The capital of", "2 + 2 =", "A serving engine batches"]
pytestmark = pytest.mark.skipif(bool(gpus()), reason="on a GPU machine vLLM runs in NVIDIA's container")


@pytest.fixture(scope="module")
def triton() -> Iterator[Server]:
    with serve("triton", engine="vllm", share=False, progress=False, max_model_len=512) as server:
        yield server


def ask(server: Server, requests: list[Request], grpc: bool = False) -> list[Reply]:
    async def run() -> list[Reply]:
        replies = [Reply() for _ in requests]
        async with TritonGrpcClient(f"127.0.0.1:{server.ports['grpc']}", "vllm") if grpc else TritonClient(server.url) as client:
            await client.prepare()
            await asyncio.gather(*(client.stream(request, reply) for request, reply in zip(requests, replies, strict=True)))
        return replies

    return asyncio.run(run())


def ends(server: Server) -> list[str]:
    """How requests ended so far, by the run file."""
    return [reason for event in read(server.run_file).events if isinstance(event, Step) for reason in event.finished.values()]


@pytest.mark.parametrize("grpc", [False, True], ids=["http", "grpc"])
def test_concurrent_streams_are_transformers_greedy_texts(triton, grpc):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder("tiny"), dtype="float32"), AutoTokenizer.from_pretrained(folder("tiny"))
    for prompt, reply in zip(PROMPTS, ask(triton, [Request(prompt, 16) for prompt in PROMPTS], grpc), strict=True):
        inputs = tokenizer(prompt, return_tensors="pt")
        made = model.generate(**inputs, max_new_tokens=16, do_sample=False)[0, inputs["input_ids"].shape[1]:]
        assert reply.error is None
        assert reply.text == tokenizer.decode(made, skip_special_tokens=True)
        assert reply.usage == {"prompt_tokens": inputs["input_ids"].shape[1], "completion_tokens": len(made)}


def test_a_bad_request_gets_vllms_own_words(triton):
    bad, long = ask(triton, [Request("a", extra={"temprature": 0}), Request("word " * 1000)])
    assert "temprature" in bad.error.message
    assert "512" in long.error.message


def test_the_probe_tells_of_this_engine_too(triton):
    ask(triton, [Request("probe", 8, extra={"ignore_eos": True})])
    assert eventually(lambda: "length" in ends(triton))
    header = read(triton.run_file).header
    assert (header.source, header.badge, header.configuration["block_size"]) == ("vllm", "live", 32)


def test_a_client_that_leaves_ends_its_request(triton):
    async def leave() -> Reply:
        async with TritonClient(triton.url) as client:
            await client.prepare()
            await client.stream(Request("leaves", 480, extra={"ignore_eos": True}), reply := Reply(), timeout=1.0)
            return reply

    assert asyncio.run(leave()).error.cause == "timeout"
    assert eventually(lambda: "abort" in ends(triton))


def test_an_engine_that_is_killed_ends_its_streams_with_an_error(triton):
    family = psutil.Process(triton.pid).children(recursive=True)
    engine = next(process for process in family if process.name().startswith("VLLM::Engine") or "EngineCore" in " ".join(process.cmdline()))
    with ThreadPoolExecutor(1) as pool:
        stream = pool.submit(ask, triton, [Request("dies", 480, extra={"ignore_eos": True})])
        before = len(read(triton.run_file).events)
        assert eventually(lambda: len(read(triton.run_file).events) > before + 3)
        engine.kill()
        (reply,) = stream.result(timeout=30)
    assert reply.error.cause in ("stream", "disconnected")
    triton.stop()
    assert not any(alive(process.pid) for process in family)


def test_a_wrong_option_of_the_engine_is_told_in_vllms_words():
    with pytest.raises(ServerError, match="the model vllm could not be loaded: .*max_model_len"):
        serve("triton", engine="vllm", share=False, progress=False, max_model_len=10**9)
