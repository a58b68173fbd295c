"""The server as its users meet it: a real process, the official OpenAI client, Prometheus' own parser."""
from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import openai
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from labkit.glassbox import Engine, EngineOptions, SamplingParams
from labkit.models import folder
from labkit.servers.preflight import free_ports
from labkit.trace import PoolState, Step, read, subscribe

DEADLINE = 120.0  # seconds; far beyond what anything here takes, for machines that are busy


def wait_until(condition: Callable[[], object], what: str) -> object:
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError(f"not within {DEADLINE} s: {what}")


class Server:
    def __init__(self, log: Path, *flags: str, port: int | None = None) -> None:
        self.port, self.log = port or free_ports()[0], log
        command = [sys.executable, "-m", "labkit.glassbox.server", "--port", str(self.port), *flags]
        with log.open("wb") as file:
            self.process = subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True)
        self.url = f"http://127.0.0.1:{self.port}"
        self.client = openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0, timeout=DEADLINE)

    def wait_ready(self) -> Server:
        wait_until(lambda: self.process.poll() is not None or self.healthy(), "the server is ready")
        assert self.process.poll() is None, self.log.read_text()
        return self

    def healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=5) as response:
                return response.status == 200
        except OSError:
            return False

    def metrics(self) -> dict[str, float]:
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=30) as response:
            families = text_string_to_metric_families(response.read().decode())
        return {sample.name: sample.value for family in families for sample in family.samples if "le" not in sample.labels}

    def end(self) -> str:
        """Exit code and log of a server that ends by itself."""
        self.process.wait(DEADLINE)
        return self.log.read_text()

    def close(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.client.close()


@contextmanager
def serving(log: Path, *flags: str) -> Iterator[Server]:
    server = Server(log, *flags)
    try:
        yield server.wait_ready()
    finally:
        server.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("server") / "log", "--max-model-len", "512", "--check-invariants") as server:
        yield server


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine.from_folder(folder("tiny"), EngineOptions(max_model_len=512))


def test_completions_are_the_engines_own_tokens_in_all_four_forms_of_prompt(server, engine):
    texts = ["The cache holds", "A block is"]
    ids = [engine.tokenizer.encode(text) for text in texts]
    expected = [output.text for output in engine.generate(ids, SamplingParams(max_tokens=16, temperature=0.0))]
    for prompt, wanted in ((texts[0], expected[:1]), (texts, expected), (ids[0], expected[:1]), (ids, expected)):
        reply = server.client.completions.create(model="tiny", prompt=prompt, temperature=0)
        assert [choice.text for choice in reply.choices] == wanted
        assert [choice.index for choice in reply.choices] == list(range(len(wanted)))
    assert reply.usage.prompt_tokens == sum(map(len, ids))


def test_a_stream_is_the_same_text_in_pieces_with_the_usage_at_its_end(server):
    arguments = dict(model="tiny", prompt="Once upon", max_tokens=24, temperature=0, extra_body={"ignore_eos": True})
    whole = server.client.completions.create(**arguments)
    chunks = list(server.client.completions.create(**arguments, stream=True, stream_options={"include_usage": True}))
    pieces = [chunk.choices[0] for chunk in chunks if chunk.choices]
    assert "".join(piece.text for piece in pieces) == whole.choices[0].text
    assert [piece.finish_reason for piece in pieces][-1] == "length"
    assert all(piece.finish_reason is None for piece in pieces[:-1])
    assert len(pieces) > 1
    assert chunks[-1].choices == []
    assert (chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens) == (whole.usage.prompt_tokens, 24)


def test_chat_renders_the_models_template_as_transformers_does(server, engine):
    from transformers import AutoTokenizer

    messages = [{"role": "system", "content": "Be short."}, {"role": "user", "content": [{"type": "text", "text": "What is a block?"}]}]
    plain = [messages[0], {"role": "user", "content": "What is a block?"}]
    prompt_ids = AutoTokenizer.from_pretrained(folder("tiny")).apply_chat_template(plain, add_generation_prompt=True)
    [expected] = engine.generate([prompt_ids], SamplingParams(max_tokens=20, temperature=0.0))
    arguments = dict(model="tiny", messages=messages, max_tokens=20, temperature=0)
    reply = server.client.chat.completions.create(**arguments, extra_body={"return_token_ids": True})
    assert reply.choices[0].prompt_token_ids == prompt_ids
    assert reply.choices[0].token_ids == expected.token_ids
    assert (reply.choices[0].message.role, reply.choices[0].message.content) == ("assistant", expected.text)
    chunks = list(server.client.chat.completions.create(**arguments, stream=True, extra_body={"return_token_ids": True}))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content for chunk in chunks) == expected.text
    assert [token for chunk in chunks for token in chunk.choices[0].token_ids] == expected.token_ids


def test_sampling_parameters_reach_the_engine(server, engine):
    body = {"top_k": 7, "repetition_penalty": 1.3, "ignore_eos": True, "min_tokens": 4}
    standard = {"max_tokens": 12, "temperature": 0.8, "top_p": 0.9, "seed": 4}
    reply = server.client.completions.create(model="tiny", prompt=[5, 6, 7], **standard, extra_body=body)
    params = SamplingParams(**standard, **body)
    assert reply.choices[0].text == engine.generate([[5, 6, 7]], params)[0].text
    several = server.client.completions.create(model="tiny", prompt=[5, 6, 7], max_tokens=12, n=3, seed=4, extra_body={"ignore_eos": True})
    assert len({choice.text for choice in several.choices}) > 1
    assert several.usage.completion_tokens == 36


def test_a_stop_string_ends_a_stream_and_never_shows(server):
    arguments = dict(model="tiny", prompt="Once upon", max_tokens=24, temperature=0, extra_body={"ignore_eos": True})
    text = server.client.completions.create(**arguments).choices[0].text
    stop = text[len(text) // 2 :][:4]
    choices = [chunk.choices[0] for chunk in server.client.completions.create(**arguments, stop=[stop], stream=True)]
    assert "".join(choice.text for choice in choices) == text[: text.index(stop)]
    assert choices[-1].finish_reason == "stop" and choices[-1].stop_reason == stop


def test_many_streams_at_once_each_get_their_own_tokens(server, engine):
    prompts = [[5, 6, n + 10] for n in range(24)]
    params = SamplingParams(max_tokens=20, temperature=0.0, ignore_eos=True)
    expected = [output.token_ids for output in engine.generate(prompts, params)]
    got: dict[int, list[int]] = {}

    def stream(index: int) -> None:
        body = {"ignore_eos": True, "return_token_ids": True}
        chunks = server.client.completions.create(
            model="tiny", prompt=prompts[index], max_tokens=20, temperature=0, stream=True, extra_body=body
        )
        got[index] = [token for chunk in chunks for token in chunk.choices[0].token_ids]

    threads = [threading.Thread(target=stream, args=(index,)) for index in range(len(prompts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert [got[index] for index in range(len(prompts))] == expected


def test_the_model_is_listed_with_its_context(server):
    [model] = server.client.models.list().data
    assert (model.id, model.max_model_len) == ("tiny", 512)


@pytest.mark.parametrize(
    ("arguments", "error", "param", "message"),
    [
        ({"prompt": [5] * 512}, openai.BadRequestError, "prompt", "the prompt has 512 tokens, and the context of 512 tokens"),
        ({"prompt": []}, openai.BadRequestError, "prompt", "prompt must be a string"),
        ({"prompt": [99999]}, openai.BadRequestError, "prompt", "token id 99999 is out of the vocabulary"),
        ({"model": "gpt-9"}, openai.NotFoundError, "model", "the model 'gpt-9' is not served here; this server has 'tiny'"),
        ({"temperature": -1}, openai.BadRequestError, "temperature", "temperature must be 0"),
        ({"temperature": "hot"}, openai.BadRequestError, "temperature", "temperature must be of type int or float, got 'hot'"),
        ({"temperature": 10**400}, openai.BadRequestError, "temperature", "temperature must be 0 (greedy) or more, and finite"),
        ({"extra_body": {"stop_token_ids": [999999], "min_tokens": 1}}, openai.BadRequestError, "stop_token_ids", "from 0 to 2047"),
        ({"extra_body": {"stop_token_ids": [-1]}}, openai.BadRequestError, "stop_token_ids", "from 0 to 2047, got [-1]"),
        ({"max_tokens": 0}, openai.BadRequestError, "max_tokens", "max_tokens must be at least 1, got 0"),
        ({"n": 0}, openai.BadRequestError, "n", "n must be from 1 to 128"),
        ({"logprobs": 3}, openai.BadRequestError, "logprobs", "logprobs is not supported by the glass box"),
        ({"stop": [5]}, openai.BadRequestError, "stop", "stop must be of type str, got 5"),
        ({"stream_options": {"include_usage": True}}, openai.BadRequestError, "stream_options", "needs stream=true"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_bad_requests_get_openais_error_with_the_parameter_named(server, arguments, error, param, message):
    with pytest.raises(error) as caught:
        server.client.completions.create(**{"model": "tiny", "prompt": "x"} | arguments)
    assert caught.value.param == param
    assert caught.value.body["code"] == caught.value.status_code
    assert message in caught.value.body["message"]


def test_bad_chats_bodies_and_paths_get_json_errors_too(server):
    with pytest.raises(openai.BadRequestError, match="messages must be a list"):
        server.client.chat.completions.create(model="tiny", messages=[])
    with pytest.raises(openai.BadRequestError, match="messages.content must be of type str"):
        server.client.chat.completions.create(model="tiny", messages=[{"role": "user", "content": [{"type": "image_url"}]}])
    for path, body, status in (("/v1/completions", b"{", 400), ("/v1/completions", b"[]", 400), ("/v1/nothing", b"{}", 404)):
        request = urllib.request.Request(server.url + path, data=body, headers={"Content-Type": "application/json"})
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request, timeout=30)
        assert caught.value.code == status
        assert json.load(caught.value)["error"]["code"] == status


def test_a_client_that_goes_away_frees_its_blocks_at_once(tmp_path):
    with serving(tmp_path / "log", "--max-steps-per-second", "50") as server:
        stream = server.client.completions.create(
            model="tiny", prompt=[7] * 20, max_tokens=1000, stream=True, temperature=0, extra_body={"ignore_eos": True}
        )
        next(iter(stream))
        assert server.metrics()["glassbox:kv_cache_usage_perc"] > 0
        stream.close()
        wait_until(lambda: server.metrics()["glassbox:kv_cache_usage_perc"] == 0, "blocks are free")
        assert server.metrics()["glassbox:num_requests_running"] == 0
        assert server.metrics()["glassbox:generation_tokens_total"] < 1000


def test_metrics_parse_and_count_what_was_served(server):
    before = server.metrics()
    server.client.completions.create(model="tiny", prompt=[11] * 40, max_tokens=8, temperature=0, extra_body={"ignore_eos": True})
    server.client.completions.create(model="tiny", prompt=[11] * 40, max_tokens=8, temperature=0, extra_body={"ignore_eos": True})
    after = server.metrics()

    def grown(name: str) -> float:
        return after[f"glassbox:{name}"] - before.get(f"glassbox:{name}", 0.0)

    assert grown("prompt_tokens_total") == 80
    assert grown("generation_tokens_total") == 16
    assert grown("prefix_cache_queries_total") == 80
    assert grown("prefix_cache_hits_total") == 32  # two whole blocks of 16
    assert grown("time_to_first_token_seconds_count") == grown("e2e_request_latency_seconds_count") == 2
    assert grown("inter_token_latency_seconds_count") == 14
    assert grown("iteration_tokens_total_sum") == 80 - 32 + 14
    assert after["glassbox:num_requests_waiting"] == 0


def test_overload_is_refused_with_429_and_retry_after_and_those_in_flight_go_on(tmp_path):
    with serving(tmp_path / "log", "--max-num-seqs", "1", "--max-num-queued-reqs", "2", "--max-steps-per-second", "100") as server:
        body = {"ignore_eos": True, "return_token_ids": True}
        arguments = dict(model="tiny", prompt=[5, 6], max_tokens=400, temperature=0, stream=True, extra_body=body)
        running = server.client.completions.create(**arguments)
        first = next(iter(running))
        counts: list[int] = []

        def count(stream) -> int:
            return sum(len(chunk.choices[0].token_ids) for chunk in stream)

        queued = threading.Thread(target=lambda: counts.append(count(server.client.completions.create(**arguments))))
        queued.start()
        wait_until(lambda: server.metrics()["glassbox:num_requests_waiting"] == 1, "one request waits")
        with pytest.raises(openai.RateLimitError) as caught:
            server.client.completions.create(model="tiny", prompt="x")
        assert caught.value.response.headers["Retry-After"] == "1"
        assert "2 requests are here and --max-num-queued-reqs is 2" in str(caught.value)
        assert count([first]) + count(running) == 400
        queued.join(DEADLINE)
        assert counts == [400]
        assert server.metrics()["glassbox:admission_rejections_total"] == 1


def test_the_run_is_traced_to_a_file_and_a_socket(tmp_path):
    socket_path, file = tmp_path / "trace.sock", tmp_path / "run.jsonl"
    flags = ("--trace-socket", str(socket_path), "--trace-file", str(file), "--trace-name", "mine", "--block-size", "4")
    with serving(tmp_path / "log", *flags, "--num-gpu-blocks-override", "512") as server:
        live = []

        def follow() -> None:
            for event in subscribe(socket_path):
                live.append(event)

        follower = threading.Thread(target=follow, daemon=True)
        follower.start()
        for _ in range(2):
            server.client.completions.create(model="tiny", prompt=[9] * 12, max_tokens=6, extra_body={"ignore_eos": True})
        wait_until(lambda: sum(len(getattr(event, "finished", ())) for event in live) == 2, "both ends were seen live")
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(DEADLINE) == 0
        follower.join(DEADLINE)
    run = read(file)
    assert run.header.name == "mine" and run.header.badge == "live" and run.header.configuration["block_size"] == 4
    state = PoolState(run.header)
    for event in run.events:
        state.apply(event)
    assert (state.finished, state.sampled_tokens, state.hit_tokens, state.usage) == (2, 12, 8, 0)


def test_a_run_file_that_cannot_be_written_is_named_in_the_log_and_the_server_goes_on(tmp_path):
    with serving(tmp_path / "log", "--trace-file", "/proc/none/run.jsonl") as server:
        server.client.completions.create(model="tiny", prompt="x", max_tokens=2)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(DEADLINE) == 0
        assert "trace: run file /proc/none/run.jsonl is incomplete" in server.log.read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_a_signal_ends_both_processes_in_mid_stream(tmp_path, number):
    with serving(tmp_path / "log") as server:
        children = psutil.Process(server.process.pid).children()
        stream = server.client.completions.create(
            model="tiny", prompt="x", max_tokens=1500, stream=True, extra_body={"ignore_eos": True}
        )
        next(iter(stream))
        os.killpg(server.process.pid, number)
        assert server.process.wait(DEADLINE) == 0
        assert len(children) == 1
        psutil.wait_procs(children, timeout=DEADLINE)
        assert not any(child.is_running() for child in children)
        stream.close()


def test_a_server_killed_9_leaves_no_engine_behind(tmp_path):
    with serving(tmp_path / "log") as server:
        [child] = psutil.Process(server.process.pid).children()
        server.process.kill()
        wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, "the engine process ends")


def test_an_engine_that_dies_in_mid_stream_ends_the_stream_with_an_error_and_the_server_with_code_1(tmp_path):
    with serving(tmp_path / "log", "--max-steps-per-second", "100") as server:
        [child] = psutil.Process(server.process.pid).children()
        stream = server.client.completions.create(
            model="tiny", prompt="x", max_tokens=1500, stream=True, extra_body={"ignore_eos": True}
        )
        next(iter(stream))
        child.kill()
        with pytest.raises(openai.APIError, match="the engine process ended .killed, most likely for lack of memory"):
            list(stream)
        assert server.process.wait(DEADLINE) == 1
        assert "error: the engine process ended" in server.log.read_text().splitlines()[-1]


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (["--model", "nowhere"], 2, "no model 'nowhere'"),
        (["--block-size", "0"], 2, "--block-size must be at least 1"),
        (["--max-steps-per-second", "0"], 2, "--max-steps-per-second must be at least 1"),
        (["--num-gpu-blocks-override", "4"], 2, "raise --num-gpu-blocks-override to 128, or lower --max-model-len to 64"),
        (["--max-model-len", "1"], 2, "--max-model-len must be at least 2"),
        (["--max-model-len", "9999"], 2, "is more than the model's context of 2048 tokens"),
        (["--blocksize", "4"], 2, "unrecognized arguments: --blocksize 4"),
        (["--num-gpu-blocks-override", "9999999999"], 1, "the KV pool does not fit"),
        (["--device", "abacus"], 1, "--device 'abacus'"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_start_that_cannot_work_ends_at_once_and_its_last_line_says_why(tmp_path, flags, code, message):
    server = Server(tmp_path / "log", *flags)
    try:
        log = server.end()
        assert server.process.returncode == code
        assert "error: " in log.splitlines()[-1] and message in log.splitlines()[-1]
    finally:
        server.close()


def test_a_damaged_checkpoint_is_named(tmp_path, model_folder):
    server = Server(tmp_path / "log", "--model", str(model_folder("llama")))  # it has no tokenizer
    try:
        assert "has no tokenizer.json" in server.end().splitlines()[-1]
        assert server.process.returncode == 2
    finally:
        server.close()


def test_a_port_that_is_taken_is_named_before_anything_is_loaded(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server = Server(tmp_path / "log", port=port)
        try:
            log = server.end()
        finally:
            server.close()
    assert server.process.returncode == 2
    assert f"cannot listen on 127.0.0.1:{port}" in log and "choose another --port" in log
    assert "importing torch" not in log


def test_in_slow_motion_steps_are_no_more_than_asked_for_and_the_answer_is_the_same(tmp_path, server):
    asked = {"model": "tiny", "prompt": "A block holds", "max_tokens": 21, "temperature": 0, "extra_body": {"ignore_eos": True}}
    with serving(tmp_path / "log", "--max-steps-per-second", "50", "--trace-file", str(tmp_path / "run.jsonl")) as slow:
        assert slow.client.completions.create(**asked).choices[0].text == server.client.completions.create(**asked).choices[0].text
        slow.process.terminate()
        slow.end()
    run = read(tmp_path / "run.jsonl")
    assert run.header.configuration["max_steps_per_second"] == 50
    times = [event.t for event in run.events if isinstance(event, Step) and event.scheduled]
    assert len(times) == 21 and times[-1] - times[0] >= 20 / 50 - 0.02
