"""The real tritonserver: two ensembles, streaming, dynamic batching, bad requests, a model that dies, nothing left behind."""
from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from labkit.clients.exchange import Reply, Request
from labkit.clients.triton import TritonClient
from labkit.clients.triton_grpc import TritonGrpcClient
from labkit.models import folder
from labkit.servers import Server, ServerError, serve
from labkit.trace import Step, read
from tests.servers.conftest import alive, eventually

PROMPTS = ["Once upon a time", "The capital of", "2 + 2 =", "A serving engine batches"]
OWN_MODEL = """
import numpy as np
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def initialize(self, args):
        {initialize}

    def execute(self, requests):
        xs = [pb_utils.get_input_tensor_by_name(request, "x").as_numpy() for request in requests]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("y", 2 * x)]) for x in xs]
"""
OWN_CONFIG = """
name: "double" backend: "python"
input [{ name: "x" data_type: TYPE_FP32 dims: [-1] }]
output [{ name: "y" data_type: TYPE_FP32 dims: [-1] }]
instance_group [{ kind: KIND_CPU }]
"""


def own_repository(root: Path, initialize: str = "pass") -> Path:
    (root / "double" / "1").mkdir(parents=True)
    (root / "double" / "config.pbtxt").write_text(OWN_CONFIG)
    (root / "double" / "1" / "model.py").write_text(OWN_MODEL.format(initialize=initialize))
    return root


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    own = own_repository(tmp_path_factory.mktemp("own"))
    with serve("triton", share=False, progress=False, model_repository=str(own), max_queue_delay_microseconds=100_000, block_size=16,
               num_gpu_blocks_override=256) as server:
        yield server


@pytest.fixture(scope="module")
def reference():
    """transformers' model in float32, and the checkpoint's tokenizer."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(folder("tiny"), dtype="float32").eval(), AutoTokenizer.from_pretrained(folder("tiny"))


def greedy(reference, prompt: str, tokens: int) -> str:
    model, tokenizer = reference
    inputs = tokenizer(prompt, return_tensors="pt")
    made = model.generate(**inputs, max_new_tokens=tokens, do_sample=False)[0, inputs["input_ids"].shape[1]:]
    return tokenizer.decode(made, skip_special_tokens=True)


def post(server: Server, path: str, body: dict) -> dict | str:
    """The JSON of the answer (the text, where it is a stream). Raises `HTTPError`."""
    request = urllib.request.Request(f"{server.url}/v2/{path}", json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=60) as answer:
        text = answer.read().decode()
    return text if path.endswith("_stream") else json.loads(text)


def refusal(server: Server, path: str, body: dict) -> str:
    with pytest.raises(urllib.error.HTTPError) as error:
        post(server, path, body)
    assert error.value.code == 400
    return error.value.read().decode()


def ask(server: Server, request: Request, grpc: bool = False, timeout: float = 60) -> Reply:
    async def run() -> Reply:
        client = TritonGrpcClient(f"127.0.0.1:{server.ports['grpc']}", server.model) if grpc else TritonClient(server.url)
        async with client:
            await client.prepare()
            await client.stream(request, reply := Reply(), timeout=timeout)
            return reply

    return asyncio.run(run())


def steps(server: Server) -> list[Step]:
    """What the run file holds by now."""
    return [event for event in read(server.run_file).events if isinstance(event, Step)]


def batches(server: Server, prompts: list[str]) -> tuple[int, int]:
    """How many sequences the batched model computed, and in how many executions, while every prompt was asked at once."""
    def counts() -> tuple[int, int]:
        with urllib.request.urlopen(f"{server.url}/v2/models/next_token/stats", timeout=10) as answer:
            stats = json.load(answer)["model_stats"][0]
        return stats["inference_count"], stats["execution_count"]

    before = counts()
    with ThreadPoolExecutor(len(prompts)) as pool:
        list(pool.map(lambda prompt: post(server, "models/ensemble/generate", {"prompt": prompt}), prompts))
    assert eventually(lambda: counts()[0] - before[0] >= len(prompts))  # the server counts an inference just after it has answered it
    return tuple(now - then for now, then in zip(counts(), before, strict=True))


def test_every_model_of_the_repository_is_ready(triton):
    index = post(triton, "repository/index", {})
    assert {entry["name"]: entry["state"] for entry in index} == dict.fromkeys(
        ["tokenizer", "next_token", "detokenizer", "ensemble", "glassbox", "streaming_ensemble", "double"], "READY")
    assert triton.badge == "live"
    assert triton.health()


@pytest.mark.parametrize("prompt", PROMPTS)
def test_the_articles_ensemble_answers_with_exactly_the_greedy_next_token(triton, reference, prompt):
    assert post(triton, "models/ensemble/generate", {"prompt": prompt})["response"] == greedy(reference, prompt, 1)


def test_prompts_of_different_lengths_in_one_request_are_padded_and_do_not_disturb_each_other(triton, reference):
    expected = [greedy(reference, prompt, 1) for prompt in PROMPTS]
    assert post(triton, "models/ensemble/generate", {"prompt": PROMPTS})["response"] == expected


def test_a_user_s_own_model_is_served_beside_labkits(triton):
    assert post(triton, "models/double/generate", {"x": [1.0, 2.5]})["y"] == [2.0, 5.0]


@pytest.mark.parametrize("grpc", [False, True], ids=["http", "grpc"])
def test_a_stream_is_the_greedy_text_one_token_a_response(triton, reference, grpc):
    reply = ask(triton, Request(PROMPTS[0], max_tokens=24), grpc)
    assert reply.error is None
    assert reply.text == greedy(reference, PROMPTS[0], 24)
    assert reply.n_tok == [1] * reply.usage["completion_tokens"]
    assert reply.usage["prompt_tokens"] == len(reference[1](PROMPTS[0])["input_ids"])
    assert reply.finish_reason == ("length" if reply.usage["completion_tokens"] == 24 else "stop")
    assert reply.t_send < reply.t_event[0] <= reply.t_event[-1] <= reply.t_end


def test_generate_answers_at_once_with_the_prompt_in_front_unless_told_otherwise_as_the_vllm_backend_does(triton, reference):
    text, parameters = greedy(reference, PROMPTS[1], 12), {"max_tokens": 12, "temperature": 0}
    body = {"text_input": PROMPTS[1], "parameters": parameters}
    assert post(triton, "models/glassbox/generate", body)["text_output"] == PROMPTS[1] + text
    assert post(triton, "models/glassbox/generate", body | {"exclude_input_in_output": True})["text_output"] == text


def test_the_streaming_ensemble_detokenizes_to_the_engines_own_text_character_by_character(triton):
    """At a high temperature the model says anything, broken characters included."""
    for seed in range(8):
        sampling = {"max_tokens": 40, "temperature": 5.0, "seed": seed, "ignore_eos": True}
        events = post(triton, "models/streaming_ensemble/generate_stream",
                      {"prompt": PROMPTS[2], "stream": True, "sampling_parameters": json.dumps(sampling)})
        pieces = [json.loads(line.removeprefix("data: "))["response"] for line in events.splitlines() if line]
        body = {"text_input": PROMPTS[2], "exclude_input_in_output": True, "parameters": sampling}
        assert len(pieces) > 20
        assert "".join(pieces) == post(triton, "models/glassbox/generate", body)["text_output"]


def test_a_seed_makes_sampling_repeatable(triton):
    def text(seed: int) -> str:
        return ask(triton, Request(PROMPTS[3], 24, temperature=1.5, extra={"seed": seed})).text

    assert text(1) == text(1) != text(2)


def test_with_a_queue_delay_concurrent_requests_of_different_lengths_share_executions(triton):
    inferences, executions = batches(triton, PROMPTS * 4)
    assert inferences == 16
    assert inferences / executions >= 2


def test_one_client_that_waits_for_each_answer_is_never_batched(triton):
    for prompt in PROMPTS[:2]:
        assert batches(triton, [prompt]) == (1, 1)


@pytest.mark.parametrize(("body", "message"), [
    ({"text_input": "a", "parameters": {"temprature": 0}}, "there is no sampling parameter 'temprature'"),
    ({"text_input": "a", "parameters": {"temperature": -1}}, "temperature must be 0 (greedy) or more, and finite, got -1"),
    ({"text_input": "a", "sampling_parameters": '{"stop_token_ids": [-1]}'}, "stop_token_ids must be from 0 to 2047"),
    ({"text_input": "a", "sampling_parameters": '{"seed": [1]}'}, "seed must be an integer"),
    ({"text_input": "a", "sampling_parameters": "hot"}, "sampling_parameters is not JSON"),
    ({"text_input": "a", "stream": True, "exclude_input_in_output": False}, "a stream cannot repeat its prompt"),
    ({"text_input": "word " * 3000}, "shorten the prompt to 2047 tokens"),
    ({}, "give one of text_input and input_ids"),
])
def test_a_bad_request_fails_with_its_reason(triton, body, message):
    assert message in refusal(triton, "models/glassbox/generate", body)


@pytest.mark.parametrize("grpc", [False, True], ids=["http", "grpc"])
def test_a_client_names_the_reason_of_a_refused_stream(triton, grpc):
    reply = ask(triton, Request("word " * 3000), grpc)
    assert reply.pieces == []
    assert "shorten the prompt to 2047 tokens" in reply.error.message


def test_a_prompt_that_is_too_long_fails_alone_and_its_batch_goes_on(triton, reference):
    with ThreadPoolExecutor(4) as pool:
        good = [pool.submit(post, triton, "models/ensemble/generate", {"prompt": prompt}) for prompt in PROMPTS]
        assert "shorten the prompt" in refusal(triton, "models/ensemble/generate", {"prompt": "word " * 3000})
    assert [each.result()["response"] for each in good] == [greedy(reference, prompt, 1) for prompt in PROMPTS]


def test_the_engine_inside_triton_tells_its_block_tables_to_the_trace(triton):
    text = ask(triton, Request("the trace of this very request", 30, extra={"ignore_eos": True})).text
    assert text
    assert eventually(lambda: steps(triton)[-1].finished)
    run = read(triton.run_file)
    assert (run.header.source, run.header.configuration["block_size"], run.header.configuration["num_blocks"]) == ("glassbox", 16, 256)
    (request,) = steps(triton)[-1].finished
    (arrival,) = [step.arrived[request] for step in steps(triton) if request in step.arrived]
    blocks = [block for step in steps(triton) for block in [*step.given.get(request, []), *step.shared.get(request, [])]]
    assert len(blocks) == len(set(blocks)) == -(-(arrival.prompt + 30 - 1) // 16)  # the last token's KV is never computed


def test_a_client_that_leaves_in_mid_stream_frees_its_blocks(triton):
    reply = ask(triton, Request("leaves", 2000, extra={"ignore_eos": True}), timeout=0.5)
    assert reply.error.cause == "timeout"
    assert eventually(lambda: any("abort" in step.finished.values() for step in steps(triton)))


def test_metrics_are_tritons_own_and_count_what_was_asked(triton):
    before = triton.metrics()
    names = ("nv_inference_request_success_total", "nv_inference_count_total", "nv_inference_exec_count_total")
    post(triton, "models/double/generate", {"x": [1.0]})
    assert eventually(lambda: (after := triton.metrics()) and all(after[name] == before[name] + 1 for name in names))  # counted later


def test_without_the_batcher_every_request_is_an_execution_and_a_dead_model_ends_streams_and_leaves_nothing(reference):
    with serve("triton", share=False, progress=False, dynamic_batching=False) as server:
        assert batches(server, PROMPTS * 2) == (8, 8)

        family = psutil.Process(server.pid).children(recursive=True)
        stub = next(process for process in family if "/glassbox/" in " ".join(process.cmdline()))
        with ThreadPoolExecutor(1) as pool:
            stream = pool.submit(ask, server, Request("dies", 2000, extra={"ignore_eos": True}))
            assert eventually(lambda: len(steps(server)) > 5)
            stub.kill()
            reply = stream.result(timeout=30)
        assert reply.error.cause == "disconnected"
        assert reply.pieces
        assert eventually(lambda: server.fault() is not None)
        assert "the process of a Triton model has died" in server.fault()
    assert eventually(lambda: not any(alive(process.pid) for process in family))
    assert not list(Path("/dev/shm").glob(f"labkit-{Path(server.record.folder).name}*"))
    assert len(steps(server)) > 5


def test_a_model_that_cannot_be_loaded_is_named_with_its_own_error(tmp_path):
    own = own_repository(tmp_path, initialize="raise ValueError('the weights are elsewhere')")
    with pytest.raises(ServerError, match="the model double could not be loaded: .*the weights are elsewhere"):
        serve("triton", share=False, progress=False, model_repository=str(own))


def test_stopping_leaves_no_process_no_port_and_no_shared_memory(triton):
    family = psutil.Process(triton.pid).children(recursive=True)
    assert len(family) >= 6  # tritonserver and five stubs
    triton.stop()
    assert not any(alive(process.pid) for process in family)
    assert not list(Path("/dev/shm").glob(f"labkit-{Path(triton.record.folder).name}*"))
    assert not Path(triton.record.folder).exists()
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(triton.url, timeout=2)
