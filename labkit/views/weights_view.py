"""`WeightsView`: one layer before and after it is quantized, the error, and the grid in the histogram; dials for layer, method, bits and
group size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from labkit.views.board import Board, Dial, Page
from labkit.views.canvas_view import EVERY
from labkit.views.weights_panels import (
    COLUMNS,
    ROWS,
    Window,
    after_panel,
    before_panel,
    error_panel,
    layer_panel,
    levels_panel,
    weight_panel,
)
from labkit.views.words import thousands

if TYPE_CHECKING:
    from labkit.quantization.workbench import Look, Workbench

GROUPS = (16, 32, 64, 128, 256)
FOOTER = (
    "Blue: below zero, vermillion: above; dark: far from it. Dashed: border between two groups that have a scale each. Bars below: "
    "greatest |x| of each input feature in the calibration. Errors: root mean squares, of the error over that of the original; the "
    "layer is quantized by itself."
)


class WeightsView(Board):
    """`set(layer=…, method=…, bits=…, group_size=…, cell=…)` turns the dials from code; `look` is what is shown."""

    def __init__(self, bench: Workbench, *, every: float = EVERY, **settings: Any):
        """settings: where the dials stand at first, see `set`. Raises QuantizationError for what is not possible."""
        super().__init__(every)
        self.bench = bench
        self._layer, self._method = bench.layers[0], "rtn"
        self._bits: int | None = 4
        self._group: int | None = 64
        self._cell: tuple[int, int] | None = None
        self._window: tuple[int, int] | None = None  # upper left corner; it stays while a cell inside it is picked
        self.set(**settings)

    def set(
        self,
        *,
        layer: str | None = None,
        method: str | None = None,
        bits: int | None = None,
        group_size: int | None = None,
        cell: tuple[int, int] | None = None,
    ) -> None:
        """Turn dials; None leaves one as it is, or where the method has no such number of bits, at the method's own. cell: (output,
        input) of the weight whose grid is shown. Raises QuantizationError, and then changes nothing."""
        from labkit.quantization.errors import QuantizationError

        with self._lock:
            before = self._layer, self._method, self._bits, self._group, self._cell, self._window
            self._layer, self._method = layer or self._layer, method or self._method
            if layer is not None:
                self._cell = self._window = None
            try:
                self._settle_dials(bits, group_size)
                self._place(self.look, cell)
            except QuantizationError:
                self._layer, self._method, self._bits, self._group, self._cell, self._window = before
                raise
            self._changed_page()

    def _settle_dials(self, bits: int | None, group_size: int | None) -> None:
        from labkit.quantization.methods import method

        chosen, inputs = method(self._method), self.bench.weight(self._layer).shape[1]
        self._bits = bits if bits is not None else self._bits if self._bits in chosen.bits else chosen.bits[0]
        if chosen.takes_groups:
            self._group = group_size or self._group
            if group_size is None and inputs % self._group:
                self._group = max(size for size in GROUPS if inputs % size == 0)
        elif group_size is not None:
            chosen.check(self._bits, group_size)

    def _arguments(self) -> dict[str, Any]:
        from labkit.quantization.methods import method

        return {"bits": self._bits, "group_size": self._group if method(self._method).takes_groups else None}

    @property
    def look(self) -> Look:
        """The layer as it is shown."""
        with self._lock:
            return self.bench.look(self._layer, self._method, **self._arguments())

    def _place(self, look: Look, cell: tuple[int, int] | None) -> None:
        """Pick a weight; at first the loudest input of the channel with the worst error."""
        outputs, inputs = look.weight.shape
        if cell is None:
            cell = self._cell or (int(look.error.channels.argmax()), int(look.input_peak.argmax()))
        row, column = (min(max(0, at), most - 1) for at, most in zip(cell, (outputs, inputs), strict=True))
        self._cell = row, column
        top, left = self._window or (row - ROWS // 2, column - COLUMNS // 2)
        top, left = min(max(top, row - ROWS + 1), row), min(max(left, column - COLUMNS + 1), column)
        self._window = min(max(0, top), max(0, outputs - ROWS)), min(max(0, left), max(0, inputs - COLUMNS))

    # the browser -----------------------------------------------------------------------------------------------------
    def _turn(self, name: str, value: Any) -> None:
        if name in ("layer", "method", "bits", "group_size"):
            self.set(**{name: value})

    def _pick(self, target: str, row: int, column: int) -> None:
        top, left = self._window
        self.set(cell=(top + row, left + column))

    def _move(self, rows: int, columns: int) -> None:
        row, column = self._cell
        self.set(cell=(row + rows, column + columns))

    def _dials(self, look: Look) -> list[Dial]:
        from labkit.quantization.methods import METHODS, method

        chosen, inputs = method(look.method), look.weight.shape[1]
        dials = [
            Dial("layer", "layer", [(name, name) for name in self.bench.layers], look.layer),
            Dial("method", "method", [(name, name) for name in METHODS], look.method),
            Dial("bits", "bits", [(bits, str(bits)) for bits in sorted(chosen.bits)], look.bits, "slider"),
        ]
        if look.group_size is not None:
            groups = sorted({size for size in GROUPS if inputs % size == 0} | {look.group_size})
            dials.append(Dial("group_size", "group size", [(size, str(size)) for size in groups], look.group_size, "slider"))
        return dials

    def page(self) -> Page:
        look = self.look
        window = Window(*self._window, *self._cell)
        other = None
        if look.method not in ("rtn", "gptq"):  # these two have the same grid
            other = self.bench.look(look.layer, "rtn", min(look.bits, 8), look.group_size)
        outputs, inputs = look.weight.shape
        groups = "" if look.group_size is None else f", groups of {look.group_size}"
        how = f"{look.method}, {look.bits} bits{groups}"
        packed, error = look.packed, look.error
        row, column = self._cell
        before, after = look.weight[row, column].item(), look.quantized[row, column].item()
        alt = (
            f"Quantization of {look.layer}, {outputs} by {inputs} weights, by {how}: relative error of the weights "
            f"{100 * error.weight:.1f} %, of the "
            f"outputs {100 * error.output:.1f} %, {packed.bits_per_weight:.2f} bits a weight, {thousands(packed.nbytes)} bytes. "
            f"Weight at output {row}, "
            f"input {column}: {before:.4f} became {after:.4f}, one of {len(packed.levels(row, column))} levels. "
            f"{len(look.outliers.features)} outlier features in its inputs, the greatest value {look.outliers.peak:.1f}."
        )
        panels = [
            before_panel(look, window),
            after_panel(look, window, how),
            error_panel(look, window),
            levels_panel(look, window, other),
            weight_panel(look, window),
            layer_panel(look),
        ]
        worst = error.channels.argsort(descending=True)[:12].tolist()
        rows = [[str(channel), f"{100 * error.channels[channel]:.1f} %"] for channel in worst]
        return Page(
            "Weights",
            f"{look.layer} · {outputs} × {inputs} · {how}",
            ("live", f"quantized here, {self.bench.folder.name}"),
            panels,
            alt,
            FOOTER,
            f"Worst output channels of {look.layer}",
            ["output channel", "relative error of its output"],
            rows,
            self._dials(look),
        )
