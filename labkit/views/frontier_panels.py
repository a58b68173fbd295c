"""The panels of the frontier: the plot with its staircase, and all rows as numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from labkit.views.frontier import NOT_MEASURED, QUALITIES, Quality, bits_of, cell, label, megabytes
from labkit.views.pen import text_width
from labkit.views.sketch import Sketch
from labkit.views.words import percent

LEFT, RIGHT, TOP, BOTTOM = 56, 596, 44, 372  # of the plot, in pixels of its panel; it grows with the list
ROW = 17  # pixels


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
        digits = (1, 1.5, 2, 2.5, 3, 4, 5, 6, 8) if high / low < 8 else (1, 2, 5) if high / low < 1000 else (1,)
        return [
            m * 10.0**k
            for k in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
            for m in digits
            if low <= m * 10.0**k <= high
        ]
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
        share = (
            math.log(value / self.low) / math.log(self.high / self.low) if self.logarithmic else (value - self.low) / (self.high - self.low)
        )
        return self.begin + (self.end - self.begin) * share

    def ticks(self) -> list[float]:
        return _ticks(self.low, self.high, self.logarithmic)


def cut(values: Sequence[float]) -> float:
    """Where an axis may end on which less is better, so that a few very bad ones do not press all others together: twice as far from the
    best as three in four are, and an eighth above it, so that noise looks like noise."""
    ordered = sorted(values)
    end = max(ordered[0] + 2 * (ordered[3 * len(ordered) // 4] - ordered[0]), 1.12 * ordered[0])
    return end if end > ordered[0] else ordered[-1]


def plot_panel(rows: Sequence[Mapping[str, Any]], quality: Quality, front: list[int], picked: int) -> Sketch:
    """Every row with this quality as a mark, and the staircase of the best; as high as the list beside it."""
    bottom = max(BOTTOM, list_height(len(rows)) - 46)
    sketch = Sketch(RIGHT + 8, bottom + 46)
    measured = [n for n, row in enumerate(rows) if row.get(quality.key) is not None]
    x_at = 0.0
    for bits, words in ((2, "2 bits"), (3, "3"), (4, "4"), (8, "8"), (32, "not quantized"), (6, "others")):
        mark(sketch, LEFT + 6 + x_at, 10, bits, "paper", "ink2")
        x_at += 16 + sketch_text(sketch, words, LEFT + 17 + x_at, 14) + 12
    sketch.text("filled: on the frontier · ring: picked", RIGHT, 14, size=11, fill="ink2", align="right")
    if not measured:
        sketch.text(f"{quality.words}: {NOT_MEASURED}", (LEFT + RIGHT) / 2, (TOP + bottom) / 2, fill="muted", align="center")
        return sketch
    values = [rows[n][quality.key] for n in measured]
    across = Axis.around([row["bytes"] / 1e6 for row in rows], LEFT, RIGHT, True)
    decades = quality.key == "kl"  # from almost nothing to nats
    end = max(values) if quality.more or decades else cut(values)
    up = Axis.around([value for value in values if value <= end and (value > 0 or not decades)] or [1.0], bottom, TOP, decades)
    ticks = up.ticks()
    digits = max(0, math.ceil(-math.log10(ticks[1] - ticks[0]) - 1e-9)) if len(ticks) > 1 else 3
    for tick in ticks:
        sketch.rect(LEFT, up.at(tick) - 0.5, RIGHT - LEFT, 1, fill="line")
        words = percent(tick) if quality.more else f"{tick:g}" if decades else f"{tick:.{digits}f}"
        sketch.text(words, LEFT - 7, up.at(tick) + 4, size=10.5, fill="muted", align="right")
    for tick in across.ticks():
        sketch.strokes([((across.at(tick), bottom), (across.at(tick), bottom + 4))], "edge", 1)
        sketch.text(f"{tick:g}", across.at(tick), bottom + 17, size=10.5, fill="muted", align="center")
    sketch.rect(LEFT, bottom - 0.5, RIGHT - LEFT, 1, fill="edge")
    sketch.text("MB of the whole model (logarithmic)", RIGHT, bottom + 34, size=10.5, fill="muted", align="right")
    places = {n: (across.at(rows[n]["bytes"] / 1e6), up.at(rows[n][quality.key])) for n in measured}
    steps: list[tuple[float, float]] = [(places[front[0]][0], bottom if quality.more else TOP)]
    for n in front:
        steps += [(places[n][0], steps[-1][1]), places[n]]
    steps.append((RIGHT, steps[-1][1]))
    sketch.line(steps, "good", 1.6)
    taken = [(x - 7, y - 7, 14.0, 14.0) for x, y in places.values()]
    taken += [(min(a, c) - 2, min(b, d) - 2, abs(c - a) + 4, abs(d - b) + 4) for (a, b), (c, d) in zip(steps, steps[1:], strict=False)]
    for n in sorted(measured, key=lambda n: (n != picked, n not in front)):
        x, y = places[n]
        beyond = f" ↑ {quality.said(rows[n][quality.key])}" if rows[n][quality.key] > end else ""
        if words := _free(label(rows[n]) + beyond, x, y, taken, n in front or n == picked, bottom):
            text, tx, ty, align = words
            sketch.text(text, tx, ty, size=11, weight=600 if n in front or n == picked else 400, align=align)
    for n in sorted(measured, key=lambda n: (n == picked, n in front)):
        x, y = places[n]
        if n == picked:
            sketch.circle(x, y, 9.5, edge="ink", width=1.8)
        mark(sketch, x, y, bits_of(rows[n]), "good" if n in front else "paper", "good" if n in front else "ink2")
        sketch.target(f"mark {n}", x - 9, y - 9, 18, 18)
    return sketch


def list_height(rows: int) -> float:
    """Of the list and the card below it."""
    return 42 + ROW * rows + 104


def sketch_text(sketch: Sketch, words: str, x: float, y: float) -> float:
    """Draws a word of a legend; its width."""
    sketch.text(words, x, y, size=11, fill="ink2")
    return text_width(words, 11)


def _free(
    words: str, x: float, y: float, taken: list[tuple[float, float, float, float]], strong: bool, bottom: float
) -> tuple[str, float, float, str] | None:
    """Where a label meets nothing: (words, x, baseline, align); None where it would (its row in the list says it all the same)."""
    w = text_width(words, 11, 600 if strong else 400) + 4
    for left, top, tx, align in (
        (x + 11, y - 7, x + 11, "left"),
        (x - 11 - w, y - 7, x - 11, "right"),
        (x - w / 2, y - 24, x, "center"),
        (x - w / 2, y + 9, x, "center"),
        (x + 11, y + 5, x + 11, "left"),
        (x + 11, y - 19, x + 11, "left"),
    ):
        inside = left > LEFT + 2 and left + w < RIGHT + 8 and top > 18 and top + 14 < bottom
        if inside and not any(left < a + c and a < left + w and top < b + d and b < top + 14 for a, b, c, d in taken):
            taken.append((left, top, w, 14.0))
            return words, tx, top + 11, align
    return None


def list_panel(rows: Sequence[Mapping[str, Any]], quality: Quality, front: list[int], picked: int, order: list[int]) -> Sketch:
    """All rows as numbers, and the picked one at length."""
    line, width = ROW, 420
    row = rows[picked]
    sketch = Sketch(width, max(BOTTOM + 46, list_height(len(rows))))
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
        sketch.text(
            cell(one, quality),
            width - 6,
            y,
            size=11.5,
            weight=strong,
            align="right",
            fill="ink" if one.get(quality.key) is not None else "muted",
        )
    sketch.target("list", 0, 34 - 12.5, width, line * len(rows), len(rows))
    y = 34 + line * len(rows) + 12
    sketch.rect(0, y, width, 84, fill="panel", radius=6)
    sketch.runs([(label(row), {"weight": 600}), (megabytes(row), {"dx": 8, "fill": "ink2"})], 14, y + 22)
    told = [(q.words, cell(row, q)) for q in QUALITIES.values()]
    told += [
        ("first different token", f"{row['first_difference']:g}" if row.get("first_difference") is not None else NOT_MEASURED),
        ("tokens/s", f"{row['tokens_per_s']:,.0f}".replace(",", "\u202f") if row.get("tokens_per_s") else NOT_MEASURED),
    ]
    for i, (words, value) in enumerate(told):
        x, line_y = 14 + 204 * (i % 2), y + 41 + 16 * (i // 2)
        sketch.text(words, x, line_y, size=10.5, fill="muted")
        sketch.text(
            value,
            x + 190,
            line_y,
            size=10.5,
            weight=600 if value != NOT_MEASURED else 400,
            align="right",
            fill="ink" if value != NOT_MEASURED else "muted",
        )
    return sketch
