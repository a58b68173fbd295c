"""`FrontierView`: quality against bytes, one mark for each method and its bits, and the line of those that no other beats in both."""
from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labkit.views.board import Board, Dial, Page
from labkit.views.canvas_view import EVERY
from labkit.views.pen import text_width
from labkit.views.sketch import Sketch
from labkit.views.words import percent

UNTOUCHED = {None: 32, "float32": 32, "bfloat16": 16, "float16": 16}  # bits of what no method has touched
NOT_MEASURED = "not measured"
LEFT, RIGHT, TOP, BOTTOM = 56, 596, 44, 372  # of the plot, in pixels of its panel
FOOTER = ("Bytes: the whole model with all scales, zeros and outliers, what is not quantized in 16 bits. On the frontier: no other mark has fewer bytes and at "
          "least this quality; ↑: beyond the axis; g64: groups of 64 weights. Perplexity on held-out text; recall: the share of keys given back exactly; KL: nats a token from the original.")


@dataclass(slots=True, frozen=True)
class Quality:
    """A measure of quality: key of the rows, words, and whether more is better."""

    key: str
    words: str
    more: bool

    def said(self, value: float) -> str:
        return percent(value) if self.more else f"{value:.4g}" if self.key == "perplexity" else f"{value:.2g}"


QUALITIES = {quality.key: quality for quality in (
    Quality("perplexity", "perplexity", False), Quality("recall", "exact recall", True), Quality("copy", "exact copying", True), Quality("kl", "KL from the original", False))}


def read_rows(source: str | Path | Mapping | Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows as `labkit bench quantization` writes them: a JSON file, its content, or the rows themselves. Raises ValueError where there are
    none. Rows of formats of the KV cache (`kv-...`) are left out: their model is as large as before."""
    if isinstance(source, str | Path):
        try:
            source = json.loads(Path(source).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ValueError(f"{source} holds no measurements ({error}): make them with `labkit bench quantization`") from error
    rows = source.get("rows") if isinstance(source, Mapping) else source
    rows = [dict(row) for row in rows or () if row.get("bytes") and not str(row.get("method")).startswith("kv-")]
    if not rows:
        raise ValueError("there is no row with bytes: give the rows of `labkit bench quantization`, each with method, bits, bytes and a quality")
    return rows


def name_of(row: Mapping[str, Any]) -> str:
    return row.get("method") or "original"


def bits_of(row: Mapping[str, Any]) -> int:
    """Its bits."""
    return UNTOUCHED[row.get("method")] if row.get("method") in UNTOUCHED else int(row["bits"])


def pareto(rows: Sequence[Mapping[str, Any]], quality: Quality) -> list[int]:
    """The indices of the rows that no other beats: fewest bytes first. Rows without this quality are left out."""
    measured = [n for n, row in enumerate(rows) if row.get(quality.key) is not None]
    measured.sort(key=lambda n: (rows[n]["bytes"], -rows[n][quality.key] if quality.more else rows[n][quality.key]))
    best, found = None, []
    for n in measured:
        value = rows[n][quality.key]
        if best is None or (value > best if quality.more else value < best):
            best = value
            found.append(n)
    return found


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
        alt = (f"{quality.words} against bytes of {len(rows)} ways to store the model. On the frontier: {'; '.join(said) or 'nothing'}."
               + (f" {missing} {NOT_MEASURED}." if missing else ""))
        table = [[label(rows[n]), megabytes(rows[n]), *(cell(rows[n], q) for q in QUALITIES.values()), "yes" if n in front else "no"] for n in self._order()]
        dials = [Dial("quality", "quality", [(q.key, q.words) for q in QUALITIES.values() if any(row.get(q.key) is not None for row in rows)] or
                      [(quality.key, quality.words)], quality.key)]
        panels = [_plot(rows, quality, front, self._picked), _list(rows, quality, front, self._picked, self._order())]
        better = "upper left is better" if quality.more else "lower left is better"
        return Page("Quality versus bytes", f"{quality.words}; {better}", ("replay", self._source), panels, alt, FOOTER,
                    "All that were measured", ["method, bits", "bytes", *(q.words for q in QUALITIES.values()), "on the frontier"], table, dials)


def label(row: Mapping[str, Any]) -> str:
    if row.get("method") in UNTOUCHED:
        return name_of(row)
    options = [{("symmetric", "False"): "asymmetric", ("per", "channel"): "per channel"}.get((name, str(value)), f"{name} {value}")
               for name, value in (row.get("options") or {}).items()]
    return ", ".join([f"{name_of(row)} {bits_of(row)}", *([f"g{row['group_size']}"] if row.get("group_size") else []), *options])


def megabytes(row: Mapping[str, Any]) -> str:
    return f"{row['bytes'] / 1e6:.3g} MB"


def cell(row: Mapping[str, Any], quality: Quality) -> str:
    return NOT_MEASURED if row.get(quality.key) is None else quality.said(row[quality.key])


def mark(sketch: Sketch, x: float, y: float, bits: int, fill: str, edge: str) -> None:
    """Its shape says the bits: 2 downwards, 3 upwards, 4 circle, 8 square, the original diamond; all others a pentagon."""
    if bits == 2:
        sketch.polygon([(x - 5, y - 4), (x + 5, y - 4), (x, y + 5)], fill=fill, edge=edge, width=1.6)
    elif bits == 3:
        sketch.polygon([(x - 5, y + 4), (x + 5, y + 4), (x, y - 5)], fill=fill, edge=edge, width=1.6)
    elif bits == 4:
        sketch.circle(x, y, 4.6, fill=fill, edge=edge, width=1.6)
    elif bits == 8:
        sketch.rect(x - 4.2, y - 4.2, 8.4, 8.4, fill=fill, edge=edge, width=1.6)
    elif bits >= 16:
        sketch.polygon([(x, y - 6), (x + 6, y), (x, y + 6), (x - 6, y)], fill=fill, edge=edge, width=1.6)
    else:
        sketch.polygon([(x + 5 * math.sin(k * 1.2566), y - 5 * math.cos(k * 1.2566)) for k in range(5)], fill=fill, edge=edge, width=1.6)


def _ticks(low: float, high: float, logarithmic: bool) -> list[float]:
    if logarithmic and high / low > 2.5:
        digits = (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8) if high / low < 8 else (1, 2, 5)
        return [m * 10.0**k for k in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1) for m in digits if low <= m * 10.0**k <= high]
    raw = (high - low) / 6
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(k * power for k in (1, 2, 5, 10) if k * power >= raw * 0.999)
    return [step * k for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


@dataclass(slots=True, frozen=True)
class Axis:
    """Pixels from `begin` to `end` for values from `low` to `high`."""

    low: float
    high: float
    begin: float
    end: float
    logarithmic: bool

    @classmethod
    def around(cls, values: Sequence[float], begin: float, end: float, logarithmic: bool) -> Axis:
        low, high = min(values), max(values)
        if logarithmic:
            room = max((high / low) ** 0.07, 1.03)
            return cls(low / room, high * room, begin, end, True)
        room = max(0.07 * (high - low), 1e-3)
        return cls(low - room, high + room, begin, end, False)

    def at(self, value: float) -> float:
        value = min(max(value, self.low), self.high)
        share = math.log(value / self.low) / math.log(self.high / self.low) if self.logarithmic else (value - self.low) / (self.high - self.low)
        return self.begin + (self.end - self.begin) * share

    def ticks(self) -> list[float]:
        return _ticks(self.low, self.high, self.logarithmic)


def cut(values: Sequence[float]) -> float:
    """Where an axis may end on which less is better, so that a few very bad ones do not press all others together: twice as far from the
    best as three in four are, and an eighth above it, so that noise looks like noise."""
    ordered = sorted(values)
    end = max(ordered[0] + 2 * (ordered[3 * len(ordered) // 4] - ordered[0]), 1.12 * ordered[0])
    return end if end > ordered[0] else ordered[-1]


def _plot(rows: Sequence[Mapping[str, Any]], quality: Quality, front: list[int], picked: int) -> Sketch:
    sketch = Sketch(RIGHT + 8, BOTTOM + 46)
    measured = [n for n, row in enumerate(rows) if row.get(quality.key) is not None]
    x_at = 0.0
    for bits, words in ((2, "2 bits"), (3, "3"), (4, "4"), (8, "8"), (32, "not quantized"), (6, "others")):
        mark(sketch, LEFT + 6 + x_at, 10, bits, "paper", "ink2")
        x_at += 16 + sketch_text(sketch, words, LEFT + 17 + x_at, 14) + 12
    sketch.text("filled: on the frontier · ring: picked", RIGHT, 14, size=11, fill="ink2", align="right")
    if not measured:
        sketch.text(f"{quality.words}: {NOT_MEASURED}", (LEFT + RIGHT) / 2, (TOP + BOTTOM) / 2, fill="muted", align="center")
        return sketch
    values = [rows[n][quality.key] for n in measured]
    across = Axis.around([row["bytes"] / 1e6 for row in rows], LEFT, RIGHT, True)
    end = max(values) if quality.more else cut(values)
    up = Axis.around([value for value in values if value <= end], BOTTOM, TOP, False)
    ticks = up.ticks()
    digits = max(0, math.ceil(-math.log10(ticks[1] - ticks[0]) - 1e-9)) if len(ticks) > 1 else 3
    for tick in ticks:
        sketch.rect(LEFT, up.at(tick) - 0.5, RIGHT - LEFT, 1, fill="line")
        sketch.text(percent(tick) if quality.more else f"{tick:.{digits}f}", LEFT - 7, up.at(tick) + 4, size=10.5, fill="muted", align="right")
    for tick in across.ticks():
        sketch.strokes([((across.at(tick), BOTTOM), (across.at(tick), BOTTOM + 4))], "edge", 1)
        sketch.text(f"{tick:g}", across.at(tick), BOTTOM + 17, size=10.5, fill="muted", align="center")
    sketch.rect(LEFT, BOTTOM - 0.5, RIGHT - LEFT, 1, fill="edge")
    sketch.text("MB of the whole model (logarithmic)", RIGHT, BOTTOM + 34, size=10.5, fill="muted", align="right")
    places = {n: (across.at(rows[n]["bytes"] / 1e6), up.at(rows[n][quality.key])) for n in measured}
    steps: list[tuple[float, float]] = [(places[front[0]][0], BOTTOM if quality.more else TOP)]
    for n in front:
        steps += [(places[n][0], steps[-1][1]), places[n]]
    steps.append((RIGHT, steps[-1][1]))
    sketch.line(steps, "good", 1.6)
    taken = [(x - 7, y - 7, 14.0, 14.0) for x, y in places.values()]
    taken += [(min(a, c) - 2, min(b, d) - 2, abs(c - a) + 4, abs(d - b) + 4) for (a, b), (c, d) in zip(steps, steps[1:], strict=False)]
    for n in sorted(measured, key=lambda n: (n != picked, n not in front)):
        x, y = places[n]
        beyond = f" ↑ {quality.said(rows[n][quality.key])}" if rows[n][quality.key] > end else ""
        if words := _free(label(rows[n]) + beyond, x, y, taken, n in front or n == picked):
            text, tx, ty, align = words
            sketch.text(text, tx, ty, size=11, weight=600 if n in front or n == picked else 400, align=align)
    for n in sorted(measured, key=lambda n: (n == picked, n in front)):
        x, y = places[n]
        if n == picked:
            sketch.circle(x, y, 9.5, edge="ink", width=1.8)
        mark(sketch, x, y, bits_of(rows[n]), "good" if n in front else "paper", "good" if n in front else "ink2")
        sketch.target(f"mark {n}", x - 9, y - 9, 18, 18)
    return sketch


def sketch_text(sketch: Sketch, words: str, x: float, y: float) -> float:
    """Draws a word of a legend; its width."""
    sketch.text(words, x, y, size=11, fill="ink2")
    return text_width(words, 11)


def _free(words: str, x: float, y: float, taken: list[tuple[float, float, float, float]], strong: bool) -> tuple[str, float, float, str] | None:
    """Where a label meets nothing: (words, x, baseline, align); None where it would (its row in the list says it all the same)."""
    w = text_width(words, 11, 600 if strong else 400) + 4
    for left, top, tx, align in ((x + 11, y - 7, x + 11, "left"), (x - 11 - w, y - 7, x - 11, "right"), (x - w / 2, y - 24, x, "center"), (x - w / 2, y + 9, x, "center"),
                                 (x + 11, y + 5, x + 11, "left"), (x + 11, y - 19, x + 11, "left")):
        inside = left > LEFT + 2 and left + w < RIGHT + 8 and top > 18 and top + 14 < BOTTOM
        if inside and not any(left < a + c and a < left + w and top < b + d and b < top + 14 for a, b, c, d in taken):
            taken.append((left, top, w, 14.0))
            return words, tx, top + 11, align
    return None


def _list(rows: Sequence[Mapping[str, Any]], quality: Quality, front: list[int], picked: int, order: list[int]) -> Sketch:
    """All rows as numbers, and the picked one at length."""
    line, width = 17, 420
    row = rows[picked]
    sketch = Sketch(width, max(BOTTOM + 46, 42 + line * len(rows) + 104))
    heads = (("method, bits", 22, "left"), ("MB", 190, "right"), ("bits/weight", 268, "right"), (quality.words, width - 6, "right"))
    for words, x, align in heads:
        sketch.text(words, x, 14, size=11, fill="muted", align=align)
    for i, n in enumerate(order):
        y, one = 34 + line * i, rows[n]
        if n == picked:
            sketch.rect(0, y - 12.5, width, line, fill="panel", radius=4)
        mark(sketch, 10, y - 4, bits_of(one), "good" if n in front else "paper", "good" if n in front else "ink2")
        strong = 600 if n == picked or n in front else 400
        sketch.text(label(one), 22, y, size=11.5, weight=strong)
        sketch.text(f"{one['bytes'] / 1e6:.3g}", 190, y, size=11.5, align="right")
        sketch.text(f"{one['bits_per_weight']:.2f}" if one.get("bits_per_weight") else "–", 268, y, size=11.5, align="right", fill="ink2")
        sketch.text(cell(one, quality), width - 6, y, size=11.5, weight=strong, align="right", fill="ink" if one.get(quality.key) is not None else "muted")
    sketch.target("list", 0, 34 - 12.5, width, line * len(rows), len(rows))
    y = 34 + line * len(rows) + 12
    sketch.rect(0, y, width, 84, fill="panel", radius=6)
    sketch.runs([(label(row), {"weight": 600}), (megabytes(row), {"dx": 8, "fill": "ink2"})], 14, y + 22)
    told = [(q.words, cell(row, q)) for q in QUALITIES.values()]
    told += [("first different token", f"{row['first_difference']:g}" if row.get("first_difference") is not None else NOT_MEASURED),
             ("tokens/s", f"{row['tokens_per_s']:,.0f}".replace(",", "\u202f") if row.get("tokens_per_s") else NOT_MEASURED)]
    for i, (words, value) in enumerate(told):
        x, line_y = 14 + 204 * (i % 2), y + 41 + 16 * (i // 2)
        sketch.text(words, x, line_y, size=10.5, fill="muted")
        sketch.text(value, x + 190, line_y, size=10.5, weight=600 if value != NOT_MEASURED else 400, align="right", fill="ink" if value != NOT_MEASURED else "muted")
    return sketch
