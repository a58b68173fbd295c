from __future__ import annotations

import threading

import nbformat
import pytest
from nbclient import NotebookClient

from labkit.trace import Recorder, Step
from labkit.views import BatchTimeline, KVMap, RaceView, WasteLedger, watch
from tests.views.races import RULES, WORKLOAD, race
from tests.views.test_watch import ROOT, Server, wait_for

REQUESTS = [f"r{i}" for i in range(len(WORKLOAD))]


def test_policies_that_run_at_the_same_time_feed_one_race_from_their_own_threads():
    runs = race()
    view, shown = RaceView(list(runs), RULES, requests=REQUESTS), RaceView(list(runs), RULES)
    view._start_painting()

    def drive(name: str) -> None:
        view.feed(name, runs[name].header)
        for event in runs[name].events:
            view.feed(name, event)

    threads = [threading.Thread(target=drive, args=(name,)) for name in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    wait_for(lambda: view.frame, "a frame")
    assert view.status == "live" and all(panel.over for panel in view._panels), "all requests are known, and have ended"
    shown.show(runs)
    assert view.measures == shown.measures and shown.status == "replay"
    view.close()
    assert view.status == "ended"


def test_a_race_knows_its_panels_before_the_first_event_and_grows_in_turn():
    runs = race()
    view = RaceView(["static", "chunked"], requests=REQUESTS)
    assert "static: nothing yet. chunked: nothing yet." in view.still().alt
    view.feed("static", runs["static"].header)
    for event in runs["static"].events[:70]:
        view.feed("static", event)
    alt = view.still().alt
    assert "4 of 10 finished" in alt and "chunked: nothing yet." in alt and "all done" not in alt
    assert view.time == pytest.approx(runs["static"].events[69].t)


def test_a_policy_that_never_saw_a_request_leaves_its_row_empty_and_letters_stay():
    runs = race()
    runs["chunked"].events = [e for e in runs["chunked"].events if "r2" not in {*e.arrived, *e.scheduled}]
    view = RaceView(["chunked", "static"], requests=REQUESTS)
    view.show({name: runs[name] for name in ("chunked", "static")})
    chunked, static = view._panels
    assert "r2" not in chunked.lanes.lanes and static.lanes.lanes["r2"].letter == "C"
    assert [text.get_text() for text in view.still().axes[0].texts].count("C") == 1


def test_what_a_race_cannot_show_is_refused_with_the_reason():
    run = race()["static"]
    for names in ([], ["a", "a"], [str(i) for i in range(7)]):
        with pytest.raises(ValueError, match="1 to 6 policies"):
            RaceView(names)
    view = RaceView(["a"])
    with pytest.raises(ValueError, match="no panel is called 'b': there are a"):
        view.feed("b", run.header)
    with pytest.raises(ValueError, match="begins with its header"):
        view.feed("a", run.events[0])
    with pytest.raises(ValueError, match="no panel is called"):
        view.show({"b": run})
    with pytest.raises(ValueError, match="no speed 3"):
        view.play(3)


def test_a_view_stands_where_it_was_told_to_by_python_or_by_a_browser():
    view = RaceView(list(race()))
    view.show(race())
    assert view.time == pytest.approx(1.669, abs=1e-3), "at its end"
    view.seek(0.64)
    assert view.time == 0.64 and view.measures["chunked"].finished == 4
    order = view._order
    view._on_message(view, {"kind": "cursor", "mode": "paused", "t": 0.3, "speed": 2}, [])
    assert view.time == 0.3 and view._order == order, "a browser is not told what it said itself"
    view.play(8.0)
    wait_for(lambda: view.time > 0.35, "playing")
    view.pause()
    assert view._playhead.mode == "paused" and view.time == view.time
    view.seek(-1)
    assert view.time == 0


@pytest.mark.parametrize(("name", "kind"), [("kv", KVMap), ("timeline", BatchTimeline), ("ledger", WasteLedger)])
def test_every_view_follows_a_live_engine_to_its_end_and_shows_a_file(name, kind, tmp_path):
    run = race()["chunked"]
    engine = Recorder(run.header, tmp_path / "run.jsonl", tmp_path / "run.trace")
    server = Server(tmp_path / "run.trace", tmp_path / "run.jsonl")
    view = watch(server, view=name)
    assert isinstance(view, kind) and view.status == "empty"
    for event in run.events:
        engine.emit(event)
    wait_for(lambda: view._newest == run.events[-1].t, "the last step")
    server.alive = False
    engine.close()
    wait_for(lambda: view.status == "ended", "the end of the stream")
    if kind is not KVMap:
        assert view.measures["chunked"].finished == 10 and view._panels[0].over
    assert ", live, glass box" in view.still().alt
    view.close()
    again = watch(tmp_path / "run.jsonl", view=name)
    assert again.status == "replay" and ", replay, " in again.still().alt


def test_an_unknown_view_is_refused():
    with pytest.raises(ValueError, match="no view 'map': choose one of kv, timeline, ledger"):
        watch(race()["static"], view="map")


def test_a_reader_that_joins_again_folds_no_step_twice(tmp_path):
    run = race()["chunked"]
    with_gap = Recorder(run.header, None, tmp_path / "run.trace")
    view = watch(Server(tmp_path / "run.trace"), view="timeline")
    for event in run.events[:60]:
        with_gap.emit(event)
    wait_for(lambda: view._newest == run.events[59].t, "half of the run")
    view._subscription.close()
    for event in run.events[60:]:
        with_gap.emit(event)
    wait_for(lambda: view._newest == run.events[-1].t, "the last step")
    assert view._extent == len([e for e in run.events if isinstance(e, Step)]) and view.measures["chunked"].finished == 10
    view.close()
    with_gap.close()


def test_an_executed_notebook_ends_with_the_pictures_of_race_and_ledger(tmp_path, monkeypatch):
    monkeypatch.delenv("LABKIT_INTERACTIVE", raising=False)
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    lead = (f"import sys; sys.path.insert(0, {str(ROOT)!r})\nfrom labkit.views import RaceView, WasteLedger\n"
            "from tests.views.races import RULES, race")
    cells = [lead, *(f"""view = {kind}(list(RULES), RULES)
view.display()
for name, run in race().items():
    for event in [run.header, *run.events]:
        view.feed(name, event)
view.end()""" for kind in ("RaceView", "WasteLedger"))]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    for cell, words in zip(notebook.cells[1:], ("static: 10 of 10 finished", "static: 1\u202f620 ms; memory on average"), strict=True):
        (output,) = cell.outputs
        assert "image/png" in output.data and words in output.data["text/plain"]
        assert output.metadata["image/png"]["alt"] == output.data["text/plain"]
