"""Cells that assert and teach: right answers pass, typical mistakes get a diagnosis that names the mistake."""
from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from labkit.lessons.card import Card, show
from labkit.lessons.outcome import OPEN, PASSED, WRONG, LessonError, Outcome

if TYPE_CHECKING:
    from labkit.lessons.lesson import Lesson

Case = tuple[tuple, Any]  # (arguments, expected result)
Law = tuple[str, Callable[[Any], bool]]  # (what must hold, whether it holds for the solution)
Diagnosis = tuple[Callable[[Any], bool], str]  # (whether the mistake is there, what it is and where to look)


class Check:
    """`lesson.check`: `.that` for what the lesson itself claims, `.exercise` and `.answer` for what the learner wrote."""

    def __init__(self, lesson: Lesson):
        self._lesson = lesson

    def that(self, claim: str, holds: Any, otherwise: str = "") -> None:
        """Show that `claim` holds. If not, raise `LessonError` with `otherwise`: what the failure means and where to look."""
        state = PASSED if holds else WRONG
        self._lesson.record(Outcome("check", claim, state, "" if holds else otherwise))
        if not holds:
            raise LessonError(f"× {claim}: this does not hold.\n{otherwise}".rstrip())
        show(Card(PASSED, claim))

    def exercise(self, name: str, solution: Any, cases: Sequence[Case] = (), *, laws: Sequence[Law] = (),
                 diagnoses: Sequence[Diagnosis] = (), explain: str = "", tolerance: float = 1e-6) -> None:
        """Try the learner's `solution` (a function or a class) and say what became of it; never raises for a wrong one.

        `cases` are (arguments, expected) pairs, `laws` are (words, test of the solution) pairs. The first of `diagnoses` whose test is
        true of a wrong solution is shown with the first case that failed. A solution that is `...`, or gives None or raises
        NotImplementedError throughout, is still open. `tolerance` is relative, for floats; `explain` is shown when all is right.
        """
        if _is_stub(solution, cases):
            state, text = OPEN, "Still to do: it gives nothing yet. The notebook goes on without it."
        elif (failure := _first_failure(name, solution, cases, laws, tolerance)) is None:
            state, text = PASSED, explain
        else:
            state, text = WRONG, "\n".join(line for line in (failure, _diagnose(solution, diagnoses)) if line)
        self._finish(name, state, text)

    def answer(self, name: str, given: Any, expected: Any, *, hints: Mapping[Any, str] | None = None, explain: str = "",
               tolerance: float = 1e-6) -> None:
        """Compare a value that the learner filled in. `hints` maps typical wrong values to a diagnosis; `...` and None are still open."""
        if given is None or given is ...:
            state, text = OPEN, "Still to do. The notebook goes on without it."
        elif same(given, expected, tolerance):
            state, text = PASSED, explain
        else:
            hint = next((text for value, text in (hints or {}).items() if same(given, value, tolerance)), "")
            state, text = WRONG, f"{given!r} is not it. {hint}".rstrip()
        self._finish(name, state, text)

    def _finish(self, name: str, state: str, text: str) -> None:
        words = {PASSED: "right", WRONG: "not yet", OPEN: "open"}
        self._lesson.record(Outcome("exercise", name, state, text))
        show(Card(state, f"Exercise `{name}`: {words[state]}", text))


def same(given: Any, expected: Any, tolerance: float) -> bool:
    """Equality, with a relative tolerance for floats, through lists, tuples, dicts and arrays; a list equals a tuple of the same items."""
    if isinstance(expected, float) and isinstance(given, int | float):
        return math.isclose(given, expected, rel_tol=tolerance, abs_tol=1e-12)
    if isinstance(expected, Mapping):
        alike = isinstance(given, Mapping) and given.keys() == expected.keys()
        return alike and all(same(given[key], expected[key], tolerance) for key in expected)
    if isinstance(expected, list | tuple):
        alike = isinstance(given, list | tuple) and len(given) == len(expected)
        return alike and all(same(a, b, tolerance) for a, b in zip(given, expected, strict=True))
    if hasattr(expected, "shape"):
        return getattr(given, "shape", None) == expected.shape and bool((abs(given - expected) <= tolerance * (1 + abs(expected))).all())
    equal = given == expected
    return bool(equal.all() if hasattr(equal, "all") else equal)


def _is_stub(solution: Any, cases: Sequence[Case]) -> bool:
    if solution is None or solution is ...:
        return True

    def gives_nothing(arguments: tuple) -> bool:
        try:
            given = solution(*copy.deepcopy(arguments))
            return given is None or given is ...
        except NotImplementedError:
            return True
        except Exception:
            return False

    return bool(cases) and all(gives_nothing(arguments) for arguments, _ in cases)


def _first_failure(name: str, solution: Any, cases: Sequence[Case], laws: Sequence[Law], tolerance: float) -> str | None:
    for arguments, expected in cases:
        call = f"{name}({', '.join(map(repr, arguments))})"
        try:
            given = solution(*copy.deepcopy(arguments))
            if given is None and expected is not None:
                return f"`{call}` gave nothing, expected {expected!r}: does every way through it return something?"
            if not same(given, expected, tolerance):
                return f"`{call}` gave {given!r}, expected {expected!r}."
        except Exception as error:
            return f"`{call}` raised {type(error).__name__}: {error}{_where(error)}"
    for words, holds in laws:
        try:
            if not holds(solution):
                return f"It breaks a law: {words}."
        except NotImplementedError:
            return f"Not all of it is written yet: {words}."
        except Exception as error:
            return f"While trying \"{words}\" it raised {type(error).__name__}: {error}{_where(error)}"
    return None


def _where(error: BaseException) -> str:
    """The line of the learner's own code that raised, not of the check."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return "" if traceback is None or traceback.tb_frame.f_code.co_filename == __file__ else f" (line {traceback.tb_lineno} of its cell)"


def _diagnose(solution: Any, diagnoses: Sequence[Diagnosis]) -> str:
    for present, text in diagnoses:
        try:
            if present(solution):
                return text
        except Exception:  # a test that cannot be made of this solution says nothing about it
            continue
    return ""
