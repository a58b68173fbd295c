"""What a policy decided for one engine step."""
from __future__ import annotations

from dataclasses import dataclass, field

from labkit.glassbox.request import Request


@dataclass(slots=True)
class Plan:
    """Requests of one step with the tokens each computes, in batch order, and the block traffic that made it possible."""

    requests: list[Request] = field(default_factory=list)
    num_scheduled_tokens: dict[str, int] = field(default_factory=dict)  # request id -> tokens of this step, at least 1
    given: dict[str, list[int]] = field(default_factory=dict)  # request id -> new block ids
    shared: dict[str, list[int]] = field(default_factory=dict)  # request id -> block ids found in the prefix cache
    preempted: list[Request] = field(default_factory=list)

    @property
    def total_num_scheduled_tokens(self) -> int:
        return sum(self.num_scheduled_tokens.values())

    @property
    def sampling(self) -> list[Request]:
        """Requests whose last known token is in this step: each gets its next token from it."""
        return [request for request in self.requests if self.num_scheduled_tokens[request.request_id] == request.num_uncomputed_tokens]

    def add(self, request: Request, num_tokens: int, given: list[int], shared: list[int] | None = None) -> None:
        self.requests.append(request)
        self.num_scheduled_tokens[request.request_id] = num_tokens
        if given:
            self.given[request.request_id] = given
        if shared:
            self.shared[request.request_id] = shared
