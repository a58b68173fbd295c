"""Predict, then run: the learner commits to an answer first, and gets a diagnosis of it."""
from __future__ import annotations

import operator
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from labkit.lessons.card import Card, show
from labkit.lessons.outcome import OPEN, PASSED, WRONG, Outcome

if TYPE_CHECKING:
    from labkit.lessons.lesson import Lesson

Hints = Mapping[Any, str]  # a wrong value, a (low, high) range of them, or a test of the value -> diagnosis


class Predict:
    """`lesson.predict`: `.number` and `.choice` put a question; a widget in a browser, a plain line elsewhere."""

    def __init__(self, lesson: Lesson):
        self._lesson = lesson

    def number(self, question: str, answer: float | None = None, *, unit: str = "", hints: Hints | None = None, explain: str = "",
               within: float = 0.0) -> Prediction:
        """Ask for a number. Right is within the share `within` of `answer` (0.25: a quarter off at most).

        `hints` maps typical wrong answers to a diagnosis: a number, a (low, high) range or a test of the number. Leave `answer` out where
        only the run can tell, and call `.reveal(measured)` on the prediction then. `explain` is shown with a right answer and on reveal.
        """
        def matches(given: float, right: float) -> bool:
            return abs(given - right) <= max(within * abs(right), 1e-9)

        return Prediction(self._lesson, question, answer, hints or {}, explain, parse_number, matches, unit)

    def choice(self, question: str, options: Sequence[str], answer: str | None = None, *, hints: Hints | None = None,
               explain: str = "") -> Prediction:
        """Ask for one of `options`; `hints` maps wrong options to a diagnosis."""
        if answer is not None and answer not in options:
            raise ValueError(f"the answer {answer!r} is none of the options {list(options)}")
        return Prediction(self._lesson, question, answer, hints or {}, explain, str, operator.eq, "", list(options))


class Prediction:
    """One question and what was predicted. `value` is None until the learner answers.

    Widget callbacks may run in a thread beside the notebook's cells: state changes under a lock, and a callback only sets widget values.
    """

    def __init__(self, lesson: Lesson, question: str, answer: Any, hints: Hints, explain: str, parse: Callable[[str], Any],
                 matches: Callable[[Any, Any], bool], unit: str, options: list[str] | None = None):
        self.question, self.answer, self.hints, self.explain, self.unit, self.options = question, answer, hints, explain, unit, options
        self.value: Any = None
        self._lesson, self._parse, self._matches = lesson, parse, matches
        self._lock = threading.Lock()
        lesson.record(Outcome("prediction", question, OPEN, ""))
        lesson.asked(self)
        if lesson.interactive:
            from labkit.lessons.widgets import ask

            show(ask(self))
        else:
            show(Card(OPEN, f"Predict: {question}", self._choices() + "Not answered: run this notebook in a browser to predict first."))

    def submit(self, text: str) -> Card:
        """Take the learner's answer as typed and say what there is to say about it now."""
        try:
            value = self._parse(text)
        except ValueError as error:
            return Card(OPEN, str(error))
        with self._lock:
            self.value = value
            answer = self.answer
        if answer is None:
            self._lesson.record(Outcome("prediction", self.question, OPEN, f"predicted {self._said(value)}"))
            return Card(OPEN, f"Noted: {self._said(value)}", "Run on, and see.")
        return self._grade(value, answer, revealed=False)

    def reveal(self, measured: Any) -> None:
        """Show what the run gave, next to what was predicted."""
        with self._lock:
            value, self.answer = self.value, measured
        if value is None:
            show(Card(OPEN, f"{self._said(measured)}. {self.question}", "You did not predict it. " + self.explain))
        else:
            show(self._grade(value, measured, revealed=True))

    def _grade(self, value: Any, answer: Any, revealed: bool) -> Card:
        right = self._matches(value, answer)
        hint = "" if right else self._hint(value, answer)
        # Until the run has shown it, a wrong prediction gets its diagnosis, not the answer.
        text = " ".join(part for part in (hint, self.explain if right or revealed else "") if part)
        title = f"You predicted {self._said(value)}" + (f", it is {self._said(answer)}" if revealed else "") + (": right" if right else "")
        state = PASSED if right else WRONG
        self._lesson.record(Outcome("prediction", self.question, state, text))
        return Card(state, title, text)

    def _hint(self, value: Any, answer: Any) -> str:
        for wrong, text in self.hints.items():
            if callable(wrong):
                found = wrong(value)
            elif isinstance(wrong, tuple):
                found = wrong[0] <= value <= wrong[1]
            else:
                found = value == wrong
            if found:
                return text
        return "" if self.options else "Too low." if value < answer else "Too high."

    def _said(self, value: Any) -> str:
        if self.options:
            return str(value)
        number = f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}".replace(",", "\u202f")
        return f"{number} {self.unit}".rstrip()

    def _choices(self) -> str:
        return "".join(f"– {option}\n" for option in self.options or ())

    def _ipython_display_(self) -> None:
        """Nothing: the question was shown when it was put, also where it is the last expression of its cell."""


def parse_number(text: str) -> float:
    """The number of what people type: "1 024", "1,024", "12.5 ms", "60 %". Raises ValueError with words for the learner."""
    compact = re.sub(r"(?<=\d)[\s\u202f\u00a0_,'](?=\d{3}(\D|$))", "", text.strip())
    found = re.fullmatch(r"([-+]?\d*\.?\d+(?:[eE][-+]?\d+)?)\s*[^\d]*", compact)
    if not found:
        raise ValueError(f"“{text.strip()}” is not a number: type digits, like 7 or 12.5" if text.strip() else "Type a number first")
    return float(found[1])
