"""The views of quantization as a user meets them: real JupyterLab, real Chromium."""

from __future__ import annotations

from labkit.bench.browser import Notebook, View, wait_for

LOOK = """import labkit as lab
view = lab.look("tiny", layer="layers.1.mlp.down_proj")"""


def test_dials_pointer_and_keys_change_what_is_seen(page, lab, write, shows):
    name = write(LOOK)
    with lab as address:
        notebook = Notebook(page, address.format(name))
        notebook.run_all()
        view = View(page, "board", 180)
        shows(view, "256 by 704 weights, by rtn, 4 bits, groups of 64", 60)
        assert view.colours() > 60, "the maps are painted"

        view.root.get_by_label("method").select_option("nf4")
        shows(view, "by nf4, 4 bits")
        assert view.root.get_by_role("slider", name="group size").count() == 0
        view.root.get_by_label("method").select_option("gptq")
        shows(view, "by gptq, 4 bits")
        bits = view.root.get_by_role("slider", name="bits")
        bits.focus()
        page.keyboard.press("ArrowLeft")
        shows(view, "by gptq, 3 bits, groups of 64")
        assert bits.get_attribute("aria-valuetext") == "3"

        before = view.number(r"output (\d+), input \d+: "), view.number(r"output \d+, input (\d+): ")
        view.root.get_by_role("application").focus()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowDown")
        shows(view, f"output {before[0] + 1}, input {before[1] + 1}: ")
        canvas = view.root.locator("canvas").bounding_box()
        dials = view.root.locator(".lab-dials").bounding_box()
        top = dials["y"] + dials["height"] + 14 + 18  # the maps begin below the dials and their own headings
        page.mouse.click(canvas["x"] + 24 + 1, top + 1)
        wait_for("the upper left weight of the window", lambda: view.number(r"output (\d+), input \d+: ") < before[0])

        view.root.get_by_role("button", name="Show as a table").click()
        assert "Worst output channels" in view.root.locator("table").inner_text()
        page.set_viewport_size({"width": 760, "height": 1000})
        wait_for("a narrow picture", lambda: view.root.locator("canvas").bounding_box()["height"] > canvas["height"] + 100)
        assert not notebook.errors()
