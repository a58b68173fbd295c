"""`RaceResult`: the runs of a race and what they come to, as a table, as pictures, as JSON."""
from __future__ import annotations

import json
import platform
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import labkit
from labkit.load.table import Table
from labkit.load.words import counted, measured
from labkit.race.score import Score, score
from labkit.race.step_cost import StepCost
from labkit.race.workload import Workload
from labkit.trace import Run

if TYPE_CHECKING:
    from labkit.views import RaceView
    from labkit.views.picture import Picture

# Measure -> (heading, unit, factor, whether less is better; None: neither).
COLUMNS = {
    "ttft": ("TTFT", "ms", 1e3, True), "ttft_worst": ("worst TTFT", "ms", 1e3, True), "tpot": ("TPOT", "ms", 1e3, True),
    "pause": ("longest pause", "ms", 1e3, True), "throughput": ("tokens/s", "", 1, False), "padding": ("padding", "%", 100, True),
    "preemptions": ("preempted", "", 1, None), "refused": ("refused", "", 1, None), "makespan": ("all done", "ms", 1e3, True),
}
NOTES = ("TTFT, TPOT: medians over requests. Longest pause: between two tokens of one request. "
         "Padding: share of the time in which steps ran. * best of its column, among those that served everybody (1 % apart: a tie). "
         "Once the last request has come, a batch that is not full starts at once, without the delay that it would have.")
TIE = 1.01


@dataclass(slots=True)
class RaceResult:
    """`runs` hold every event of every policy, `broken` what a policy raised, `clock` is "real" or the step cost that was the clock.

    `complete` is false after an interrupt: what there was is here. `view` is the live view, if one was shown.
    """

    runs: dict[str, Run]
    broken: dict[str, Exception]
    titles: dict[str, str]
    workload: Workload
    clock: str | StepCost = "real"
    complete: bool = True
    view: RaceView | None = None
    measures: dict[str, Score] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.measures = {name: score(run, len(self.workload)) for name, run in self.runs.items()}

    @property
    def badge(self) -> str:
        """"live" or "stand-in"."""
        return "live" if self.clock == "real" else "stand-in"

    def leaders(self, measure: str) -> list[str]:
        """The policies with the best value of `measure` (a key of `COLUMNS`), among those that served everybody. 1 % apart is a tie."""
        _, _, _, less = COLUMNS[measure]
        values = {name: row[measure] for name, row in self.measures.items() if row[measure] is not None and self.served_all(name)}
        if less:
            limit = TIE * min(values.values(), default=0.0)
            return [name for name, value in values.items() if value <= limit]
        return [name for name, value in values.items() if TIE * value >= max(values.values())]

    def served_all(self, name: str) -> bool:
        return name not in self.broken and self.measures[name]["finished"] == len(self.workload)

    def table(self) -> Table:
        """A row for each policy. The best of a column are marked."""
        leaders = {column: self.leaders(column) for column, (_, _, _, less) in COLUMNS.items() if less is not None}
        rows = []
        for name, row in self.measures.items():
            cells = [self.shown(column, row[column]) + (" *" if name in leaders.get(column, ()) else "") for column in COLUMNS]
            rows.append([name + (" (broken)" if name in self.broken else ""), *cells])
        header = ["", *(f"{heading}, {unit}" if unit else heading for heading, unit, _, _ in COLUMNS.values())]
        return Table(f"{self.badge} · {self.workload}", header, rows, self._notes())

    @staticmethod
    def shown(measure: str, value: float | int | None) -> str:
        """A value of `measures` in the unit of its column."""
        if value is None:
            return "–"
        return counted(value) if measure in ("preemptions", "refused") else measured(value * COLUMNS[measure][2])

    def _notes(self) -> list[str]:
        notes = [] if self.complete else ["Interrupted: what had happened until then."]
        notes += [f"{name} is out: {described(error)}" for name, error in self.broken.items()]
        notes += [f"{name}: {len(self.workload) - row['finished']} of {len(self.workload)} requests got no whole answer"
                  for name, row in self.measures.items() if name not in self.broken and not self.served_all(name) and self.complete]
        notes += [f"Clock: {self.clock}"] if isinstance(self.clock, StepCost) else []
        return [*notes, NOTES]

    def plot(self, theme: str = "light") -> Picture:
        """The timelines of all policies, one above the other, on one clock."""
        from labkit.views import RaceView

        return self._shown(RaceView(list(self.runs), self.titles, requests=self.requests)).still(theme=theme)

    def ledger(self, theme: str = "light") -> Picture:
        """Where each policy's memory and time went."""
        from labkit.views import WasteLedger

        return self._shown(WasteLedger(list(self.runs), self.titles, requests=self.requests)).still(theme=theme)

    def _shown(self, view: Any) -> Any:
        for name, run in self.runs.items():
            view.feed(name, run.header)
            for event in run.events:
                view.feed(name, event)
        view.end()
        return view

    @property
    def requests(self) -> list[str]:
        """Their ids in every run, in order of arrival."""
        return [f"r{n}" for n in range(len(self.workload))]

    def _ipython_display_(self) -> None:
        """The table: the race itself has been seen."""
        from IPython.display import display

        display(self.table())

    def to_dict(self) -> dict[str, Any]:
        """Measures and where they come from; the runs are not in it (`Run.save` keeps one)."""
        header = next((run.header for run in self.runs.values()), None)
        return {
            "workload": {"about": str(self.workload), "hash": self.workload.hash, **self.workload.parameters},
            "clock": asdict(self.clock) if isinstance(self.clock, StepCost) else self.clock,
            "badge": self.badge,
            "complete": self.complete,
            "measures": self.measures,
            "broken": {name: described(error) for name, error in self.broken.items()},
            "configuration": {name: plain(run.header.configuration) for name, run in self.runs.items()},
            "model": header.model if header else None,
            "hardware": header.hardware if header else {},
            "versions": {"labkit": labkit.__version__, "python": platform.python_version()} | (header.versions if header else {}),
            "when": datetime.now().astimezone().isoformat(timespec="seconds"),
        }

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), allow_nan=False)

    def save(self, path: str | Path) -> Path:
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.to_json() + "\n")
        return path


def described(error: Exception) -> str:
    """An error of a policy, with its kind unless it is a broken law, whose message says everything."""
    from labkit.glassbox.invariants import InvariantError

    return str(error) if isinstance(error, InvariantError) else f"{type(error).__name__}: {error}"


def plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))
