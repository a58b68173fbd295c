"""A race and its dials as a learner meets them: real JupyterLab, real Chromium, the real model."""
from __future__ import annotations

import re

from labkit.bench.browser import Notebook, View, wait_for

RACE = """import labkit as lab
from labkit.race import StepCost, Workload
from labkit.race.dials import Dials
result = lab.race(["static", "chunked"], Workload.make(10, 4, prompt_tokens=(20, 80), output_tokens=(20, 40)))"""
DIALS = """dials = Dials(StepCost(2.0, 0.1, 0.0, 0.1, 0.0), {"static": "static", "chunked": "chunked"}, requests=12, rate=5)
dials"""


def test_a_race_grows_while_the_cell_runs_and_a_turned_dial_races_anew(page, lab, write, shows):
    with lab as address:
        notebook = Notebook(page, address.format(write(RACE, DIALS)))
        notebook.run_all()
        view, seen = View(page, "batch-timeline"), set()

        def grows() -> bool:
            seen.add(view.number(r"static: (\d+) of"))
            return len(seen) >= 3

        wait_for("requests that end one after the other", grows, 120)
        assert notebook.busy() and "live, glass box" in view.label
        view.root.get_by_role("button", name="Pause").click()  # the race computes in this kernel, and the browser is heard
        wait_for("pause", lambda: view.root.get_attribute("data-mode") == "paused", 10)
        notebook.wait_until_done(180)

        workload = page.get_by_text(re.compile(r"12 requests, poisson [\d.]+/s"))
        wait_for("the first race of the dials", workload.count, 60)
        before = workload.inner_text()
        assert "poisson 5.01" in before or "poisson 5/s" in before
        handle = page.locator(".widget-slider .noUi-handle").first
        handle.scroll_into_view_if_needed()
        handle.focus()
        for _ in range(8):
            page.keyboard.press("ArrowRight")
        wait_for("a race at another rate", lambda: workload.inner_text() != before, 30)
        turned = View(page, "batch-timeline").page.locator(".batch-timeline canvas").last
        wait_for("its timelines", lambda: "stand-in, step-cost clock" in (turned.get_attribute("aria-label") or ""), 30)
