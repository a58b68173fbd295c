"""A race as a small table of bars, in HTML: what changes when a dial is turned."""
from __future__ import annotations

from html import escape

from labkit.race.result import COLUMNS, RaceResult, described

SHOWN = ("ttft", "tpot", "pause", "throughput", "padding", "makespan")
COLOURS = {"ttft": "#E69F00", "tpot": "#0072B2", "pause": "#0072B2"}  # by phase, as everywhere; the others are neutral
NEUTRAL, BAR = "#8A94A1", 92  # px


def ranking(result: RaceResult) -> str:
    """A row for each policy, a column for each measure. The best of a column have a dot and bold figures."""
    heads = ["", *(f"{heading}, {unit}" if unit else heading for heading, unit, _, _ in (COLUMNS[name] for name in SHOWN))]
    rows = ["".join(f'<th style="text-align:left;font-weight:600;padding:2px 10px 2px 0">{escape(head)}</th>' for head in heads)]
    most = {name: max([row[name] or 0.0 for row in result.measures.values()], default=0.0) for name in SHOWN}
    leaders = {name: result.leaders(name) for name in SHOWN}
    for policy, row in result.measures.items():
        cells = [f'<th scope="row" style="text-align:left;font-weight:600;padding-right:14px">{escape(policy)}</th>']
        cells += [_cell(name, row[name], most[name], policy in leaders[name], result) for name in SHOWN]
        rows.append("".join(cells))
    table = "".join(f"<tr>{row}</tr>" for row in rows)
    notes = [f"{name} is out: {described(error)}" for name, error in result.broken.items()]
    notes += [f"{name}: {row['preemptions']} preemptions" for name, row in result.measures.items() if row["preemptions"]]
    notes += [f"{name}: {row['refused']} refused" for name, row in result.measures.items() if row["refused"]]
    said = "".join(f"<div>{escape(note)}</div>" for note in [str(result.workload), "; ".join(notes)] if note)
    return (f'<div style="font-variant-numeric:tabular-nums;line-height:1.35"><table style="border-spacing:0">{table}</table>'
            f'<div style="font-size:11px;opacity:.8">● best of its column, among those that served everybody. {said}</div></div>')


def _cell(name: str, value: float | int | None, most: float, best: bool, result: RaceResult) -> str:
    if value is None:
        return "<td>–</td>"
    width = BAR * value / most if most else 0
    number = result.shown(name, value)
    text = f'<b>{number}</b> <span title="best">●</span>' if best else number
    bar = f'<div style="height:5px;width:{max(1, width):.0f}px;background:{COLOURS.get(name, NEUTRAL)}"></div>'
    return f'<td style="padding:2px 14px 2px 0;min-width:{BAR}px">{text}{bar}</td>'
