"""`ErrorsView`: the error of every layer by every method, of every channel of one layer, and the activations that make a layer hard."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from labkit.views.board import Board, Dial, Page
from labkit.views.canvas_view import EVERY
from labkit.views.sketch import Sketch

if TYPE_CHECKING:
    from labkit.quantization.workbench import Look, Workbench

METHODS = ("rtn", "gptq", "awq", "squeezellm", "nf4")
LOUD = 6.0  # where LLM.int8() calls a feature an outlier
LEFT, CELL_W, CELL_H, TOP = 150, 58, 15, 34
SIDE = 560
FOOTER = (
    "Error: root mean square of the error of a layer's outputs on calibration text over that of the outputs; each layer is "
    "quantized by itself. Darker: worse; the numbers are percent. Channels: outputs of the picked layer. Outliers: features with a "
    "value of 6 or more (LLM.int8())."
)


class ErrorsView(Board):
    """`set(layer=…, method=…, bits=…)` picks from code; `looks` are what is shown."""

    def __init__(
        self,
        bench: Workbench,
        methods: Sequence[str] = METHODS,
        bits: int = 4,
        *,
        layers: Sequence[str] | None = None,
        every: float = EVERY,
    ):
        """bits: of the methods that can choose them. layers: all of them for None. Raises QuantizationError."""
        super().__init__(every)
        self.bench, self._methods, self._bits = bench, list(methods), bits
        self._layers = list(layers or bench.layers)
        self._layer, self._method = 0, 0
        self.set(bits=bits)
        looks = self.looks
        self._layer = int(np.argmax([looks[layer, self._methods[0]].outliers.spread for layer in self._layers]))

    def set(self, *, layer: str | None = None, method: str | None = None, bits: int | None = None) -> None:
        """Pick a layer and a method, or change the bits. Raises QuantizationError for what is not there."""
        from labkit.quantization.errors import check_bits, check_choice

        if bits is not None:
            check_bits(bits, range(2, 9))
        for what, given, there in (("layer", layer, self._layers), ("method", method, self._methods)):
            if given is not None:
                check_choice(f"{what} in this view", given, there)
        with self._lock:
            self._bits = bits or self._bits
            self._layer = self._layers.index(layer) if layer else self._layer
            self._method = self._methods.index(method) if method else self._method
            self._changed_page()

    @property
    def looks(self) -> dict[tuple[str, str], Look]:
        """Every layer by every method."""
        from labkit.quantization.methods import method

        with self._lock:
            return {
                (layer, name): self.bench.look(layer, name, self._bits if method(name).takes_bits else None)
                for layer in self._layers
                for name in self._methods
            }

    def _turn(self, name: str, value: Any) -> None:
        if name in ("layer", "bits"):
            self.set(**{name: value})

    def _pick(self, target: str, row: int, column: int) -> None:
        if target == "errors":
            self.set(layer=self._layers[row], method=self._methods[column])
        elif target == "channels":
            self.set(method=self._methods[row])

    def _move(self, rows: int, columns: int) -> None:
        row, column = (
            min(max(0, at), most - 1)
            for at, most in ((self._layer + rows, len(self._layers)), (self._method + columns, len(self._methods)))
        )
        self.set(layer=self._layers[row], method=self._methods[column])

    def page(self) -> Page:
        looks = self.looks
        layer, name = self._layers[self._layer], self._methods[self._method]
        look = looks[layer, name]
        errors = np.array([[looks[one, other].error.output for other in self._methods] for one in self._layers])
        mean = dict(zip(self._methods, errors.mean(0), strict=True))
        said = ", ".join(f"{one} {100 * value:.1f} %" for one, value in mean.items())
        worst = int(look.error.channels.argmax())
        alt = (
            f"Output error of {len(self._layers)} layers by {len(self._methods)} methods. Means: {said}. {layer} by {name}: "
            f"{100 * look.error.output:.1f} %, worst output "
            f"channel {worst} with {100 * look.error.channels[worst]:.1f} %; loudest input feature "
            f"{int(look.input_peak.argmax())} with {look.outliers.peak:.1f}."
        )
        rows = [[one, *(f"{100 * value:.1f} %" for value in line)] for one, line in zip(self._layers, errors, strict=True)]
        dials = [
            Dial("layer", "layer", [(one, one) for one in self._layers], layer),
            Dial("bits", "bits", [(bits, str(bits)) for bits in range(2, 9)], self._bits, "slider"),
        ]
        panels = [
            _table(self._layers, self._methods, errors, self._layer, self._method),
            _side([looks[layer, one] for one in self._methods], self._method),
        ]
        return Page(
            "Error by layer and method",
            f"{self._bits} bits where a method can choose · picked: {layer}, {name}",
            ("live", f"quantized here, {self.bench.folder.name}"),
            panels,
            alt,
            FOOTER,
            "Relative error of the outputs",
            ["layer", *self._methods],
            rows,
            dials,
        )


def _figure(share: float) -> str:
    return f"{100 * share:.1f}" if share < 0.995 else f"{100 * share:.0f}"


def _table(layers: list[str], methods: list[str], errors: np.ndarray, row: int, column: int) -> Sketch:
    w, h = CELL_W * len(methods), CELL_H * len(layers)
    sketch = Sketch(LEFT + w + 2, TOP + h + 26)
    full = max(float(np.quantile(errors, 0.98)), 1e-9)
    for k, name in enumerate(methods):
        sketch.text(name, LEFT + (k + 0.5) * CELL_W, TOP - 8, size=11, weight=600 if k == column else 400, align="center")
    shades = errors / full
    sketch.image(shades, LEFT, TOP, w, h, "loss")
    for i, name in enumerate(layers):
        y = TOP + i * CELL_H
        if i and name.split(".")[1] != layers[i - 1].split(".")[1]:
            sketch.rect(LEFT - 140, y - 0.5, 140 + w, 1, fill="edge")
        sketch.text(
            name.removeprefix("layers."),
            LEFT - 8,
            y + 11,
            size=10.5,
            weight=600 if i == row else 400,
            fill="ink" if i == row else "ink2",
            align="right",
        )
        for k, share in enumerate(errors[i]):
            dark = shades[i, k] > 0.45
            sketch.text(_figure(share), LEFT + (k + 0.5) * CELL_W, y + 11, size=10.5, fill="onLoss" if dark else "ink", align="center")
    sketch.rect(LEFT + column * CELL_W, TOP + row * CELL_H, CELL_W, CELL_H, edge="paper", width=4)
    sketch.rect(LEFT + column * CELL_W, TOP + row * CELL_H, CELL_W, CELL_H, edge="ink", width=2)
    sketch.target("errors", LEFT, TOP, w, h, len(layers), len(methods))
    y = TOP + h + 17
    sketch.text("mean", LEFT - 8, y, size=10.5, weight=600, align="right")
    for k, mean in enumerate(errors.mean(0)):
        sketch.text(_figure(mean), LEFT + (k + 0.5) * CELL_W, y, size=10.5, weight=600, align="center")
    sketch.text("% of the outputs", 0, TOP - 8, size=11, fill="muted")
    return sketch


def _side(looks: list[Look], picked: int) -> Sketch:
    """Channels of one layer by method, and its inputs."""
    left, width, strip = 84, SIDE - 84, 20
    look = looks[picked]
    outputs, inputs = look.weight.shape
    spikes = 92 + (strip + 6) * len(looks) + 44
    sketch = Sketch(SIDE, spikes + 200)
    sketch.runs(
        [
            ("channels", {"weight": 600, "size": 13}),
            (f"error of each of the {outputs} outputs of {look.layer.removeprefix('layers.')}", {"fill": "ink2", "dx": 8}),
        ],
        0,
        TOP - 8,
    )
    full = max(float(np.quantile(one.error.channels.numpy(), 0.99)) for one in looks)
    y = TOP + 4
    for k, one in enumerate(looks):
        sketch.text(one.method, left - 8, y + 14, size=11, weight=600 if k == picked else 400, align="right")
        sketch.image(one.error.channels.numpy()[None, :] / max(full, 1e-9), left, y, width, strip, "loss")
        sketch.rect(left - 0.5, y - 0.5, width + 1, strip + 1, edge="ink" if k == picked else "edge", width=1.8 if k == picked else 0.8)
        y += strip + 6
    sketch.target("channels", left, TOP + 4, width, y - TOP - 4, len(looks), 1)
    worst = int(look.error.channels.argmax())
    x = left + width * (worst + 0.5) / outputs
    sketch.polygon([(x - 4, y + 5), (x + 4, y + 5), (x, y - 2)], fill="alert")
    words = f"worst by {look.method}: channel {worst}, {100 * look.error.channels[worst]:.0f} %"
    align = "left" if x < left + width / 2 else "right"
    sketch.text(words, x + (8 if align == "left" else -8), y + 8, size=10.5, fill="ink2", align=align)
    sketch.runs(
        [("activations", {"weight": 600, "size": 13}), (f"greatest |x| of each of the {inputs} inputs", {"fill": "ink2", "dx": 8})],
        0,
        spikes,
    )
    peaks, base, high = look.input_peak.numpy(), spikes + 168, 138
    most = max(float(peaks.max()) * 1.08, LOUD * 1.3)
    at = left + width * (np.arange(inputs) + 0.5) / inputs
    for value in (0, float(peaks.max()), *([LOUD] if min(LOUD, abs(LOUD - peaks.max())) * high / most > 12 else [])):
        sketch.text(f"{value:.3g}", left - 8, base - high * value / most + 4, size=10.5, fill="muted", align="right")
    loud = peaks >= LOUD
    thin = max(0.6, width / inputs - 0.4)
    for kind, colour in ((~loud, "edge"), (loud, "alert")):
        sketch.strokes([((x, base), (x, base - high * p / most)) for x, p in zip(at[kind], peaks[kind], strict=True)], colour, thin)
    sketch.strokes([((left, base - high * LOUD / most), (left + width, base - high * LOUD / most))], "ink2", 1, (4, 3))
    sketch.rect(left, base - 0.5, width, 1, fill="ink2")
    for n in peaks.argsort()[::-1][:1]:
        align = "left" if at[n] < left + width / 2 else "right"
        sketch.runs(
            [(f"input {n}", {"weight": 600}), (f"{peaks[n]:.1f}", {"dx": 6})],
            at[n] + (6 if align == "left" else -6),
            base - high * peaks[n] / most + 10,
            size=11,
            align=align,
        )
    sketch.runs(
        [
            (f"{int(loud.sum())}", {"weight": 600}),
            (f"outliers of 6 or more; the greatest is {look.outliers.spread:.3g} times the median", {"dx": 4, "fill": "ink2"}),
        ],
        left,
        base + 18,
        size=11,
    )
    return sketch
