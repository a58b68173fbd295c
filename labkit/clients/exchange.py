"""What a client sends and what it saw: the records every protocol shares."""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

CAUSES = ("refused", "unreachable", "timeout", "http", "stream", "disconnected", "protocol", "cancelled")


@dataclass(slots=True)
class Request:
    """One generation to ask for. `prompt` is a text, a list of token ids, or a list of chat messages ({"role", "content"})."""

    prompt: str | list[int] | list[dict[str, str]]
    max_tokens: int = 32
    temperature: float = 0.0
    extra: dict[str, Any] = field(default_factory=dict)  # fields of the request body by the server's own names; None leaves one out

    @property
    def is_chat(self) -> bool:
        return isinstance(self.prompt, list) and bool(self.prompt) and isinstance(self.prompt[0], dict)


@dataclass(slots=True)
class Failure:
    """Why a request failed. `cause` is one of `CAUSES`; `message` names what happened and, where one is known, the remedy."""

    cause: str
    message: str
    status: int | None = None  # HTTP status, when the server answered with one

    def __str__(self) -> str:
        return f"{self.cause}: {self.message}"


@dataclass(slots=True)
class Reply:
    """What the client saw of one answer, filled in place while it streams. Times are `perf_counter_ns`; 0 means "not reached".

    An *event* is a piece of the stream with content (text, reasoning or token ids); role-only, empty and usage-only pieces are none.
    `t_event`, `pieces` and, where the server says how many tokens each event brought, `n_tok` have one entry per event.
    """

    t_send: int = 0  # just before the request is written to a warm connection
    t_headers: int = 0  # the answer's status and headers are here
    t_event: list[int] = field(default_factory=list)  # the bytes that completed each event have arrived
    pieces: list[str] = field(default_factory=list)
    n_tok: list[int] | None = None
    t_end: int = 0  # the answer is over, well or badly
    finish_reason: str | None = None
    usage: dict[str, Any] | None = None  # the server's own count: prompt_tokens, completion_tokens
    error: Failure | None = None

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def ok(self) -> bool:
        return self.error is None and self.t_end > 0
