"""Policies as a server's users meet them: who is turned away and how, who comes first, and what the trace tells of padding."""
from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import openai
import pytest

from labkit.glassbox import Engine, EngineOptions, SamplingParams
from labkit.models import folder
from labkit.trace import Step, read
from tests.glassbox.test_server import serving, wait_until

GREEDY = dict(model="tiny", temperature=0, extra_body={"ignore_eos": True})


@pytest.fixture(scope="module")
def alone():
    """alone(prompt, tokens) -> the text that an engine without company gives."""
    engine = Engine.from_folder(folder("tiny"), EngineOptions(max_model_len=512))

    def text(prompt: str, tokens: int) -> str:
        return engine.generate([prompt], SamplingParams(max_tokens=tokens, temperature=0.0, ignore_eos=True))[0].text

    return text


def test_overload_is_a_429_with_retry_after_and_the_requests_in_flight_are_untouched(tmp_path, alone):
    flags = ("--policy", "tgi", "--max-concurrent-requests", "2", "--max-batch-total-tokens", "900", "--max-model-len", "1024")
    with serving(tmp_path / "log", *flags, "--trace-file", str(tmp_path / "run.jsonl"), "--check-invariants") as server:
        asked = {"max_tokens": 440, "stream": True, **GREEDY}
        streams = [server.client.completions.create(prompt=text, **asked) for text in ("A block", "The cache")]
        texts = [next(stream).choices[0].text for stream in streams]  # both are in
        for stream in (False, True):
            with pytest.raises(openai.RateLimitError) as caught:
                server.client.completions.create(prompt="One more", max_tokens=4, stream=stream, **GREEDY)
            assert caught.value.status_code == 429 and int(caught.value.response.headers["retry-after"]) >= 1
            error = caught.value.response.json()["error"]
            assert error["type"] == "TooManyRequestsError" and error["code"] == 429
            assert error["message"] == "Model is overloaded: --max-concurrent-requests 2 are in"
        texts = [text + "".join(chunk.choices[0].text for chunk in stream) for text, stream in zip(texts, streams, strict=True)]
        assert texts == [alone("A block", 440), alone("The cache", 440)]
        with pytest.raises(openai.BadRequestError, match="make 90[0-9], and --max-batch-total-tokens is 900: this request can never start"):
            server.client.completions.create(prompt="Too long", max_tokens=900, **GREEDY)
        assert server.client.completions.create(prompt="A block", max_tokens=5, **GREEDY).choices[0].text == alone("A block", 5)
        metrics = server.metrics()
        assert metrics["glassbox:admission_rejections_total"] == 3 and metrics["glassbox:e2e_request_latency_seconds_count"] == 3
        server.process.terminate()
        server.end()
    run = read(tmp_path / "run.jsonl")
    ends = [reason for event in run.events if isinstance(event, Step) for reason in event.finished.values()]
    assert sorted(ends) == ["length"] * 3 + ["refused"] * 3
    assert run.header.configuration["policy"] == "tgi"
    assert run.header.configuration["policy_parameters"] == {"max_concurrent_requests": 2, "max_batch_total_tokens": 900}


def test_a_batch_waits_for_its_size_pads_and_rejects_who_has_waited_too_long(tmp_path, alone):
    flags = ("--policy", "dynamic", "--max-batch-size", "2", "--preferred-batch-size", "2", "--max-queue-delay-microseconds", "60000000")
    timeout = ("--default-timeout-microseconds", "3000000")
    with serving(tmp_path / "log", *flags, *timeout, "--trace-file", str(tmp_path / "run.jsonl"), "--check-invariants") as server:
        with pytest.raises(openai.RateLimitError, match="time in the queue is over"):
            server.client.completions.create(prompt="Alone", max_tokens=4, **GREEDY)
        asked = [("A block", 12), ("The cache holds keys and values", 3)]
        with ThreadPoolExecutor(2) as pool:
            replies = list(pool.map(lambda ask: server.client.completions.create(prompt=ask[0], max_tokens=ask[1], **GREEDY), asked))
        assert [reply.choices[0].text for reply in replies] == [alone(*ask) for ask in asked]
        server.process.terminate()
        server.end()
    steps = [event for event in read(tmp_path / "run.jsonl").events if isinstance(event, Step)]
    assert sum(sum(step.padding.values()) for step in steps if len(step.scheduled) == 1) == 9  # 12 tokens of one, 3 of the other
    assert [len(step.held) for step in steps if step.held] == [1] and [len(step.released) for step in steps if step.released] == [1]


def test_the_priority_of_a_request_decides_who_comes_next(tmp_path):
    with serving(tmp_path / "log", "--scheduling-policy", "priority", "--max-num-seqs", "1", "--max-model-len", "512") as server:
        order: list[str] = []

        def ask(name: str, tokens: int, priority: int) -> None:
            body = {"ignore_eos": True, "priority": priority}
            server.client.completions.create(model="tiny", prompt=name, max_tokens=tokens, temperature=0, extra_body=body)
            order.append(name)

        with ThreadPoolExecutor(3) as pool:
            done = [pool.submit(ask, "first in", 300, 0)]
            wait_until(lambda: server.metrics()["glassbox:num_requests_running"] == 1, "the first runs")
            for number, (name, priority) in enumerate({"unimportant": 5, "important": -1}.items(), 1):
                done.append(pool.submit(ask, name, 2, priority))
                wait_until(lambda: server.metrics()["glassbox:num_requests_waiting"] == number or len(order) == 3, "it waits")  # noqa: B023
            for future in done:
                future.result()
        assert order == ["first in", "important", "unimportant"]
        with pytest.raises(openai.BadRequestError, match="priority must be of type int"):
            server.client.completions.create(model="tiny", prompt="x", extra_body={"priority": "high"})
