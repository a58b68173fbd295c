"""One request of a load run, from its place in the schedule to the end of its answer."""
from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from labkit.clients.exchange import Failure, Reply


@dataclass(slots=True)
class Record(Reply):
    """A `Reply` and where it stood in the schedule. Times are `perf_counter_ns`, the clock all processes of this host share.

    t_sched <= t_ready <= t_send: the first gap is the load process's own slip, the second the wait for a free slot under a
    concurrency limit. In a closed loop the schedule *is* the free slot.
    """

    index: int = 0
    t_sched: int = 0
    t_ready: int = 0
    max_tokens: int = 0

    @property
    def prompt_tokens(self) -> int | None:
        return (self.usage or {}).get("prompt_tokens")

    @property
    def tokens(self) -> int:
        """Output tokens: the server's count, else the sum of the per-event counts, else the number of events (a lower bound)."""
        counted = (self.usage or {}).get("completion_tokens")
        if counted is not None:
            return counted
        return sum(self.n_tok) if self.n_tok is not None else len(self.t_event)

    @property
    def one_token_per_event(self) -> bool:
        """Whether the answer proves that each event brought exactly one token. An end token of its own has no text and no event."""
        if self.n_tok is not None:
            return all(n == 1 for n in self.n_tok)
        counted = (self.usage or {}).get("completion_tokens")
        silent = 1 if self.finish_reason == "stop" else 0
        return counted is not None and counted - silent <= len(self.t_event) <= counted

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Record:
        """The record of `to_dict`'s result. Raises TypeError for unknown fields."""
        error = values.get("error")
        return cls(**{**values, "error": Failure(**error) if error else None})


@dataclass(slots=True)
class Progress:
    """How far a running load is: what `on_progress` gets, a few times a second."""

    requests: int  # of the whole run
    sent: int = 0
    done: int = 0
    failed: int = 0  # of the done
    tokens: int = 0
    seconds: float = 0.0  # since the clock of the schedule started
    events: list[tuple[int, int]] = field(default_factory=list)  # new since the last call: (request index, perf_counter_ns)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Progress:
        known = {f.name for f in fields(cls)}
        return cls(**{key: value for key, value in values.items() if key in known})
