"""The real vLLM under labkit, and the probe inside it. One server does for most of it: a start takes 15 to 20 seconds."""
from __future__ import annotations

import http.client
import json
import os
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from labkit.bench import hygiene
from labkit.bench.probe import Scraper, check_snapshots, compare
from labkit.load.prompts import Prompts
from labkit.load.run import load
from labkit.servers import Server, ServerError, serve
from labkit.trace import PoolState, Step, read, read_idle, subscribe
from tests.servers.conftest import alive, eventually

SETTINGS = {"num_gpu_blocks_override": 80, "max_num_seqs": 16}  # a pool that a load of 16 requests does not fit into


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    os.environ["LABKIT_TRACE_SNAPSHOTS"] = "20"
    with serve("vllm", share=True, progress=False, **SETTINGS) as server:
        del os.environ["LABKIT_TRACE_SNAPSHOTS"]
        yield server


def complete(server: Server, prompt: list[int], **more: object) -> dict:
    body = {"model": server.model, "prompt": prompt, "temperature": 0, "return_token_ids": True, "ignore_eos": True, **more}
    request = urllib.request.Request(server.url + "/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)


class Follower:
    """Follows the live stream on a thread of its own, as a view does."""

    def __init__(self, server: Server):
        self.subscription = subscribe(server.trace_socket)
        self.state = PoolState(self.subscription.header)
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        for event in self.subscription:
            self.state.apply(event)

    def __enter__(self) -> Follower:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.subscription.close()
        self.thread.join()


def engine_core(server: Server) -> psutil.Process:
    """vLLM's scheduling process: the API server's child that has a child of its own (the worker)."""
    return next(child for child in psutil.Process(server.pid).children() if child.children())


def idle(server: Server) -> bool:
    metrics = server.metrics()
    return metrics["vllm:num_requests_running"] == metrics["vllm:num_requests_waiting"] == metrics["vllm:kv_cache_usage_perc"] == 0


def test_it_is_the_real_engine_with_the_settings_asked_for(server):
    assert server.badge == "live"
    assert server.health()
    assert [phase for phase, _ in server.startup][-1] == "starting the HTTP server"
    with urllib.request.urlopen(server.url + "/version", timeout=10) as response:
        version = json.load(response)["version"]
    header = read(server.run_file).header
    assert (header.source, header.badge, header.versions["vllm"]) == ("vllm", "live", version)
    assert header.configuration["num_blocks"] == 80
    assert header.configuration["max_num_seqs"] == 16
    assert header.configuration["block_size"] == 32


def test_the_same_settings_join_it_at_once(server):
    begin = time.monotonic()
    with serve("vllm", progress=False, **SETTINGS) as other:
        assert other.pid == server.pid
        assert time.monotonic() - begin < 5
    assert server.health()


def test_traced_tokens_are_those_that_the_client_got(server):
    asked = {tuple(range(100 + i, 100 + i + 20 + 13 * i)): 10 + i for i in range(5)}
    answers = {prompt: complete(server, list(prompt), max_tokens=n)["choices"][0]["token_ids"] for prompt, n in asked.items()}
    assert eventually(lambda: idle(server))
    state = PoolState((run := read_idle(server.run_file)).header)
    traced: dict[tuple[int, ...], list[int]] = {}
    prompts: dict[str, tuple[int, ...]] = {}
    for event in run.events:
        state.apply(event)
        if isinstance(event, Step):
            prompts |= {name: tuple(arrival.token_ids) for name, arrival in event.arrived.items()}
            for name, tokens in event.sampled.items():
                traced.setdefault(prompts[name], []).extend(tokens)
    assert {prompt: traced[prompt] for prompt in asked} == answers
    assert state.requests == {}


def test_under_pressure_every_scrape_equals_the_trace_and_every_snapshot_the_fold(server):
    before = server.metrics()
    # sixteen requests grow to at least 220 tokens each, half of a prompt's shortest length shared: 86 blocks and more of the 79 there are
    prompts = Prompts(length=(100, 200), max_tokens=(120, 240), shared_prefix=0.5, kind="ids")
    with Follower(server) as follower, Scraper(server) as scraper:
        for seed in range(1, 6):  # a busy vLLM may answer a scrape only after a second: until there are enough
            result = load(server, requests=32, concurrency=20, seed=seed, prompts=prompts, extra={"ignore_eos": True}, progress=False)
            assert result.failures == {}
            if len({usage for _, usage in scraper.samples}) > 4 and len(scraper.samples) > 12:
                break
        assert eventually(lambda: idle(server))
        scraper.scrape()
        assert eventually(lambda: follower.state.step == read_idle(server.run_file).steps)
        run = read_idle(server.run_file)
    assert len(scraper.samples) > 10
    same, unequal = compare(run, scraper.samples)
    assert unequal == []
    assert same > 0.8 * len(scraper.samples)
    assert len({usage for _, usage in scraper.samples}) > 2  # idle, full, and something between
    snapshots, wrong = check_snapshots(run)
    assert snapshots > 5
    assert wrong == 0
    state, after = run.state_at(run.steps), server.metrics()
    assert state.preempted == after["vllm:num_preemptions_total"] > 0
    assert state.hit_tokens > 0
    assert after["vllm:prefix_cache_hits_total"] > before["vllm:prefix_cache_hits_total"]
    assert state.sampled_tokens == after["vllm:generation_tokens_total"]
    folded, followed = state.snapshot(), follower.state.snapshot()
    assert (followed.requests, sorted(followed.cached)) == (folded.requests, sorted(folded.cached))


def test_a_client_that_hangs_up_frees_its_blocks_and_the_trace_says_abort(server):
    connection = http.client.HTTPConnection("127.0.0.1", server.ports["http"], timeout=30)
    body = {"model": server.model, "prompt": list(range(50, 150)), "max_tokens": 1500, "stream": True, "ignore_eos": True}
    connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
    connection.getresponse().read(200)
    connection.close()
    assert eventually(lambda: idle(server))
    run = read_idle(server.run_file)
    steps = [event for event in run.events if isinstance(event, Step)]
    assert list(steps[-1].finished.values()) == ["abort"]
    assert run.state_at(run.steps).usage == 0


def test_a_dead_engine_is_told_of_with_its_cause_and_leaves_nothing(server):
    """The last test that uses the shared server."""
    family = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
    engine_core(server).kill()
    assert eventually(lambda: server.fault() is not None, 30)
    assert "vllm has ended" in server.fault()
    assert str(server.log) in server.fault()
    assert eventually(lambda: not any(alive(process.pid) for process in family))
    assert read(server.run_file).events


@pytest.mark.parametrize(("settings", "said"), [
    ({"max_num_seq": 3}, "vLLM has no option --max-num-seq. Did you mean --max-num-seqs?"),
    ({"dtype": "float7"}, "vLLM says: argument --dtype: invalid choice: 'float7'"),
    ({"block_size": 16}, r"vLLM says: No common block size for 16 .*leave block_size out, or give 32"),
])
def test_what_vllm_refuses_is_shown_in_its_words_with_a_remedy(settings, said):
    with pytest.raises(ServerError, match=said):
        serve("vllm", progress=False, **settings)


def test_a_mistake_in_the_probe_ends_the_probe_not_the_engine_and_no_other_environments_packages_are_found(monkeypatch, tmp_path):
    foreign = tmp_path / "site-packages"
    foreign.mkdir()
    (foreign / "torch.py").write_text("raise ImportError('the torch of another environment')")
    monkeypatch.setenv("PYTHONPATH", f"{foreign}:{Path(__file__).parent}")
    with serve("vllm", progress=False, scheduler_cls="broken_probe.scheduler") as server:
        assert len(complete(server, [5, 6, 7], max_tokens=20)["choices"][0]["token_ids"]) == 20
        assert "labkit: the probe has stopped: ZeroDivisionError" in server.log.read_text()


def test_a_kernel_killed_with_sigkill_leaves_no_process_and_no_port():
    outcome = hygiene.run("vllm", 1, 20, only="sigkill")["sigkill"][0]
    assert outcome["processes"] >= 6  # guard, its second, API server, resource tracker, engine core, worker
    assert outcome["left"] == []
