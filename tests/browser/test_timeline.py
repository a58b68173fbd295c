"""The batch timeline and the race as a user meets them: real JupyterLab, real Chromium, real events."""
from __future__ import annotations

import re

from labkit.bench.browser import Notebook, View, wait_for

SERVE = """import labkit as lab
server = lab.serve("glassbox", block_size=16, num_gpu_blocks_override=96, max_model_len=512, max_num_seqs=6, max_steps_per_second=150)
view = lab.watch(server, view="timeline")"""
LOAD = "result = lab.load(server, requests=90, concurrency=6, seed=0, max_tokens=(100, 160))"  # goes on while buttons are pressed
RACE = """import threading
from labkit.views import RaceView
from tests.views.races import RULES, WORKLOAD, race
runs = race()
view = RaceView(list(runs), RULES, requests=[f"r{i}" for i in range(len(WORKLOAD))])
seen = threading.Event()
view.on_msg(lambda *_: seen.set())  # the browser's first
view.display()"""
FEED = """import time
seen.wait(60)
def drive(name, run):  # ten times slower than the run was
    begin = time.perf_counter()
    view.feed(name, run.header)
    for event in run.events:
        time.sleep(max(0.0, begin + 10 * event.t - time.perf_counter()))
        view.feed(name, event)
threads = [threading.Thread(target=drive, args=pair) for pair in runs.items()]
for thread in threads: thread.start()
for thread in threads: thread.join()
view.end()"""


def mode(view: View) -> str | None:
    return view.root.get_attribute("data-mode")


def test_the_timeline_grows_while_the_engine_works_and_can_be_searched_when_it_has_stopped(page, lab, write, shows):
    with lab as address:
        notebook = Notebook(page, address.format(write(SERVE, LOAD, "server.stop()")))
        notebook.run_all()
        view, seen = View(page, "batch-timeline"), []

        def grows() -> bool:
            if found := re.search(r": (\d+) requests?, .* (\d+) of \d+ finished", view.label):
                seen.append(tuple(map(int, found.groups())))
            return len(set(seen)) >= 6 and seen[-1][1] > 0

        wait_for("requests that come and end", grows, 120)
        assert seen == sorted(seen), "they only grow"
        assert re.match(r"Batch timeline, live, glass box \d", view.label)
        view.root.get_by_role("button", name="Pause").click()  # while the cell runs
        wait_for("pause", lambda: mode(view) == "paused", 20)
        assert notebook.busy()
        view.root.get_by_role("button", name="Follow live").click()
        wait_for("live again", lambda: mode(view) == "live", 20)
        notebook.wait_until_done(180)
        shows(view, "90 of 90 finished, median TTFT .* median TPOT .* all done at ")
        assert view.root.get_attribute("data-status") == "ended" and view.colours() > 40


def test_a_race_is_seen_live_and_searched_with_keyboard_pointer_and_table(page, lab, write, shows):
    with lab as address:
        notebook = Notebook(page, address.format(write(RACE, FEED, "view.seek(0.64); view.measures['chunked'].finished")))
        notebook.run_all()
        view = View(page, "batch-timeline")
        shows(view, r"static: \d of .* dynamic: \d of .* chunked: [1-9] of \d+ finished", 60)
        assert "live, glass box" in view.label and notebook.busy()
        notebook.wait_until_done(120)
        shows(view, r"static: 3 of 10 finished, .* at 640 ms\. dynamic: 3 of 10 .* chunked: 4 of 10 finished")
        slider = view.root.get_by_role("slider", name="Time")
        slider.focus()
        page.keyboard.press("End")
        shows(view, r"all done at 1.620 ms\. .* all done at 1.669 ms\. .* all done at 1.004 ms\.")
        page.keyboard.press("ArrowLeft")
        wait_for("one step back", lambda: slider.get_attribute("aria-valuenow") not in (None, "1669"))
        page.keyboard.press("Home")
        shows(view, "static: 1 of|static: 0 of 1 finished|at 0 ms")
        page.keyboard.press("]")
        wait_for("the next event", lambda: int(slider.get_attribute("aria-valuenow")) > 0)

        view.root.get_by_role("application").focus()
        said = view.root.locator("[aria-live=polite]")
        page.keyboard.press("g")
        wait_for("the request in words", lambda: said.inner_text().startswith("static: G · queued, waited 471 ms"))
        page.keyboard.press("ArrowRight")
        wait_for("its prefill", lambda: "G · prefill" in said.inner_text() and "520 tokens" in said.inner_text())
        page.keyboard.press("ArrowDown")
        wait_for("the next row", lambda: said.inner_text().startswith("static: H · prefill"))
        page.keyboard.press("Enter")
        wait_for("the end of that segment", lambda: slider.get_attribute("aria-valuetext") == "750 ms")

        page.keyboard.press("+")
        wait_for("a part of the run", lambda: view.root.get_attribute("data-zoom") == "part")
        view.root.get_by_role("button", name="Whole run").click()
        wait_for("all of the run", lambda: view.root.get_attribute("data-zoom") == "whole")
        box = view.root.locator("canvas").bounding_box()
        page.mouse.move(box["x"] + 200, box["y"] + 150)
        page.mouse.down()
        page.mouse.move(box["x"] + 400, box["y"] + 150, steps=5)
        page.mouse.up()
        wait_for("the part that was dragged over", lambda: view.root.get_attribute("data-zoom") == "part")
        page.mouse.dblclick(box["x"] + 300, box["y"] + 150)
        wait_for("all of the run again", lambda: view.root.get_attribute("data-zoom") == "whole")

        slider.focus()
        page.keyboard.press("End")
        view.root.get_by_role("button", name="Show as a table").click()
        sheet = view.root.locator(".lab-sheet")
        rows = dict(row.split("\t", 1) for row in sheet.locator("table").first.locator("tbody tr").all_inner_texts())
        assert rows["finished"].split("\t") == ["10", "10", "10"] and rows["preemptions"].split("\t")[2] == "3"
        page.keyboard.press("Home")
        page.keyboard.press(" ")
        wait_for("playing", lambda: int(slider.get_attribute("aria-valuenow")) > 100)
        page.keyboard.press(" ")
        wait_for("pause", lambda: mode(view) == "paused")
        shown = int(slider.get_attribute("aria-valuenow"))
        notebook.page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
        page.reload()
        again = View(page, "batch-timeline")
        shows(again, r"chunked: \d+ of", 60)
        now = again.root.get_by_role("slider", name="Time")
        wait_for("the same moment after a reload", lambda: abs(int(now.get_attribute("aria-valuenow") or -1) - shown) < 100, 30)
