"""`labkit trace` on true run files."""
from __future__ import annotations

import json

from labkit.cli import main
from labkit.trace import Arrival, Header, Recorder, Step


def record(path):
    recorder = Recorder(Header("glassbox", "live", {}, "tiny", {"block_size": 4, "num_blocks": 8}, {}, name="two requests"), path)
    recorder.emit(Step(1, 0.1, 1, arrived={"a": Arrival(6, 4, 0.0), "b": Arrival(8, 4, 0.0)}, scheduled={"a": 6, "b": 8},
                       given={"a": [0, 1], "b": [2, 3]}, sampled={"a": [1], "b": [2]}, running=2))
    recorder.emit(Step(2, 0.2, 1, preempted=["b"], scheduled={"a": 1}, sampled={"a": [3]}, running=1, waiting=1))
    recorder.emit(Step(3, 0.3, 1, scheduled={"a": 1}, sampled={"a": [4]}, finished={"a": "stop"}, waiting=1))
    recorder.close()


def test_trace_sums_up_a_run(tmp_path, capsys):
    record(tmp_path / "run.jsonl")
    assert main(["trace", str(tmp_path / "run.jsonl"), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    expected = {"steps": 3, "requests": 2, "finished": 1, "preempted": 1, "peak_running": 2, "peak_usage": 0.5, "sampled_tokens": 4}
    assert {key: summary[key] for key in expected} == expected
    assert main(["trace", str(tmp_path / "run.jsonl")]) == 0
    assert "two requests" in capsys.readouterr().out


def test_trace_names_what_is_wrong_with_a_file(tmp_path, capsys):
    (tmp_path / "x").write_text("hello\n")
    assert main(["trace", str(tmp_path / "x"), "--json"]) == 1
    assert "line 1" in capsys.readouterr().err
    assert main(["trace", str(tmp_path / "missing")]) == 1
    assert "missing" in capsys.readouterr().err
