"""The whole ruler, generator process included, against a server whose times are known."""
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy
import psutil
import pytest

import labkit as lab
from labkit.load import arrivals, command
from labkit.load.process import LoadError
from labkit.load.result import LoadResult
from labkit.servers.preflight import free_ports

ROOT = Path(__file__).resolve().parents[2]


def server_stamps(record) -> list[int]:
    return [int(word) for word in record.text.split()]


def test_the_ruler_is_calibrated_its_stamps_are_the_servers_own_times_plus_a_short_delivery(mock_url, asks):
    result = lab.load(mock_url, 24, concurrency=4, prompts=[asks(first=0.05, gap=0.01)], max_tokens=32, progress=False)
    assert len(result.records) == 24 and all(record.ok and record.tokens == 32 for record in result.records)
    delivery = [(ours - theirs) / 1e6 for r in result.records for ours, theirs in zip(r.t_event, server_stamps(r), strict=True)]
    assert min(delivery) >= 0 and numpy.median(delivery) < 5
    true_gaps = [gap / 1e6 for r in result.records for gap in numpy.diff(server_stamps(r))]
    assert numpy.median(result.values("gap")) == pytest.approx(numpy.median(true_gaps), abs=1.0)
    assert min(result.values("ttft")) >= 50 and numpy.median(result.values("ttft")) < 50 + 25
    assert result.summary()["gap_is"] == "ITL"


def test_bundled_tokens_are_counted_by_the_server_and_the_gaps_are_not_called_itl(mock_url, asks):
    result = lab.load(mock_url, 2, prompts=[asks(n=8, gap=0.005, tokens_per_event=4)], progress=False)
    assert result.output_tokens == 2 * 32 and result.summary()["gap_is"] == "ICL"


def test_arrivals_keep_their_times_whatever_the_server_does(mock_url, asks):
    times = [0.0, 0.05, 0.1, 0.1, 0.4]
    result = lab.load(mock_url, 5, arrivals=arrivals.trace(times), prompts=[asks(first=4, n=1), asks(n=1)], progress=False)
    assert [(record.t_sched - result.origin) / 1e9 for record in result.records] == pytest.approx(times, abs=1e-6)
    assert all(record.t_sched <= record.t_ready <= record.t_send for record in result.records)
    # Every request left while the first was still unanswered: an open loop.
    assert result.records[-1].t_send < result.records[0].t_event[0]


def test_a_concurrency_limit_delays_and_the_wait_shows_in_ttft_from_schedule(mock_url, asks):
    result = lab.load(mock_url, 4, arrivals=arrivals.burst(4, concurrency=1), prompts=[asks(first=0.1, n=1)], progress=False)
    spans = sorted((record.t_send, record.t_end) for record in result.records)
    assert all(end <= start for (_, end), (start, _) in zip(spans, spans[1:], strict=False))
    assert max(result.values("ttft_scheduled")) >= 390 and max(result.values("ttft")) < max(result.values("ttft_scheduled")) - 200


def test_a_closed_loop_never_has_more_in_flight_than_users(mock_url, asks):
    result = lab.load(mock_url, 12, concurrency=3, prompts=[asks(first=0.02, n=2)], progress=False)
    changes = sorted([(r.t_send, 1) for r in result.records] + [(r.t_end, -1) for r in result.records])
    assert max(numpy.cumsum([change for _, change in changes])) == 3


def test_nobody_at_the_url_is_a_clear_error_at_once():
    begun = time.monotonic()
    with pytest.raises(LoadError, match="nothing listens at http://127.0.0.1") as caught:
        lab.load(f"http://127.0.0.1:{free_ports()[0]}", 4, progress=False)
    assert caught.value.cause == "refused" and time.monotonic() - begun < 10


@pytest.mark.parametrize(("what", "cause", "events", "seconds"), [
    ({"status": 400}, "http", 0, 60.0), ({"n": 3, "then": "disconnect"}, "disconnected", 3, 60.0),
    ({"n": 2, "then": "stall"}, "timeout", 2, 5.0), ({"n": 2, "then": "error"}, "stream", 2, 60.0),
])
def test_each_failure_is_a_record_with_its_cause_and_the_others_go_on(mock_url, asks, what, cause, events, seconds):
    result = lab.load(mock_url, 4, prompts=[asks(n=4), asks(**what)], request_timeout=seconds, progress=False)
    assert [record.ok for record in result.records] == [True, False, True, False]
    assert result.failures == {cause: 2}
    failed = result.records[1]
    assert len(failed.t_event) == events and failed.t_end > 0 and failed.error.message in str(result.table())


def test_a_server_that_dies_in_mid_stream_leaves_a_record_of_each_request(mock_url, asks):
    prompts = [asks(gap=0.01, n=400), asks(first=0.3, n=3, then="die")]
    result = lab.load(mock_url, 6, concurrency=2, prompts=prompts, progress=False)
    causes = [record.error.cause for record in result.records]
    assert causes[:2] == ["disconnected", "disconnected"]
    assert "refused" in causes and set(causes) == {"disconnected", "refused"}  # one may be on its way when the server dies
    assert result.records[0].t_event and result.records[1].t_event  # what came before the death is kept


def test_the_whole_run_has_an_end(mock_url, asks):
    result = lab.load(mock_url, 3, concurrency=3, prompts=[asks(n=1, then="stall")], timeout=1.0, progress=False)
    assert result.reason == "timeout" and result.failures == {"cancelled": 3} and "Cut off" in str(result.table())


def test_progress_is_told_while_the_run_goes_on_with_every_event(mock_url, asks):
    seen = []
    result = lab.load(mock_url, 6, concurrency=2, prompts=[asks(first=0.1, gap=0.01, n=10)], on_progress=seen.append, progress=False)
    assert (seen[-1].requests, seen[-1].done, seen[-1].tokens) == (6, 6, 60)
    assert any(0 < state.done < 6 for state in seen)
    told = sorted(event for state in seen for event in map(tuple, state.events))
    assert told == sorted((r.index, stamp) for r in result.records for stamp in r.t_event)


def test_an_interrupt_stops_the_run_and_keeps_the_records_so_far(mock_url, asks):
    def interrupt(state):
        if state.done >= 2 and not fired.is_set():
            fired.set()
            os.kill(os.getpid(), signal.SIGINT)

    fired = threading.Event()
    result = lab.load(mock_url, 500, concurrency=1, prompts=[asks(first=0.1, n=2)], on_progress=interrupt, progress=False)
    assert result.reason == "stopped" and 2 <= sum(record.ok for record in result.records) < 100
    assert "Stopped early" in str(result.table())


def test_the_generator_dies_with_its_parent(mock_url, asks):
    script = textwrap.dedent(f"""
        import labkit as lab, psutil
        told = lambda state: print(*(p.pid for p in psutil.Process().children()), flush=True)
        lab.load({mock_url!r}, 1, prompts=[{asks(n=1, then="stall")!r}], on_progress=told, progress=False)
    """)
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    child = psutil.Process(int(parent.stdout.readline()))
    parent.kill()
    parent.wait()
    parent.stdout.close()
    child.wait(timeout=20)  # raises if it lives on


def test_the_same_seed_asks_the_same_at_the_same_times_and_the_hash_says_so(mock_url):
    def plan(seed):
        from labkit.load.prompts import Prompts
        from labkit.load.run import trace_hash

        return trace_hash(arrivals.poisson(4, 8, seed), Prompts().draw(8, seed))

    assert plan(1) == plan(1) != plan(2)


def test_a_result_survives_its_file_and_draws_itself(mock_url, asks, tmp_path):
    result = lab.load(mock_url, 6, prompts=[asks(n=4, gap=0.002), asks(status=400)], objectives={"ttft": 1e4}, progress=False)
    again = LoadResult.load(result.save(tmp_path / "result.json"))
    assert again == result and again.summary() == result.summary()
    assert again.hardware["cores"] >= 1 and again.versions["labkit"] == lab.__version__
    picture, size = result.plot()._repr_png_()
    assert picture.startswith(b"\x89PNG") and size["width"] == 1100
    assert "<table>" in result._repr_html_()


def test_a_file_that_is_no_result_is_refused(tmp_path):
    (tmp_path / "x.json").write_text('{"schema": 1}')
    with pytest.raises(ValueError, match="not a saved load result"):
        LoadResult.load(tmp_path / "x.json")


@pytest.mark.parametrize("wrong", [
    {"requests": 0}, {"rate": 0}, {"concurrency": 0}, {"objectives": {"tbt": 1}}, {"arrivals": arrivals.burst(3)},
    {"arrivals": arrivals.burst(2), "rate": 1}, {"prompts": []},
])
def test_a_plan_that_makes_no_sense_is_refused_before_anything_is_sent(wrong):
    with pytest.raises(ValueError, match="."):
        lab.load("http://127.0.0.1:1", **{"requests": 2, "progress": False, **wrong})


def test_the_command_says_the_same_as_one_json_line_and_exits_zero(mock_url, asks, capsys):
    assert command.main([mock_url, "--requests", "3", "--prompt", asks(n=2), "--json"]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said["ok"] == 3 and said["output_tokens"] == 6 and said["ttft_ms"]["p95"] is None and said["client"]["limited"] in (True, False)


def test_the_command_exits_non_zero_when_a_request_fails_or_nobody_answers(mock_url, asks, capsys):
    assert command.main([mock_url, "--requests", "1", "--prompt", asks(status=404), "--json"]) == 1
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["failed"] == {"http": 1}
    assert command.main([f"http://127.0.0.1:{free_ports()[0]}", "--json"]) == 1
    answer = capsys.readouterr()
    assert json.loads(answer.out.splitlines()[-1])["cause"] == "refused" and "nothing listens" in answer.err


def test_the_ruler_can_be_imported_without_numpy_matplotlib_or_torch():
    code = "import sys, labkit.load.run, labkit.load.generator; print([m for m in ('numpy', 'matplotlib', 'torch') if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT).strip() == "[]"
