"""`FrontierView`: quality against bytes, one mark for each method and its bits."""

from __future__ import annotations

from typing import Any

from labkit.views.board import Board, Dial, Page
from labkit.views.canvas_view import EVERY
from labkit.views.frontier import NOT_MEASURED, QUALITIES, cell, label, megabytes, pareto, read_rows
from labkit.views.frontier_panels import list_panel, plot_panel

FOOTER = (
    "Bytes: the whole model with all scales, zeros and outliers, what is not quantized in 16 bits. On the frontier: no other mark "
    "has fewer bytes and at least this quality; ↑: beyond the axis; g64: groups of 64 weights. Perplexity on held-out text; recall: "
    "the share of keys given back exactly; KL: nats a token from the original."
)


class FrontierView(Board):
    """`quality` and `picked` say what is shown; `set` changes it from code."""

    def __init__(self, rows: Any, *, quality: str = "perplexity", source: str = "measured here", every: float = EVERY):
        """rows: see `read_rows`. source: what the badge says of them. Raises ValueError."""
        super().__init__(every)
        self._rows, self._source = read_rows(rows), source
        self._quality = quality
        self._picked = 0
        self.set(quality=quality)
        front = pareto(self._rows, QUALITIES[quality])
        self._picked = front[len(front) // 2] if front else 0

    def set(self, *, quality: str | None = None, picked: int | None = None) -> None:
        """quality: perplexity, recall, copy or kl. picked: the number of a row. Raises ValueError."""
        if quality is not None and quality not in QUALITIES:
            raise ValueError(f"there is no quality {quality!r}: there are {', '.join(QUALITIES)}")
        if picked is not None and not 0 <= picked < len(self._rows):
            raise ValueError(f"there are {len(self._rows)} rows, from 0")
        with self._lock:
            self._quality = quality or self._quality
            self._picked = self._picked if picked is None else picked
            self._changed_page()

    def _turn(self, name: str, value: Any) -> None:
        self.set(quality=str(value))

    def _order(self) -> list[int]:
        return sorted(range(len(self._rows)), key=lambda n: self._rows[n]["bytes"])

    def _pick(self, target: str, row: int, column: int) -> None:
        self.set(picked=int(target.removeprefix("mark ")) if target.startswith("mark ") else self._order()[row])

    def _move(self, rows: int, columns: int) -> None:
        order = self._order()
        self.set(picked=order[min(max(0, order.index(self._picked) + (rows or columns)), len(order) - 1)])

    def page(self) -> Page:
        quality, rows, front = QUALITIES[self._quality], self._rows, pareto(self._rows, QUALITIES[self._quality])
        said = [f"{label(rows[n])}: {megabytes(rows[n])}, {quality.words} {quality.said(rows[n][quality.key])}" for n in front]
        missing = sum(row.get(quality.key) is None for row in rows)
        alt = f"{quality.words} against bytes of {len(rows)} ways to store the model. On the frontier: {'; '.join(said) or 'nothing'}." + (
            f" {missing} {NOT_MEASURED}." if missing else ""
        )
        table = [
            [label(rows[n]), megabytes(rows[n]), *(cell(rows[n], q) for q in QUALITIES.values()), "yes" if n in front else "no"]
            for n in self._order()
        ]
        dials = [
            Dial(
                "quality",
                "quality",
                [(q.key, q.words) for q in QUALITIES.values() if any(row.get(q.key) is not None for row in rows)]
                or [(quality.key, quality.words)],
                quality.key,
            )
        ]
        panels = [plot_panel(rows, quality, front, self._picked), list_panel(rows, quality, front, self._picked, self._order())]
        better = "upper left is better" if quality.more else "lower left is better"
        return Page(
            "Quality versus bytes",
            f"{quality.words}; {better}",
            ("replay", self._source),
            panels,
            alt,
            FOOTER,
            "All that were measured",
            ["method, bits", "bytes", *(q.words for q in QUALITIES.values()), "on the frontier"],
            table,
            dials,
        )
