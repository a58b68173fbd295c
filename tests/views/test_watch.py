from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import labkit
from labkit.bench.traces import record
from labkit.trace import PoolState, Recorder, Run, Snapshot, TraceError
from labkit.views import KVMap, interactive, watch

ROOT = Path(labkit.__file__).parents[1]


@dataclass
class Server:
    """What a view sees of a server: a trace of its own, and whether it still answers."""

    trace_socket: Path | None
    run_file: Path | None = None
    alive: bool = True
    name: str = "glassbox"

    def health(self) -> bool:
        return self.alive


def wait_for(condition, what: str, timeout: float = 20.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {timeout} s"
        time.sleep(0.02)


@pytest.fixture
def run() -> Run:
    return record(11)


@pytest.fixture
def engine(run, tmp_path):
    """A recorder that plays the part of an engine's; events are emitted by the test."""
    recorder = Recorder(run.header, tmp_path / "run.jsonl", tmp_path / "run.trace")
    yield recorder
    recorder.close()


def test_a_live_view_follows_the_engine_and_can_still_be_searched_when_it_has_stopped(run, engine, tmp_path):
    server = Server(tmp_path / "run.trace", tmp_path / "run.jsonl")
    view = watch(server)
    assert view.status == "empty"
    for event in run.events:
        engine.emit(event)
    wait_for(lambda: view.step == run.steps, "the last step")
    assert view.status == "live" and view.counts == run.state_at(run.steps).counts()
    server.alive = False
    engine.close()
    wait_for(lambda: view.status == "ended", "the end of the stream")
    view.seek(40)
    assert view.step == 40 and view.counts == run.state_at(40).counts()
    view.close()


def test_a_view_that_comes_late_sees_what_one_from_the_start_sees(run, engine, tmp_path):
    state, half = PoolState(run.header), len(run.events) // 2
    for event in run.events[:half]:
        engine.emit(event)
        state.apply(event)
    engine.emit(state.snapshot())
    view = watch(Server(tmp_path / "run.trace"))
    for event in run.events[half:]:
        engine.emit(event)
    wait_for(lambda: view.step == run.steps, "the last step")
    assert view.counts == run.state_at(run.steps).counts()
    view.close()


def test_a_view_that_was_cut_off_joins_again_and_misses_nothing(run, engine, tmp_path):
    view = watch(Server(tmp_path / "run.trace"))
    half = len(run.events) // 2
    for event in run.events[:half]:
        engine.emit(event)
    wait_for(lambda: view.step == run.events[half - 1].step, "half of the run")
    view._subscription.close()
    for event in run.events[half:]:
        engine.emit(event)
    wait_for(lambda: view.step == run.steps, "the last step")
    view.seek(30)
    assert view.counts == run.state_at(30).counts(), "no step is folded twice"
    view.close()


def test_losing_an_engine_that_still_runs_is_called_lost(run, engine, tmp_path):
    view = watch(Server(tmp_path / "run.trace"))
    engine.emit(run.events[0])
    wait_for(lambda: view.status == "live", "the first step")
    engine.close()
    wait_for(lambda: view.status == "lost", "the loss")
    view.close()


def test_a_stopped_server_is_shown_from_its_run_file(run, engine, tmp_path):
    for event in run.events:
        engine.emit(event)
    engine.close()
    view = watch(Server(tmp_path / "run.trace", tmp_path / "run.jsonl", alive=False))
    assert view.status == "replay"
    assert view.still().alt.startswith("KV map, replay, a test, 2026-11-22")


def test_a_run_is_shown_at_its_fullest_and_by_path_as_by_object(run, tmp_path):
    run.save(tmp_path / "run.jsonl")
    views = watch(run), watch(tmp_path / "run.jsonl"), watch(str(tmp_path / "run.jsonl"))
    usages = [run.state_at(step).usage for step in range(1, run.steps + 1)]
    for view in views:
        assert run.state_at(view.step).usage == max(usages)


def test_a_selected_request_is_found_by_its_letter(run):
    view = watch(run, select="C")
    held = [e.step for e in run.events if any(r.letter == "C" and r.table for r in run.state_at(e.step).requests.values())]
    view.seek(held[0])
    assert "Request C is selected" in view.still().alt
    view.select(None)
    assert "is selected" not in view.still().alt


def test_what_cannot_be_watched_is_refused_with_the_reason(tmp_path):
    with pytest.raises(ValueError, match="triton does not tell what its block pool does"):
        watch(Server(None, name="triton"))
    with pytest.raises(FileNotFoundError):
        watch(tmp_path / "missing.jsonl")
    (tmp_path / "text.jsonl").write_text("hello\n")
    with pytest.raises(TraceError, match="line 1"):
        watch(tmp_path / "text.jsonl")
    with pytest.raises(TypeError, match="cannot watch int"):
        watch(3)
    with pytest.raises(ConnectionError, match="has the server stopped"):
        watch(Server(tmp_path / "nobody.trace", tmp_path / "nothing.jsonl"))


def test_lost_records_are_counted_in_the_words(run):
    state = run.state_at(50)
    snapshot = state.snapshot()
    snapshot.dropped = 17
    late = Run(run.header, [snapshot])
    assert isinstance(snapshot, Snapshot) and "17 trace records were dropped" in watch(late).still().alt


@pytest.mark.parametrize(("value", "expected"), [("0", False), ("1", True), ("no", False), ("", False)])
def test_the_environment_decides_whether_views_are_live(monkeypatch, value, expected):
    monkeypatch.setenv("LABKIT_INTERACTIVE", value)
    assert interactive() is expected


def test_outside_a_notebook_nothing_is_live(monkeypatch):
    monkeypatch.delenv("LABKIT_INTERACTIVE", raising=False)
    assert interactive() is False


def execute(tmp_path: Path, *cells: str) -> nbformat.NotebookNode:
    first = f"import sys; sys.path.insert(0, {str(ROOT)!r})"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in (first, *cells)])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()


def test_an_executed_notebook_ends_with_the_final_picture_in_place_of_the_view(run, tmp_path, monkeypatch):
    monkeypatch.delenv("LABKIT_INTERACTIVE", raising=False)
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    run.save(tmp_path / "run.jsonl")
    lead = "from labkit.trace import Recorder, read\nfrom pathlib import Path\nfrom labkit.views import watch\nrun = read('run.jsonl')"
    serve = ("class Server:\n    name, run_file, trace_socket = 'glassbox', None, Path('live.trace').absolute()\n"
             "    def health(self): return False\n"
             "engine = Recorder(run.header, None, Server.trace_socket)\nview = watch(Server())\nview")
    notebook = execute(tmp_path, lead, serve, "for event in run.events: engine.emit(event)\nengine.close()")
    outputs = notebook.cells[2].outputs
    assert len(outputs) == 1, "shown once, though it is the last expression too"
    usages = [run.state_at(step).usage for step in range(1, run.steps + 1)]
    fullest = run.state_at(usages.index(max(usages)) + 1)
    assert "image/png" in outputs[0].data
    assert f"step {fullest.step}:" in outputs[0].data["text/plain"]
    assert outputs[0].metadata["image/png"]["alt"] == outputs[0].data["text/plain"]


def test_many_threads_may_drive_one_view(run):
    view: KVMap = watch(run)
    failures: list[BaseException] = []

    def drive(offset: int) -> None:
        try:
            for step in range(1, run.steps, 7):
                view._on_message(view, {"kind": "seek", "position": (step + offset) % run.steps}, [])
                view._on_message(view, {"kind": "focus", "block": step % 24}, [])
                view._on_message(view, {"kind": "hello"}, [])
                assert sum(view.counts.values()) == 24
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=drive, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures
    view.seek(30)
    assert view.counts == run.state_at(30).counts()
    view.close()
