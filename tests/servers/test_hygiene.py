"""Every way in which a notebook's kernel can end, with real kernels, real papermill and the glass box. `labkit bench hygiene` does it
ten times and with every server."""
from __future__ import annotations

import pytest

from labkit.bench.hygiene import LIMIT, run, scenarios


@pytest.mark.parametrize("scenario", list(scenarios("", 0)))
def test_no_process_and_no_port_is_left(home, scenario):
    outcome = run("glassbox", 1, ready=4, only=scenario)[scenario][0]
    assert outcome["processes"] >= 4  # guard, its second, server, engine
    assert outcome["left"] == []
    assert outcome["seconds"] < LIMIT
