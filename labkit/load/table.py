"""A load result as a table, the same in a notebook and in a terminal."""
from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from labkit.load import metrics
from labkit.load.words import counted, measured

if TYPE_CHECKING:
    from labkit.load.result import LoadResult

NAMES = {"ttft": "TTFT, from send", "ttft_scheduled": "TTFT, from schedule", "tpot": "TPOT", "e2e": "E2E"}
GAPS = {"ITL": "ITL, between tokens", "ICL": "ICL, between chunks"}
DEFINITIONS = ("TTFT: first content − send (or − scheduled arrival). TPOT: (last − first) ÷ (N − 1), per request. "
               "ITL/ICL: gaps between events, pooled. E2E: last content − send. "
               "Percentile [95 % bounds]; p95 needs n ≥ 59, p99 n ≥ 299.")


@dataclass(slots=True, frozen=True)
class Table:
    """Title, header, rows of texts, and lines below. Numbers are rounded to what can be read."""

    title: str
    header: list[str]
    rows: list[list[str]]
    notes: list[str]

    def __str__(self) -> str:
        grid = [self.header, *self.rows]
        widths = [max(len(row[i]) for row in grid) for i in range(len(self.header))]
        lines = ["  ".join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))])
                 for row in grid]
        return "\n".join([self.title, "", *lines, "", *self.notes])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        def row(cells: list[str], tag: str) -> str:
            styles = ["text-align:left", *["text-align:right;font-variant-numeric:tabular-nums"] * (len(cells) - 1)]
            pairs = zip(cells, styles, strict=True)
            return "<tr>" + "".join(f'<{tag} style="{style}">{escape(cell)}</{tag}>' for cell, style in pairs) + "</tr>"

        body = row(self.header, "th") + "".join(row(cells, "td") for cells in self.rows)
        notes = "".join(f"<div>{escape(note)}</div>" for note in self.notes)
        return f'<div><b>{escape(self.title)}</b><table>{body}</table><small>{notes}</small></div>'


def table(result: LoadResult) -> Table:
    gap = GAPS[metrics.gap_name(result.records)]
    rows = []
    for metric in ("ttft", "ttft_scheduled", "tpot", "gap", "e2e"):
        samples = result.values(metric)
        mean = measured(sum(samples) / len(samples)) if samples else "–"
        percentiles = [cell(metrics.percentile(samples, p), metric) for p in (50, 95, 99)]
        rows.append([NAMES.get(metric, gap), "ms", counted(len(samples)), mean, *percentiles])
    return Table(title(result), ["", "", "n", "mean", "p50", "p95", "p99"], rows, notes(result))


def cell(percentile: metrics.Percentile, metric: str) -> str:
    # Pooled gaps are not independent samples: bounds would claim too much.
    return str(percentile) if metric == "gap" or percentile.value is None else f"{percentile} [{percentile.bounds}]"


def title(result: LoadResult) -> str:
    """What was asked, of whom, and how much of it went well."""
    ok = sum(record.ok for record in result.records)
    who = " ".join(str(result.server[key]) for key in ("name", "badge") if result.server.get(key)) or result.server["url"]
    return f"{who} · {describe(result)} · {ok} of {result.requests} requests ok"


def describe(result: LoadResult) -> str:
    """The arrivals in words: "Poisson 4 req/s, seed 0"."""
    arrivals = result.configuration["arrivals"]
    cap, rate = arrivals.get("concurrency"), arrivals.get("rate")
    if arrivals["name"] == "closed":
        return f"{cap} at a time, seed {result.seed}"
    name = f"{arrivals['name'].capitalize()}{f' {rate:g} req/s' if rate else ''}"
    return f"{name}{f', {cap} at a time at most' if cap else ''}, seed {result.seed}"


def notes(result: LoadResult) -> list[str]:
    lines = [f"{counted(result.output_tokens)} tokens in {measured(result.seconds)} s: {measured(result.throughput)} tokens/s"]
    if result.reason != "complete":
        lines.append(f"{'Stopped early' if result.reason == 'stopped' else 'Cut off by the total timeout'}: "
                     f"{result.requests - sum(record.ok for record in result.records)} requests are missing.")
    for cause, count in result.failures.items():
        example = next(record.error.message for record in result.records if record.error and record.error.cause == cause)
        lines.append(f"{count} failed, {cause}: {example}")
    if result.objectives:
        limits = ", ".join(f"{name} ≤ {limit:g} ms" for name, limit in result.objectives.items())
        lines.append(f"Goodput {result.goodput():.3g} req/s ({limits})")
    health = result.client
    figures = f"send slip p99 {health.send_slip_p99_ms:.2g} ms, loop lag p99 {health.lag_p99_ms:.2g} ms, CPU {100 * health.cpu:.0f} %"
    lines.append(f"Client-limited, times are partly the client's own: {'; '.join(health.reasons)} ({figures})" if health.client_limited
                 else f"Client healthy: {figures}")
    return [*lines, DEFINITIONS]
