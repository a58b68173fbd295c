from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from dataclasses import asdict
from pathlib import Path

import pytest

from labkit.bench.traces import record
from labkit.quantization.workbench import Workbench
from labkit.views import BatchTimeline, KVMap, RaceView, WasteLedger
from labkit.views.errors_view import ErrorsView
from labkit.views.frontier_view import FrontierView
from labkit.views.generations_view import GenerationsView
from labkit.views.lane_frame import LanePacker
from labkit.views.lanes import Lanes
from labkit.views.measures import measure
from labkit.views.pen import palette
from labkit.views.race_scene import Panel, race_alt, race_words
from labkit.views.sketch import RAMPS, flow, ramp
from labkit.views.weights_view import WeightsView
from tests.views.races import race
from tests.views.test_board import ROWS_MEASURED, pair
from tests.views.test_frame import frames

HERE = Path(__file__).parent
pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="needs node, which the lab itself does not")


def node(tests: str, told: object, folder: Path) -> None:
    (folder / "frames.json").write_text(json.dumps(told))
    environment = {**os.environ, "LABKIT_FRAMES": str(folder / "frames.json")}
    done = subprocess.run(["node", "--test", str(HERE / tests)], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]


def text(frame: bytes) -> str:
    return base64.b64encode(frame).decode()


def test_the_pure_parts_of_the_map_do_what_they_say(tmp_path):
    told = [{"frame": text(frame), "state": list(state.state), "owner": list(state.owner), "used": list(history.used),
             "table": list(next((r.table for r in state.requests.values() if r.table), []))}
            for frame, state, history in frames(record(5, pools={60: 45}), 4, [3, 77, 20], {40})]
    node("kv_map.test.mjs", told, tmp_path)


def test_the_pure_parts_of_timeline_and_ledger_do_what_they_say(tmp_path):
    runs, told, ordinals = race(), [], {}
    panels = [Panel(name, "a rule", Lanes(run.header, ordinals)) for name, run in runs.items()]
    packer = LanePacker(memory=True)

    def pack() -> bytes:
        return packer.pack(panels, race_words(panels, len(ordinals)), status="live", order=0, expected=0, mode="live", t=0.0, speed=1.0)

    for k in range(0, max(len(run.events) for run in runs.values()), 5):
        for panel, run in zip(panels, runs.values(), strict=True):
            for event in run.events[k:k + 5]:
                panel.lanes.append(event)
            panel.over = k + 5 >= len(run.events)
        now = max(panel.now for panel in panels)
        moments = {t: [asdict(measure(panel.lanes, t)) for panel in panels] for t in (now, 0.37 * now, 0.6401)}
        told.append({"frame": text(pack()), "measures": list(moments.items())})
    packer.reset()
    alt = race_alt(race_words(panels, len(ordinals)), panels, [measure(panel.lanes) for panel in panels])
    node("timeline.test.mjs", {"frames": told, "whole": text(pack()), "alt": alt}, tmp_path)


def test_the_pure_parts_of_boards_do_what_they_say(tmp_path):
    bench = Workbench(rows=4)
    views = [WeightsView(bench), ErrorsView(bench, ("rtn", "nf4"), layers=bench.layers[:3]), FrontierView(ROWS_MEASURED),
             GenerationsView(["x"], ["Say"], lambda *_: pair(2))]
    sizes = [(panel.width, panel.height) for view in views for panel in view.page().panels]
    flows = [{"sizes": sizes, "room": room, "places": flow(sizes, room)[0], "height": flow(sizes, room)[1]}
             for room in (622, 700, 892, 1052)]
    ramps = [{"theme": theme, "name": name, "colours": ramp(name, palette(theme)).tolist()}
             for theme in ("light", "dark") for name in RAMPS]
    node("board.test.mjs", {"frames": [text(view._pack()) for view in views], "flows": flows, "ramps": ramps}, tmp_path)


@pytest.mark.parametrize("view", [KVMap, BatchTimeline, RaceView, WasteLedger, FrontierView])
def test_the_modules_become_one_that_parses(tmp_path, view):
    (tmp_path / "view.mjs").write_text(view._esm)
    assert "import " not in [line[:7] for line in view._esm.splitlines()]
    done = subprocess.run(["node", "--check", str(tmp_path / "view.mjs")], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
