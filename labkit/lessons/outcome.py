"""What became of one prediction, check, exercise or expected failure."""
from __future__ import annotations

from dataclasses import dataclass

PASSED, WRONG, OPEN = "passed", "wrong", "open"
MARKS = {PASSED: "✓", WRONG: "×", OPEN: "○"}


@dataclass(slots=True, frozen=True)
class Outcome:
    """`kind`: "prediction", "check", "exercise" or "expected". `state`: "passed", "wrong", or "open" (not answered, not solved yet)."""

    kind: str
    name: str  # the question of a prediction, the claim of a check, the function of an exercise
    state: str
    message: str


class LessonError(AssertionError):
    """A claim of the lesson that did not hold. Shown in a notebook as its message, without the machinery's traceback."""

    def _render_traceback_(self) -> list[str]:
        # IPython asks an exception for this before it formats a traceback of its own.
        return [str(self)]
