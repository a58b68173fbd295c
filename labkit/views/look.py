"""`lab.look`: into the weights of a model, and at what quantization does to it."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labkit.views.board import Board
from labkit.views.errors_view import ErrorsView
from labkit.views.frontier_view import FrontierView
from labkit.views.generations_view import GenerationsView
from labkit.views.weights_view import WeightsView

if TYPE_CHECKING:
    from labkit.models.measure import Ruler
    from labkit.quantization.generations import Generations
    from labkit.quantization.workbench import Workbench

MEASURED = Path(__file__).resolve().parents[2] / "benchmarks" / "quantization.json"
PROMPTS = ("story", "recall", "copy", "question")


def look(model: str | Path = "tiny", view: str = "weights", **settings: Any) -> Board:
    """Show a model's layers and what quantization does to them.

    view: "weights" (a layer before and after; settings: layer, method, bits, group_size, cell), "errors" (every layer by every method;
    methods, bits), "generations" (two texts side by side; methods as ("gptq", 4) pairs, prompts, tokens), or "frontier" (quality against
    bytes; rows: measurements or their JSON file, quality). Raises ValueError for another view, QuantizationError for what is not possible.
    """
    makers = {"weights": _weights, "errors": _errors, "generations": _generations, "frontier": _frontier}
    if view not in makers:
        near = difflib.get_close_matches(view, makers, n=1)
        raise ValueError(f"there is no view {view!r}: there are {', '.join(makers)}." + (f" Did you mean {near[0]!r}?" if near else ""))
    shown = makers[view](model, **settings)
    shown.display()
    return shown


@lru_cache(2)
def workbench(model: str | Path = "tiny") -> Workbench:
    """The workbench of a model, made once: all views of it share its calibration."""
    from labkit.quantization.workbench import Workbench

    return Workbench(model)


def _weights(model: str | Path, **settings: Any) -> WeightsView:
    return WeightsView(workbench(model), **settings)


def _errors(model: str | Path, **settings: Any) -> ErrorsView:
    return ErrorsView(workbench(model), **settings)


def _frontier(model: str | Path, rows: Any = MEASURED, **settings: Any) -> FrontierView:
    if isinstance(rows, str | Path):
        settings.setdefault("source", Path(rows).name)
    return FrontierView(rows, **settings)


def _generations(
    model: str | Path,
    methods: Sequence[tuple] = (("rtn", 4), ("gptq", 4), ("rtn", 3), ("gptq", 3), ("rtn", 2)),
    prompts: Sequence[str] | None = None,
    tokens: int = 64,
) -> GenerationsView:
    ways = {f"{name} {bits} bits": (name, bits, *rest) for name, bits, *rest in methods}
    if prompts is None:
        from labkit.models.prompts import prompt

        prompts = [prompt(kind, "generations").text for kind in PROMPTS]
    return GenerationsView(
        list(ways), prompts, _comparison(workbench(model), ways, tokens), badge=("live", f"generated here, {workbench(model).folder.name}")
    )


def _comparison(bench: Workbench, ways: dict[str, tuple], tokens: int) -> Callable[[str, str], Generations]:
    """(name, prompt) -> both texts; each way is quantized once."""

    @lru_cache(len(ways))
    def quantized(name: str) -> Ruler:
        return bench.quantized(*ways[name])

    def compare(name: str, text: str) -> Generations:
        from labkit.quantization.generations import generations

        return generations(bench.ruler, quantized(name), text, tokens)

    return compare
