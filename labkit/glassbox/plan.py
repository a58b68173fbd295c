"""What a policy decided for one engine step."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from labkit.glassbox.request import Request


@dataclass(slots=True)
class Plan:
    """Requests of one step with the tokens each computes, in batch order, and the block traffic that made it possible.

    `padding` is computed for nothing, in slots of the request that later tokens overwrite: a prompt filled up to the longest of its
    batch, or a request of `held`, which has ended and whose place in the batch is taken until the batch ends.
    An empty plan says until when nothing can happen: `wait_until`, math.inf for "before something arrives".
    """

    requests: list[Request] = field(default_factory=list)
    num_scheduled_tokens: dict[str, int] = field(default_factory=dict)  # request id -> tokens of this step, at least 1
    given: dict[str, list[int]] = field(default_factory=dict)  # request id -> new block ids
    shared: dict[str, list[int]] = field(default_factory=dict)  # request id -> block ids found in the prefix cache
    preempted: list[Request] = field(default_factory=list)
    padding: dict[str, int] = field(default_factory=dict)  # request id -> tokens beside the scheduled ones, at least 1
    held: list[Request] = field(default_factory=list)  # ended requests that stand in `padding`
    refused: list[Request] = field(default_factory=list)  # taken out of the queue for good; `request.refusal` says why
    wait_until: float | None = None  # seconds on the engine's clock
    num_failed: int = 0  # moves that found no blocks

    @property
    def total_num_scheduled_tokens(self) -> int:
        return sum(self.num_scheduled_tokens.values())

    @property
    def sampling(self) -> list[Request]:
        """Requests whose last known token is in this step: each gets its next token from it."""
        return [request for request in self.requests if self.num_scheduled_tokens[request.request_id] == request.num_uncomputed_tokens]

    def pad(self, request: Request, num_tokens: int) -> None:
        """Compute `num_tokens` of padding, possibly none, behind a request's scheduled tokens or in the slots of an ended one."""
        if num_tokens:
            self.padding[request.request_id] = num_tokens
            if request.finish_reason is not None:
                self.held.append(request)

    def add(self, request: Request, num_tokens: int, given: list[int], shared: Sequence[int] = ()) -> None:
        self.requests.append(request)
        self.num_scheduled_tokens[request.request_id] = num_tokens
        if given:
            self.given[request.request_id] = given
        if shared:
            self.shared[request.request_id] = list(shared)
