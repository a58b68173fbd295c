"""`ComparisonStill`: several races side by side, measure by measure: where each policy wins and where it loses."""
from __future__ import annotations

from collections.abc import Mapping, Sequence

from labkit.race.result import COLUMNS, RaceResult
from labkit.views.pen import Pen, text_width
from labkit.views.picture import EDGE, WIDTH, Picture, banner
from labkit.views.scene import badge

MEASURES = ("ttft", "pause", "throughput")
COLOURS = {"ttft": "prefill", "ttft_worst": "prefill", "tpot": "decode", "pause": "decode"}  # by phase; the others are neutral
LEFT, TOP, ROW, GAP, HEAD = 128, 84, 19, 26, 22  # pixels
NUMBER = 64  # room for the figure behind a bar
FOOTER = ("Bars of a group share a scale. ● best of its group, among those that served everybody (1 % apart is a tie). "
          "TTFT: median of requests. Longest pause: between two tokens of one request.")


class ComparisonStill(Picture):
    """A column for each race, a group of bars for each measure, a bar for each policy. All races have the same policies."""

    def __init__(self, races: Mapping[str, RaceResult], measures: Sequence[str] = MEASURES, theme: str = "light"):
        names = list(next(iter(races.values())).measures)
        group = HEAD + len(names) * ROW + GAP
        super().__init__(TOP + len(measures) * group + 40, alternative(races, measures), theme)
        pen = self.pen
        runs = [run for race in races.values() for run in race.runs.values()]
        banner(pen, "Who wins when", [(f"{len(names)} policies, {len(races)} races", {})], badge(runs[0].header))
        width = (WIDTH - EDGE - LEFT) / len(races)
        for column, (title, race) in enumerate(races.items()):
            x = LEFT + column * width
            pen.text(pen.fitting([title], width - 12, 12.5, 600) or title, x, 68, size=12.5, weight=600)
            for row, measure in enumerate(measures):
                _bars(pen, race, names, measure, x, TOP + row * group, width - NUMBER - 18)
        for row, measure in enumerate(measures):
            heading, unit, _, _ = COLUMNS[measure]
            y = TOP + row * group
            pen.text(f"{heading}, {unit}" if unit else heading, EDGE, y + 12, size=11, fill=pen.colours["muted"])
            for i, name in enumerate(names):
                pen.text(name, EDGE, y + HEAD + i * ROW + 12, fill=pen.colours["ink2"])
        pen.text(FOOTER, EDGE, TOP + len(measures) * group + 18, size=10.5, fill=pen.colours["muted"])


def _bars(pen: Pen, race: RaceResult, names: Sequence[str], measure: str, x: float, y: float, room: float) -> None:
    c, phase = pen.colours, COLOURS.get(measure)
    most = max([race.measures[name][measure] or 0.0 for name in names if name in race.measures], default=0.0)
    leaders = race.leaders(measure)
    for i, name in enumerate(names):
        top, value = y + HEAD + i * ROW, race.measures[name][measure] if name in race.measures else None
        if name in race.broken or value is None:
            words, colour = ("broke a law", "alert") if name in race.broken else ("–", "muted")
            pen.text(words, x, top + 12, size=11, fill=c[colour])
            continue
        length = max(1.0, room * value / most) if most else 1.0
        pen.rect(x, top + 2, length, 11, fill=c[phase] if phase else c["bar"], edge=c[f"{phase}Edge"] if phase else None, width=0.8)
        number = race.shown(measure, value)
        pen.text(number, x + length + 5, top + 12, size=11, weight=600 if name in leaders else 400)
        if name in leaders:
            pen.circle(x + length + 12 + text_width(number, 11, 600), top + 8, 3, fill=c["ink"])


def alternative(races: Mapping[str, RaceResult], measures: Sequence[str]) -> str:
    said = []
    for title, race in races.items():
        winners = [f"{COLUMNS[measure][0]} {' and '.join(best)} ({race.shown(measure, race.measures[best[0]][measure])})"
                   for measure in measures if (best := race.leaders(measure))]
        said.append(f"{title}: best {', '.join(winners)}")
    return f"Who wins when. {'; '.join(said)}."
