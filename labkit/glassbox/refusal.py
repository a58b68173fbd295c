"""Saying no: why a request is not served, and whether asking again can help."""
from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Refusal:
    """`retry_after` in seconds says when asking again may help (HTTP 429); None: this request can never be served (HTTP 400)."""

    message: str
    retry_after: int | None = None

    def error(self) -> Overloaded | Unservable:
        """The exception that says the same."""
        return Overloaded(self) if self.retry_after is not None else Unservable(self)


class Overloaded(RuntimeError):
    """A request refused because of what else is being served; the same request may be served later."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


class Unservable(ValueError):
    """A request that can never be served with these settings. The message has the arithmetic."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal
