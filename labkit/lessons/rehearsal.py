"""A notebook's predictions and exercises tried with given answers, without its servers: how solutions are tested."""
from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from labkit.lessons.lesson import Lesson
from labkit.lessons.outcome import OPEN, Outcome

TAGS = ("parameters", "setup", "predict", "exercise", "check")


class Rehearsal:
    """The cells of a notebook tagged with one of `TAGS`, run in order in a namespace of their own.

    Cells that need a running server must not bear these tags. After construction `exercises` and `predictions` hold what was asked.
    """

    def __init__(self, notebook: Path, answers: dict[str, Any] | None = None):
        """`answers` replace the names that the cells tagged `exercise` define. Raises whatever the cells raise, and KeyError for an
        answer to nothing."""
        import nbformat

        self.namespace: dict[str, Any] = {"__name__": "__main__"}
        remaining = dict(answers or {})
        for cell in nbformat.read(notebook, as_version=4).cells:
            tags = set(cell.metadata.get("tags", ())) & set(TAGS)
            if cell.cell_type != "code" or not tags:
                continue
            exec(compile(cell.source, f"{notebook.name}, cell tagged {', '.join(sorted(tags))}", "exec"), self.namespace)
            if "parameters" in tags:
                self.namespace["interactive"] = False
            if "exercise" in tags:
                for name in _defined(cell.source) & remaining.keys():
                    self.namespace[name] = remaining.pop(name)
        if remaining:
            raise KeyError(f"{notebook.name} has no cell tagged `exercise` that defines {', '.join(remaining)}")

    @property
    def lesson(self) -> Lesson:
        return next(value for value in self.namespace.values() if isinstance(value, Lesson))

    @property
    def exercises(self) -> dict[str, Outcome]:
        """What became of each exercise, by name."""
        return {name: outcome for (kind, name), outcome in self.lesson.outcomes.items() if kind == "exercise"}

    def predict(self, question: str, answer: str) -> Outcome:
        """Answer the one prediction whose question contains `question`, as typed. Raises KeyError if not exactly one does."""
        found = [prediction for asked, prediction in self.lesson.predictions.items() if question in asked]
        if len(found) != 1:
            raise KeyError(f"{len(found)} predictions ask {question!r}; there are: {', '.join(self.lesson.predictions)}")
        card = found[0].submit(answer)
        if card.state == OPEN:
            return Outcome("prediction", found[0].question, OPEN, card.title)
        return self.lesson.outcomes["prediction", found[0].question]


def _defined(source: str) -> set[str]:
    """The names a cell binds at its top level."""
    names = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return names
