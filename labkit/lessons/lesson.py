"""A notebook's own book-keeping: what it asked, what was answered, what held."""
from __future__ import annotations

import json
import os
import threading
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from labkit.lessons.card import Card, show
from labkit.lessons.check import Check
from labkit.lessons.expect import Expect
from labkit.lessons.outcome import OPEN, PASSED, WRONG, Outcome
from labkit.lessons.predict import Predict, Prediction

REPORT = "LABKIT_LESSON_REPORT"  # environment variable: the file that `labkit run` reads afterwards


class Lesson:
    """Made once at the top of a notebook; `predict`, `check` and `expect` are what its cells call.

        lesson = Lesson("02 KV-cache paging", interactive=interactive)
        predict, check, expect = lesson.predict, lesson.check, lesson.expect

    `interactive=False` shows no widgets: predictions stay open and the notebook goes on; None finds out whether somebody may be looking.
    Safe to use from widget callbacks in any thread.
    """

    def __init__(self, title: str, interactive: bool | None = None):
        self.title = title
        self.interactive = interactive is not False and REPORT not in os.environ and _in_notebook()
        self.outcomes: dict[tuple[str, str], Outcome] = {}  # the latest of each (kind, name), in the order first asked
        self.predictions: dict[str, Prediction] = {}  # the latest of each question
        self.values: dict[str, Any] = {}
        self._lock = threading.RLock()
        self.predict = Predict(self)
        self.check = Check(self)
        self.expect = Expect(self)

    def record(self, outcome: Outcome) -> None:
        with self._lock:
            self.outcomes[outcome.kind, outcome.name] = outcome
            self._write()

    def asked(self, prediction: Prediction) -> None:
        with self._lock:
            self.predictions[prediction.question] = prediction

    def report(self, **values: Any) -> None:
        """Note results of the notebook (a run file, a figure) for whoever executes it: they appear in the JSON of `labkit run`."""
        with self._lock:
            self.values |= json.loads(json.dumps(values, default=str))
            self._write()

    def summary(self) -> None:
        """Show what was predicted, solved and is still open."""
        with self._lock:
            outcomes = [outcome for outcome in self.outcomes.values() if outcome.kind in ("prediction", "exercise")]
        lines = []
        for kind in ("prediction", "exercise"):
            counts = Counter(outcome.state for outcome in outcomes if outcome.kind == kind)
            if counts:
                words = {PASSED: "right", WRONG: "to think over", OPEN: "open"}
                lines.append(f"{kind.capitalize()}s: " + ", ".join(f"{counts[state]} {words[state]}" for state in words if counts[state]))
        lines += [f"Open: {outcome.name}" for outcome in outcomes if outcome.kind == "exercise" and outcome.state != PASSED]
        done = all(outcome.state == PASSED for outcome in outcomes)
        show(Card(PASSED if done else OPEN, f"{self.title}: {'all done' if done else 'where you are'}", "\n".join(lines)))

    def _write(self) -> None:
        if not (path := os.environ.get(REPORT)):
            return
        report = {"title": self.title, "outcomes": [asdict(outcome) for outcome in self.outcomes.values()], "values": self.values}
        partial = Path(path).with_suffix(".partial")
        partial.write_text(json.dumps(report))
        partial.replace(path)


def _in_notebook() -> bool:
    from IPython import get_ipython

    shell = get_ipython()
    return shell is not None and hasattr(shell, "kernel")
