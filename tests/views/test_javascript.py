from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from labkit.bench.traces import record
from labkit.views.kv_map import KVMap
from tests.views.test_frame import frames

HERE = Path(__file__).parent


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node, which the lab itself does not")
def test_the_pure_parts_of_the_map_do_what_they_say(tmp_path):
    told = [{"frame": base64.b64encode(frame).decode(), "state": list(state.state), "owner": list(state.owner), "used": list(history.used),
             "table": list(next((r.table for r in state.requests.values() if r.table), []))}
            for frame, state, history in frames(record(5), 4, [3, 77, 20], {40})]
    (tmp_path / "frames.json").write_text(json.dumps(told))
    environment = {**os.environ, "LABKIT_FRAMES": str(tmp_path / "frames.json")}
    done = subprocess.run(["node", "--test", str(HERE / "kv_map.test.mjs")], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node, which the lab itself does not")
def test_the_modules_become_one_that_parses(tmp_path):
    (tmp_path / "kv_map.mjs").write_text(KVMap._esm)
    assert "import " not in [line[:7] for line in KVMap._esm.splitlines()]
    done = subprocess.run(["node", "--check", str(tmp_path / "kv_map.mjs")], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
