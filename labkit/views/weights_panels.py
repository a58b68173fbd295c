"""The panels of the weights view: a window on the matrix before, after and in between, the levels, the numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from labkit.views.sketch import Sketch
from labkit.views.words import thousands

if TYPE_CHECKING:
    from labkit.quantization.workbench import Look

ROWS, COLUMNS = 48, 112  # weights that the window shows
CELL_W, CELL_H = 2, 3
MAP_W, MAP_H = COLUMNS * CELL_W, ROWS * CELL_H
TOP = 18  # of the maps in their panels
BARS = 26
HEIGHT = TOP + MAP_H + 68
LEVELS_W = 246
BINS = 61


@dataclass(slots=True)
class Window:
    """Upper left weight of the part that is shown, and the weight that is picked, as indices of the whole matrix."""

    top: int
    left: int
    row: int
    column: int

    def cut(self, matrix) -> np.ndarray:
        """The part of a matrix, as numpy."""
        return np.asarray(matrix[self.top : self.top + ROWS, self.left : self.left + COLUMNS].float().numpy())


def small(value: float) -> str:
    """A weight: three significant digits, and a true minus."""
    return f"{value:.3g}".replace("-", "−")


def limit(look: Look) -> float:
    """Where the colours of the weights end: one weight in a thousand lies beyond."""
    return max(float(np.quantile(np.abs(look.weight.numpy()), 0.999)), 1e-12)


def _map(sketch: Sketch, look: Look, window: Window, values: np.ndarray, ramp: str, name: str) -> None:
    rows, columns = values.shape
    w, h = columns * CELL_W, rows * CELL_H
    sketch.image(values, 0, TOP, w, h, ramp)
    sketch.rect(-0.5, TOP - 0.5, w + 1, h + 1, edge="edge", width=0.8)
    size = look.shared
    if size < look.weight.shape[1]:
        borders = [(c - window.left) * CELL_W for c in range(window.left + 1, window.left + columns) if c % size == 0]
        if len(borders) <= 8:
            sketch.strokes([((x, TOP - 5), (x, TOP + h + 5)) for x in borders], "ink", 1, (3, 2))
    x, y = (window.column - window.left) * CELL_W, TOP + (window.row - window.top) * CELL_H
    sketch.rect(x - 3.5, y - 3, CELL_W + 7, CELL_H + 6, edge="paper", width=4.5)
    sketch.rect(x - 3.5, y - 3, CELL_W + 7, CELL_H + 6, edge="ink", width=1.8)
    sketch.target(name, 0, TOP, w, h, rows, columns)


def _key(sketch: Sketch, x: float, y: float, ramp: str, low: str, high: str) -> None:
    sketch.text(low, x, y + 8, size=10.5, fill="muted")
    at = x + 7 * len(low) + 4
    steps = np.linspace(-1, 1, 70) if ramp == "signed" else np.linspace(0, 1, 70)
    sketch.image(steps[None, :], at, y, 70, 7, ramp)
    sketch.rect(at - 0.5, y - 0.5, 71, 8, edge="edge", width=0.7)
    sketch.text(high, at + 76, y + 8, size=10.5, fill="muted")


def before_panel(look: Look, window: Window) -> Sketch:
    """The weights as they were; below them how loud each input is that they meet."""
    sketch, end = Sketch(MAP_W, HEIGHT), limit(look)
    part = window.cut(look.weight)
    sketch.runs(
        [
            ("before", {"weight": 600}),
            (
                f"outputs {window.top}–{window.top + len(part) - 1}, inputs {window.left}–{window.left + part.shape[1] - 1}",
                {"fill": "ink2", "dx": 8},
            ),
        ],
        0,
        TOP - 9,
    )
    _map(sketch, look, window, part / end, "signed", "before")
    base = TOP + MAP_H + 10 + BARS
    peaks = look.input_peak.numpy()
    full = max(float(peaks.max()), 1e-12)
    shown = peaks[window.left : window.left + COLUMNS]
    sketch.rects([(i * CELL_W + 0.2, base - BARS * p / full, CELL_W - 0.4, BARS * p / full) for i, p in enumerate(shown)], fill="bar")
    sketch.rect(0, base - 0.25, MAP_W, 0.8, fill="edge")
    loud = window.left + int(shown.argmax())
    sketch.runs(
        [("loudest input here ", {"fill": "muted"}), (f"{loud}", {"weight": 600}), (f", |x| up to {shown.max():.1f}", {"fill": "muted"})],
        0,
        base + 13,
        size=10.5,
    )
    _key(sketch, 0, base + 21, "signed", f"−{small(end)}", f"+{small(end)}")
    return sketch


def after_panel(look: Look, window: Window, how: str) -> Sketch:
    """The same weights as they come back from the packed ones."""
    sketch = Sketch(MAP_W, HEIGHT)
    sketch.runs([("after", {"weight": 600}), (how, {"fill": "ink2", "dx": 8})], 0, TOP - 9)
    _map(sketch, look, window, window.cut(look.quantized) / limit(look), "signed", "after")
    lines = ["same colours as before;", "ring: the picked weight" + ("; dashed: new scale" if look.shared < look.weight.shape[1] else "")]
    for i, line in enumerate(lines):
        sketch.text(line, 0, TOP + MAP_H + 20 + 15 * i, size=10.5, fill="muted")
    return sketch


def error_panel(look: Look, window: Window) -> Sketch:
    """How far each weight was moved, and by how much in each row and column."""
    sketch = Sketch(MAP_W + 34, HEIGHT)
    lost = (look.quantized - look.weight).abs()
    end = max(float(np.quantile(lost.numpy(), 0.995)), 1e-12)
    sketch.runs([("error", {"weight": 600}), (f"{100 * look.error.weight:.1f} % of the weights", {"fill": "ink2", "dx": 8})], 0, TOP - 9)
    part = window.cut(lost)
    _map(sketch, look, window, part / end, "loss", "error")
    by_row, by_column = (np.sqrt((part**2).mean(axis)) for axis in (1, 0))
    most = max(float(by_row.max()), 1e-12)
    sketch.rects([(MAP_W + 5, TOP + i * CELL_H + 0.4, BARS * v / most, CELL_H - 0.8) for i, v in enumerate(by_row)], fill="loss")
    base, most = TOP + MAP_H + 10 + BARS, max(float(by_column.max()), 1e-12)
    sketch.rects([(i * CELL_W + 0.2, base - BARS * v / most, CELL_W - 0.4, BARS * v / most) for i, v in enumerate(by_column)], fill="loss")
    sketch.rect(0, base - 0.25, MAP_W, 0.8, fill="edge")
    sketch.text("by input (below) and by output (at the right)", 0, base + 13, size=10.5, fill="muted")
    _key(sketch, 0, base + 21, "loss", "0", small(end))
    return sketch


def _units(look: Look, window: Window) -> np.ndarray:
    """For each weight of the matrix the greatest |weight| of those that share its scale: a group, or a row. [outputs, inputs]"""
    grouped = look.weight.abs().view(look.weight.shape[0], -1, look.shared)
    return grouped.amax(-1, keepdim=True).expand_as(grouped).reshape(look.weight.shape).clamp(min=1e-12).numpy()


def levels_panel(look: Look, window: Window, other: Look | None) -> Sketch:
    """The histogram of all weights over their group's greatest, and the levels of the picked weight's group; below those of `other`."""
    sketch = Sketch(LEVELS_W, HEIGHT)
    high, base = MAP_H - 22, TOP + MAP_H - 22
    unit = _units(look, window)
    scaled = look.weight.numpy() / unit
    own = unit[window.row, window.column]

    def at(value: float | np.ndarray):
        return LEVELS_W * (np.clip(value, -1.12, 1.12) + 1.13) / 2.26

    unit_name = "group" if look.shared < look.weight.shape[1] else "row"
    sketch.runs([("levels", {"weight": 600}), (f"weights ÷ {unit_name} maximum", {"fill": "ink2", "dx": 6})], 0, TOP - 9)
    counts, edges = np.histogram(scaled, BINS, (-1.0, 1.0))
    ceiling = np.sort(counts)[-2] * 1.06 or 1  # of the bins at the ends the greatest weights of all groups lie in: they may stick out
    sketch.rects(
        [
            (at(a) + 0.3, base - high * min(1, n / ceiling), at(b) - at(a) - 0.6, high * min(1, n / ceiling))
            for n, a, b in zip(counts, edges, edges[1:], strict=False)
        ],
        fill="edge",
    )
    levels = look.packed.levels(window.row, window.column).numpy() / own
    dense = len(levels) > 40
    sketch.strokes([((at(v), base - (10 if dense else high)), (at(v), base + 8)) for v in levels], "decode", 0.6 if dense else 1.4)
    sketch.rect(0, base - 0.5, LEVELS_W, 1, fill="ink2")
    before, after = look.weight[window.row, window.column].item() / own, look.quantized[window.row, window.column].item() / own
    sketch.polygon([(at(before), base - high + 20), (at(before) - 5, base - high + 11), (at(before) + 5, base - high + 11)], fill="ink")
    sketch.strokes([((at(before), base - high + 20), (at(before), base))], "ink", 1.6)
    sketch.circle(at(after), base, 4.2, fill="paper", edge="ink", width=1.6)
    for value, words, align in ((-1, "−1", "center"), (0, "0", "center"), (1, "+1", "center")):
        sketch.text(words, at(value), base + 20, size=10.5, fill="muted", align=align)
    sketch.runs(
        [
            (f"{look.method}: {len(levels)} levels", {"weight": 600, "fill": "decodeEdge"}),
            (f"error {100 * look.error.weight:.1f} %", {"dx": 8, "fill": "decodeEdge"}),
        ],
        0,
        base + 38,
        size=11,
    )
    y = base + 48
    if other is not None:
        beside = other.packed.levels(window.row, window.column).numpy() / own
        sketch.strokes([((at(v), y), (at(v), y + 11)) for v in beside], "prefillEdge", 0.6 if len(beside) > 40 else 1.5)
        sketch.runs(
            [
                (f"rtn, {other.bits} bits: even", {"weight": 600, "fill": "prefillEdge"}),
                (f"error {100 * other.error.weight:.1f} %", {"dx": 8, "fill": "prefillEdge"}),
            ],
            0,
            y + 25,
            size=11,
        )
    else:
        sketch.text("triangle: the picked weight; ring: its level", 0, y + 10, size=10.5, fill="muted")
    return sketch


def weight_panel(look: Look, window: Window) -> Sketch:
    """The picked weight, worked out."""
    sketch = Sketch(512, 64)
    before, after = (matrix[window.row, window.column].item() for matrix in (look.weight, look.quantized))
    levels = look.packed.levels(window.row, window.column).numpy()
    code = int(np.abs(levels - after).argmin())
    step = float(np.diff(levels)[max(0, min(code, len(levels) - 2))])
    sketch.rect(0, 0, 512, 64, fill="panel", radius=6)
    sketch.runs([("picked weight", {"weight": 600}), (f"output {window.row}, input {window.column}", {"fill": "ink2", "dx": 8})], 14, 24)
    kept = abs(levels[code] - after) > 1e-3 * abs(after) + 1e-9
    sketch.runs(
        [
            (small(before), {"weight": 600}),
            ("→ kept apart, in 16 bits →" if kept else f"→ level {code} of {len(levels)} →", {"fill": "ink2", "dx": 8}),
            (small(after), {"weight": 600, "dx": 8}),
            (f"error {small(after - before)}, step {small(step)}", {"dx": 14, "fill": "ink2"}),
        ],
        14,
        47,
    )
    return sketch


def layer_panel(look: Look) -> Sketch:
    """What the layer costs now, and what it lost."""
    sketch = Sketch(512, 64)
    weights = look.weight.numel()
    sketch.rect(0, 0, 512, 64, fill="panel", radius=6)
    loud = look.outliers.features
    cells = [
        (f"{100 * look.error.output:.1f} %", "output error"),
        (f"{look.error.snr:.1f} dB", "signal to noise"),
        (f"{look.packed.bits_per_weight:.2f}", "bits a weight"),
        (f"{thousands(look.packed.nbytes)} B", f"of {thousands(2 * weights)} in 16 bits"),
        (str(len(loud)), "loud inputs"),
    ]
    for i, (value, words) in enumerate(cells):
        x = 14 + (0, 94, 194, 282, 426)[i]
        sketch.text(value, x, 28, size=16, weight=600)
        sketch.text(words, x, 48, size=10.5, fill="muted")
    return sketch
