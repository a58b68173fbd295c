"""The views of quantization: what they draw is what the data say."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from labkit.quantization import round_to_nearest
from labkit.quantization.errors import QuantizationError
from labkit.quantization.generations import Generations
from labkit.quantization.workbench import Workbench
from labkit.views.errors_view import ErrorsView
from labkit.views.frontier import QUALITIES, label, pareto, read_rows
from labkit.views.frontier_view import FrontierView
from labkit.views.generations_view import GenerationsView
from labkit.views.look import look
from labkit.views.pen import palette
from labkit.views.sketch import GAP, Sketch, flow, ramp
from labkit.views.weights_panels import COLUMNS, ROWS
from labkit.views.weights_view import WeightsView


@pytest.fixture(scope="module")
def bench():
    return Workbench(rows=4)


@pytest.fixture
def weights(bench):
    return WeightsView(bench, layer="layers.1.mlp.down_proj")


def shown(view) -> list[str]:
    """All words on the panels."""
    page = view.page()
    ops = [op for panel in page.panels for op in panel.ops]
    return [op["text"] for op in ops if op["op"] == "text"] + ["".join(text for text, _ in op["runs"]) for op in ops if op["op"] == "runs"]


def inside(view) -> None:
    """Every word of the still figure begins and ends inside of it."""
    still = view.still()
    width, height = still.axes[0].get_xlim()[1], still.axes[0].get_ylim()[0]
    renderer = still.canvas.get_renderer()
    for text in still.axes[0].texts:
        box = text.get_window_extent(renderer).transformed(still.axes[0].transData.inverted())
        assert box.x0 >= 0 and box.x1 <= width and 0 <= box.y1 <= height, text.get_text()


def test_the_maps_hold_the_weights_before_after_and_between(weights):
    look = weights.look
    expected = round_to_nearest.quantize(look.weight, bits=4, group_size=64).dequantize()
    assert torch.equal(look.quantized, expected)
    top, left = weights._window
    before, after, error = (panel.images[0] for panel in weights.page().panels[:3])
    assert before.shape == after.shape == error.shape == (ROWS, COLUMNS)
    part = look.weight[top : top + ROWS, left : left + COLUMNS].numpy()
    lost = expected[top : top + ROWS, left : left + COLUMNS].numpy() - part
    strong = np.abs(part) > 0.01
    assert np.array_equal(before[strong] > 128, part[strong] > 0), "blue below zero, vermillion above"
    order = np.argsort(np.abs(lost).ravel())
    assert (np.diff(error.ravel()[order].astype(int)) >= 0).all(), "the greater the error the darker"
    assert (after != before).any()


@pytest.mark.parametrize(
    ("method", "bits", "levels"),
    [("rtn", 3, 8), ("nf4", 4, 16), ("awq", 2, 4), ("squeezellm", 4, 16), ("fp8", 8, 253), ("llm-int8", 8, 255)],
)
def test_the_levels_are_those_that_weights_are_put_on(bench, method, bits, levels):
    view = WeightsView(bench, layer="layers.2.mlp.up_proj", method=method, bits=bits)
    look = view.look
    assert f"{method}: {levels} levels" in " ".join(shown(view))
    for row, column in ((0, 0), (17, 130), (703, 255)):
        values = look.packed.levels(row, column)
        assert len(values) == levels and (values.diff() > 0).all()
        distance = (values - look.quantized[row, column]).abs().min()
        assert distance <= 1e-3 * look.weight.abs().max() or method in ("squeezellm", "llm-int8"), "outliers are kept apart by these two"


def test_a_picked_weight_is_worked_out_in_numbers(weights):
    weights.set(cell=(40, 100))
    look = weights.look
    words = " ".join(shown(weights))
    assert "output 40, input 100" in words and f"{look.weight[40, 100].item():.3g}".replace("-", "−") in words
    assert f"{100 * look.error.weight:.1f} %" in words and f"{look.packed.bits_per_weight:.2f}" in words
    weights._move(-100, 3)
    assert weights._cell == (0, 103), "the cursor stops at the edge"
    top, left = weights._window
    assert top <= 0 < top + ROWS and left <= 103 < left + COLUMNS, "the window goes with the cursor"


def test_dials_offer_what_the_method_can_do_and_refuse_the_rest(weights):
    weights._ask({"kind": "turn method", "name": "method", "value": "nf4"})
    assert {dial.name: [value for value, _ in dial.options] for dial in weights.page().dials}["bits"] == [4]
    assert "group_size" not in {dial.name for dial in weights.page().dials}
    weights._ask({"kind": "turn method", "name": "method", "value": "gptq"})
    weights._ask({"kind": "turn group_size", "name": "group_size", "value": 32})
    assert weights.look.group_size == 32 and "groups of 32" in weights.page().about
    before = weights.page().alt
    with pytest.raises(QuantizationError, match="do not divide into groups of 48"):
        weights.set(group_size=48)
    with pytest.raises(QuantizationError, match="no quantization method 'gtpq'.*gptq"):
        weights.set(method="gtpq")
    assert weights.page().alt == before


def test_calibration_is_worked_out_once_and_looks_are_kept(bench, monkeypatch):
    view = WeightsView(bench, method="gptq")
    first = view.look
    monkeypatch.setattr("labkit.quantization.workbench.collect", None)
    view.set(bits=3)
    view.set(bits=4)
    assert view.look is first


def test_the_error_table_says_the_errors_of_the_library(bench):
    layers = ["layers.0.self_attn.q_proj", "layers.1.mlp.down_proj"]
    view = ErrorsView(bench, ("rtn", "gptq"), layers=layers)
    page = view.page()
    wanted = [[layer, *(f"{100 * bench.look(layer, name, 4).error.output:.1f} %" for name in ("rtn", "gptq"))] for layer in layers]
    assert page.rows == wanted
    cells = page.panels[0].images[0]
    errors = np.array([[bench.look(layer, name, 4).error.output for name in ("rtn", "gptq")] for layer in layers])
    assert np.unravel_index(cells.argmax(), cells.shape) == np.unravel_index(errors.argmax(), errors.shape)
    view._pick("errors", 1, 1)
    assert "picked: layers.1.mlp.down_proj, gptq" in view.page().about
    loud = bench.look("layers.1.mlp.down_proj", "gptq", 4)
    assert f"input {int(loud.input_peak.argmax())}" in " ".join(shown(view))
    assert f"{len(loud.outliers.features)}outliers of 6 or more" in "".join(shown(view)).replace(" outliers", "outliers")


ROW = {
    "method": "rtn",
    "bits": 4,
    "group_size": 64,
    "bytes": 3_600_000,
    "bits_per_weight": 4.25,
    "perplexity": 2.5,
    "recall": 0.9,
    "kl": 0.05,
}
ROWS_MEASURED = [
    {"method": "float32", "bits": 32, "bytes": 21_000_000, "perplexity": 2.40, "recall": 0.98, "kl": 0.0},
    ROW, ROW | {"method": "gptq", "perplexity": 2.45, "recall": 0.95},
    ROW | {"bits": 3, "bytes": 3_000_000, "perplexity": 2.8, "recall": 0.4},
    ROW | {"method": "nf4", "group_size": None, "bytes": 3_700_000, "perplexity": 2.47, "recall": None},
    ROW | {"bits": 2, "bytes": 2_500_000, "perplexity": 90.0, "recall": 0.0},
    {"method": "kv-int8", "bits": 8, "bytes": 10_000_000, "perplexity": 2.3, "recall": 1.0},
]  # fmt: skip


def test_the_frontier_holds_those_that_nobody_beats_in_both():
    rows = read_rows({"rows": ROWS_MEASURED})
    assert len(rows) == 6, "formats of the KV cache do not make the model smaller"
    for quality in QUALITIES.values():
        measured = [row for row in rows if row.get(quality.key) is not None]
        better = (lambda a, b: a >= b) if quality.more else (lambda a, b: a <= b)
        expected = [
            row
            for row in measured
            if not any(
                other is not row and other["bytes"] <= row["bytes"] and better(other[quality.key], row[quality.key]) for other in measured
            )
        ]
        assert {label(rows[n]) for n in pareto(rows, quality)} == {label(row) for row in expected}, quality.key


def test_a_mark_stands_where_its_bytes_and_its_quality_are():
    view = FrontierView(ROWS_MEASURED)
    marks = {t["name"]: (t["x"], t["y"]) for t in view.page().panels[0].targets}
    assert marks["mark 1"][0] == marks["mark 2"][0] < marks["mark 4"][0] < marks["mark 0"][0], "bytes to the right"
    assert marks["mark 0"][1] > marks["mark 2"][1] > marks["mark 1"][1], "better perplexity further down"
    assert "↑ 90" in " ".join(shown(view)), "a mark beyond the axis says its number"
    view.set(quality="recall")
    marks = {t["name"]: (t["x"], t["y"]) for t in view.page().panels[0].targets}
    assert "mark 4" not in marks and "not measured" in shown(view)
    assert marks["mark 0"][1] < marks["mark 2"][1] < marks["mark 3"][1], "better recall further up"
    view._pick("mark 3", 0, 0)
    assert ["3", "MB"] == view.page().rows[1][1].split() and view._picked == 3


def test_what_was_never_measured_is_said_not_drawn():
    view = FrontierView([{"method": "rtn", "bits": 4, "bytes": 10}], quality="copy")
    assert "exact copying: not measured" in shown(view) and "1 not measured" in view.still().alt
    with pytest.raises(ValueError, match="labkit bench quantization"):
        FrontierView([])


def test_rows_can_come_from_a_file(tmp_path):
    file = tmp_path / "quantization.json"
    file.write_text(json.dumps({"rows": ROWS_MEASURED}))
    assert look(view="frontier", rows=file).page().badge == ("replay", "quantization.json")
    with pytest.raises(ValueError, match="make them with"):
        look(view="frontier", rows=tmp_path / "none.json")


def pair(place: int | None) -> Generations:
    left = [" a", " process", " waits", ".", "\n", " It", " is", " ready"]
    right = left if place is None else left[:place] + [" stops"] + left[place + 1 :]
    return Generations("Say", left, right, place, None if place is None else ((0.6, 0.3), (0.35, 0.5)))


def test_the_first_difference_is_marked_with_both_probabilities():
    view = GenerationsView(["rtn 2 bits"], ["Say"], lambda name, prompt: pair(2))
    page = view.page()
    for panel, token in zip(page.panels[:2], ("waits", "stops"), strict=True):
        boxes = [op for op in panel.ops if op["op"] == "rect" and op.get("edge") == "alert"]
        words = [op for op in panel.ops if op["op"] == "text" and op["weight"] == 700]
        assert len(boxes) == 1 and [op["text"].strip() for op in words] == [token]
    assert {"0.600", "0.300", "0.350", "0.500"} <= set(shown(view))
    assert "after 2 tokens" in page.alt and [row[0] for row in page.rows if row[3]] == ["2"]


def test_generations_that_never_differ_say_so():
    view = GenerationsView(["fp8 8 bits"], ["Say"], lambda name, prompt: pair(None))
    assert len(view.page().panels) == 2 and "all 8 tokens are the same" in view.still().alt
    assert not [op for panel in view.page().panels for op in panel.ops if op.get("edge") == "alert"]


def test_a_pair_of_generations_parts_where_the_two_models_choose_differently(bench):
    from labkit.quantization.generations import generations
    from labkit.quantization.quality import greedy

    quantized = bench.quantized("rtn", 2)
    text = "The three states of a process are"
    found = generations(bench.ruler, quantized, text, 12)
    ids = bench.ruler.tokenizer(text).input_ids
    tails = [greedy(ruler, ids, 12) for ruler in (bench.ruler, quantized)]
    assert found.place == next(n for n, (a, b) in enumerate(zip(*tails, strict=True)) if a != b)
    (wanted, other), (mine, theirs) = found.probabilities
    assert wanted > other and theirs > mine and all(0 <= p <= 1 for p in (wanted, other, mine, theirs))


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_all_are_pictures_with_words(weights, bench, theme):
    views = [
        weights,
        ErrorsView(bench, ("rtn",), layers=bench.layers[:2]),
        FrontierView(ROWS_MEASURED),
        GenerationsView(["x"], ["Say"], lambda *_: pair(2)),
    ]
    for view in views:
        still = view.still(theme=theme)
        assert still.png().startswith(b"\x89PNG") and len(still.alt) > 80
    for view in views:
        inside(view)


def test_panels_flow_into_lines_and_never_overlap():
    sizes = [(226, 200), (226, 220), (258, 180), (246, 240), (512, 64), (512, 64)]
    for room in (1052, 700, 512):
        places, height = flow(sizes, room)
        boxes = [(x, y, w, h) for (x, y), (w, h) in zip(places, sizes, strict=True)]
        assert all(x + w <= room + 0.5 for x, y, w, h in boxes) and max(y + h for _, y, _, h in boxes) == height
        for i, (a, b, c, d) in enumerate(boxes):
            for x, y, w, h in boxes[:i]:
                assert a >= x + w + GAP - 0.5 or x >= a + c + GAP - 0.5 or b >= y + h + GAP or y >= b + d + GAP


def test_ramps_begin_on_paper_and_get_farther_from_it():
    for theme in ("light", "dark"):
        colours = palette(theme)
        paper = [int(colours["paper"][k : k + 2], 16) for k in (1, 3, 5)]
        for name, zero in (("signed", 128), ("loss", 0)):
            table = ramp(name, colours).astype(int)
            away = np.abs(table - paper).sum(1)
            assert away[zero] == 0 and (np.diff(away[zero:]) >= -2).all() and away[-1] > 150
    sketch = Sketch(10, 10)
    sketch.image(np.array([[-2.0, 0.0, 2.0]]), 0, 0, 3, 1, "signed")
    assert sketch.images[0].tolist() == [[1, 128, 255]]


def test_a_view_that_is_not_there_is_named_with_the_near_one():
    with pytest.raises(ValueError, match="no view 'weight'.*Did you mean 'weights'"):
        look(view="weight")
