"""The KV map as a user meets it: real JupyterLab, real Chromium, a real engine."""
from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

import labkit
from labkit.bench.browser import Map, Notebook, wait_for

ROOT = Path(labkit.__file__).parents[1]
SERVE = """import labkit as lab
server = lab.serve("glassbox", block_size=16, num_gpu_blocks_override=96, max_model_len=512, max_num_seqs=6, max_steps_per_second=150)
view = lab.watch(server)
view"""
LOAD = "result = lab.load(server, requests=18, concurrency=6, seed=0, max_tokens=(40, 120))"
LONG_LOAD = "result = lab.load(server, requests=90, concurrency=6, seed=0, max_tokens=(100, 160))"  # goes on while buttons are pressed


def test_the_map_lives_while_the_engine_works_and_can_be_searched_when_it_has_stopped(page, lab, write):
    name = write(SERVE, LONG_LOAD, "server.stop()")
    with lab as address:
        notebook = Notebook(page, address.format(name))
        notebook.run_all()
        view = Map(page)
        seen: list[tuple[int, int]] = []

        def grows() -> bool:
            if view.used >= 0 and (not seen or seen[-1] != (view.step, view.used)):
                seen.append((view.step, view.used))
            return len({used for _, used in seen}) >= 6

        wait_for("six different counts of used blocks", grows, 120)
        assert [step for step, _ in seen] == sorted(step for step, _ in seen), "steps go forward"
        assert re.match(r"KV map, live, glass box \d", view.label)
        view.root.get_by_role("button", name="Pause").click()  # while the cell runs
        wait_for("pause", lambda: view.root.get_attribute("data-mode") == "paused", 20)
        assert notebook.busy()
        view.root.get_by_role("button", name="Follow live").click()
        wait_for("live again", lambda: view.root.get_attribute("data-mode") == "live", 20)
        assert view.colours() > 40, "the canvas is painted"
        notebook.wait_until_done(180)
        wait_for("the end of the run", lambda: view.root.get_attribute("data-status") == "ended")
        last = view.step

        view.slider.focus()
        page.keyboard.press("ArrowLeft")
        wait_for("one step back", lambda: view.step == last - 1)
        page.keyboard.press("Home")
        wait_for("the first step", lambda: view.step <= 1)
        page.keyboard.press("]")
        wait_for("the next event", lambda: view.step > 1)
        wait_for("the slider at the same step", lambda: view.slider.get_attribute("aria-valuenow") == str(view.step))
        box = view.slider.bounding_box()
        page.mouse.move(box["x"] + 20, box["y"] + 40)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 40, steps=8)
        page.mouse.up()
        wait_for("the middle of the run", lambda: abs(view.step - last / 2) < last / 10)
        assert int(view.slider.get_attribute("aria-valuemax")) == last
        middle = view.step
        page.keyboard.press(" ")
        wait_for("playing", lambda: view.step > middle)
        page.keyboard.press(" ")
        wait_for("pause", lambda: view.root.get_attribute("data-mode") == "paused")


def test_keyboard_pointer_table_theme_and_reload(page, lab, write, shows):
    name = write(SERVE, LOAD, "view.seek(60)", "'cells stay where they are'")
    with lab as address:
        notebook = Notebook(page, address.format(name))
        notebook.run_all()
        notebook.wait_until_done(240)
        view = Map(page)
        cells = page.evaluate("window.jupyterapp.shell.currentWidget.content.widgets.length")
        shows(view, "step 60: .* is selected")
        letter = re.search("Request ([A-Z]+) is selected", view.label).group(1)

        view.root.get_by_role("application").focus()
        page.keyboard.press("Escape")
        wait_for("no selection", lambda: "is selected" not in view.label)
        for key in "abxdd":  # in JupyterLab's command mode: cells are added, cut, deleted
            page.keyboard.press(key)
        page.wait_for_timeout(1000)  # letters within 0.7 s are one name
        page.keyboard.type(letter.lower())
        shows(view, f"Request {letter} is selected")
        page.keyboard.press("Home")
        page.keyboard.press("ArrowRight")
        said = view.root.locator("[aria-live=polite]")
        wait_for("the block in words", lambda: said.inner_text().startswith("block 1, "))
        assert page.evaluate("window.jupyterapp.shell.currentWidget.content.widgets.length") == cells

        view.root.get_by_role("listbox").focus()
        before = view.label
        page.keyboard.press("ArrowDown")
        try:
            wait_for("the next request", lambda: view.label != before, 5)
        except AssertionError:  # it was the last one
            page.keyboard.press("ArrowUp")
            wait_for("the request before", lambda: view.label != before)

        view.root.get_by_role("button", name="Show as a table").click()
        sheet = view.root.locator(".lab-sheet")
        assert sheet.get_by_text("Waste ledger, token slots").is_visible()
        rows = sheet.locator("table").first.locator("tbody tr").all_inner_texts()
        used = sum(int(row.split("\t")[1]) for row in rows if row.split("\t")[0] in ("used", "tail", "shared"))
        assert used == view.used

        ground = "() => document.querySelector('.kv-map canvas').getContext('2d').getImageData(2, 2, 1, 1).data[0]"
        assert page.evaluate(ground) > 200
        page.evaluate("() => window.jupyterapp.commands.execute('apputils:change-theme', {theme: 'JupyterLab Dark'})")
        wait_for("the dark map", lambda: page.evaluate(ground) < 60, 30)
        page.evaluate("() => window.jupyterapp.commands.execute('application:toggle-left-area')")
        page.set_viewport_size({"width": 700, "height": 900})
        wide = "() => { const m = document.querySelector('.kv-map'); return m.scrollWidth <= m.clientWidth + 1; }"
        wait_for("nothing beside the map", lambda: page.evaluate(wide))

        label = view.label
        notebook.page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
        page.reload()
        again = Map(page)
        wait_for("a dark map in a page that begins dark", lambda: page.evaluate(ground) < 60, 30)
        wait_for("the same map after a reload", lambda: again.step == int(re.search(r"step (\d+)", label).group(1)), 60)


@pytest.mark.skipif(not (ROOT / "notebooks" / "00_welcome.ipynb").exists(), reason="notebook 00 is not there")
def test_notebook_00_shows_a_live_map(tmp_path, page, lab):
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    with lab as address:
        notebook = Notebook(page, address.format("notebooks/00_welcome.ipynb"))
        notebook.run_all()
        view = Map(page, timeout=180)
        used = set()
        wait_for("a map that changes", lambda: used.add(view.used) or len(used) >= 5, 240)
        assert "KV map, live, " in view.label and view.colours() > 40
        notebook.wait_until_done(300)


def test_the_pool_grows_before_ones_eyes_when_the_engine_is_quantized(page, lab, write):
    name = write(SERVE, LOAD, "server.quantize('rtn', kv_cache_dtype='int8')", "server.stop()")
    with lab as address:
        notebook = Notebook(page, address.format(name))
        notebook.run_all()
        view = Map(page)
        grown = wait_for("the growth", lambda: re.search(r"had 96 blocks at the start and has (\d+) now", view.label), 180)
        notebook.wait_until_done(180)
        assert int(grown[1]) > 400
        wait_for("the end of the run", lambda: view.root.get_attribute("data-status") == "ended")
        view.slider.focus()
        page.keyboard.press("Home")
        wait_for("the pool as it was", lambda: "at the start" not in view.label)
        page.keyboard.press("End")
        wait_for("the pool as it is", lambda: f"has {grown[1]} now" in view.label)
