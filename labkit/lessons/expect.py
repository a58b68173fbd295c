"""Failures that a lesson shows on purpose: `with expect(MemoryError, match="blocks"): ...`."""
from __future__ import annotations

import re
from typing import TYPE_CHECKING, Self

from labkit.lessons.card import Card, show
from labkit.lessons.outcome import PASSED, LessonError, Outcome

if TYPE_CHECKING:
    from labkit.lessons.lesson import Lesson


class Expect:
    """`lesson.expect`: call it with the error's type and, as in pytest.raises, a regular expression that its message must contain."""

    def __init__(self, lesson: Lesson):
        self._lesson = lesson

    def __call__(self, error: type[BaseException] | tuple[type[BaseException], ...], match: str = "", why: str = "") -> Expected:
        """A context manager. The error is shown as the lesson's point, with `why`; its absence, or another error, is a `LessonError`.

        After the block, `.error` of what `as` named is the error.
        """
        return Expected(self._lesson, error, match, why)


class Expected:
    """One `with expect(...)` block."""

    def __init__(self, lesson: Lesson, kind: type[BaseException] | tuple[type[BaseException], ...], match: str, why: str):
        self.error: BaseException | None = None
        self._lesson, self._kind, self._match, self._why = lesson, kind, match, why

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> bool:
        kinds = self._kind if isinstance(self._kind, tuple) else (self._kind,)
        wanted = " or ".join(one.__name__ for one in kinds)
        if error is None:
            raise LessonError(f"The lesson expects this to fail with {wanted}, and it did not fail.")
        if not isinstance(error, kinds):
            return False  # an unexpected error is shown as what it is
        if not re.search(self._match, str(error)):
            raise LessonError(f"The lesson expects {wanted} with a message like {self._match!r}; it says: {error}") from error
        self.error = error
        name = type(error).__name__
        self._lesson.record(Outcome("expected", f"{name}: {self._match}" if self._match else name, PASSED, str(error)))
        show(Card(PASSED, f"As expected, {name}: {error}", self._why))
        return True
