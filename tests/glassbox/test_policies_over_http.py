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
SLOW = ("--max-steps-per-second", "300")  # what runs is still running when the test comes back to it


@pytest.fixture(scope="module")
def alone():
    """alone(prompt, tokens) -> the text that an engine without company gives."""
    engine = Engine.from_folder(folder("tiny"), EngineOptions(max_model_len=1024))

    def text(prompt: str, tokens: int) -> str:
        return engine.generate([prompt], SamplingParams(max_tokens=tokens, temperature=0.0, ignore_eos=True))[0].text

    return text


def test_overload_is_a_429_with_retry_after_and_the_requests_in_flight_are_untouched(tmp_path, alone):
    flags = ("--policy", "tgi", "--max-concurrent-requests", "2", "--max-batch-total-tokens", "1850", "--max-model-len", "2048")
    with serving(tmp_path / "log", *flags, *SLOW, "--trace-file", str(tmp_path / "run.jsonl"), "--check-invariants") as server:
        asked = {"max_tokens": 900, "stream": True, **GREEDY}
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
        assert texts == [alone("A block", 900), alone("The cache", 900)]
        with pytest.raises(openai.BadRequestError, match="make 185[0-9], and --max-batch-total-tokens is 1850: this request can never"):
            server.client.completions.create(prompt="Too long", max_tokens=1850, **GREEDY)
        assert server.client.completions.create(prompt="A block", max_tokens=5, **GREEDY).choices[0].text == alone("A block", 5)
        metrics = server.metrics()
        assert metrics["glassbox:admission_rejections_total"] == 3 and metrics["glassbox:e2e_request_latency_seconds_count"] == 3
        server.process.terminate()
        server.end()
    run = read(tmp_path / "run.jsonl")
    ends = [reason for event in run.events if isinstance(event, Step) for reason in event.finished.values()]
    assert sorted(ends) == ["length"] * 3 + ["refused"] * 3
    assert run.header.configuration["policy"] == "tgi"
    assert run.header.configuration["policy_parameters"] == {"max_concurrent_requests": 2, "max_batch_total_tokens": 1850}


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
    flags = ("--scheduling-policy", "priority", "--max-num-seqs", "1", "--trace-file", str(tmp_path / "run.jsonl"))
    with serving(tmp_path / "log", *flags, *SLOW) as server:

        def ask(prompt: str, tokens: int, priority: int) -> str:
            body = {"ignore_eos": True, "priority": priority}
            return server.client.completions.create(model="tiny", prompt=prompt, max_tokens=tokens, temperature=0, extra_body=body).id

        with ThreadPoolExecutor(3) as pool:
            first = pool.submit(ask, "first in", 1500, 0)
            wait_until(lambda: server.metrics()["glassbox:num_requests_running"] == 1, "the first runs")
            unimportant = pool.submit(ask, "unimportant", 2, 5)
            wait_until(lambda: server.metrics()["glassbox:num_requests_waiting"] == 1, "the second waits")
            important = pool.submit(ask, "important", 2, -1)
            wait_until(lambda: server.metrics()["glassbox:num_requests_waiting"] == 2, "the third waits")
            expected = [first.result(), important.result(), unimportant.result()]
        with pytest.raises(openai.BadRequestError, match="priority must be of type int"):
            server.client.completions.create(model="tiny", prompt="x", extra_body={"priority": "high"})
        server.process.terminate()
        server.end()
    ended = [request for event in read(tmp_path / "run.jsonl").events if isinstance(event, Step) for request in event.finished]
    assert ["cmpl-" + request.removesuffix("-0") for request in ended] == expected
