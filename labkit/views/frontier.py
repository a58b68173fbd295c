"""Rows of measurements as quality against bytes, and which of them no other beats in both."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labkit.views.words import percent

UNTOUCHED = {None: 32, "float32": 32, "bfloat16": 16, "float16": 16}  # bits of what no method has touched
NOT_MEASURED = "not measured"


@dataclass(slots=True, frozen=True)
class Quality:
    """A measure of quality: key of the rows, words, and whether more is better."""

    key: str
    words: str
    more: bool

    def said(self, value: float) -> str:
        return percent(value) if self.more else f"{value:.4g}" if self.key == "perplexity" else f"{value:.2g}"


QUALITIES = {
    quality.key: quality
    for quality in (
        Quality("perplexity", "perplexity", False),
        Quality("recall", "exact recall", True),
        Quality("copy", "exact copying", True),
        Quality("kl", "KL from the original", False),
    )
}


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
        raise ValueError(
            "there is no row with bytes: give the rows of `labkit bench quantization`, each with method, bits, bytes and a quality"
        )
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


def label(row: Mapping[str, Any]) -> str:
    if row.get("method") in UNTOUCHED:
        return name_of(row)
    options = [
        {("symmetric", "False"): "asymmetric", ("per", "channel"): "per channel"}.get((name, str(value)), f"{name} {value}")
        for name, value in (row.get("options") or {}).items()
    ]
    return ", ".join([f"{name_of(row)} {bits_of(row)}", *([f"g{row['group_size']}"] if row.get("group_size") else []), *options])


def megabytes(row: Mapping[str, Any]) -> str:
    return f"{row['bytes'] / 1e6:.3g} MB"


def cell(row: Mapping[str, Any], quality: Quality) -> str:
    return NOT_MEASURED if row.get(quality.key) is None else quality.said(row[quality.key])
