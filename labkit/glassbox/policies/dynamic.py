"""Dynamic batching: whoever waits when the model is free becomes a batch, of a preferred size where possible.

Source: Triton Inference Server's docs, batcher.md ("Dynamic Batcher") and model_configuration.md; `ModelDynamicBatching` and
`ModelQueuePolicy` of model_config.proto, whose names and defaults these parameters have. PyTriton's `max_batch_size` is 4.
"""
from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, fields
from itertools import islice
from typing import Any

from labkit.glassbox.options import EngineOptions, OptionsError
from labkit.glassbox.plan import Plan
from labkit.glassbox.policies.request_level import RequestLevelScheduler
from labkit.glassbox.refusal import Refusal
from labkit.glassbox.request import Request

MICRO = 1e-6


@dataclass(slots=True)
class QueuePolicy:
    """`ModelQueuePolicy`: what one priority level's queue allows. 0 means no limit."""

    max_queue_size: int = 0  # requests
    default_timeout_microseconds: int = 0
    timeout_action: str = "REJECT"  # or "DELAY": behind everybody of its level who is in time

    def __post_init__(self) -> None:
        if self.timeout_action not in ("REJECT", "DELAY"):
            raise OptionsError(f"timeout_action must be REJECT or DELAY, got {self.timeout_action!r}")
        if self.max_queue_size < 0 or self.default_timeout_microseconds < 0:
            raise OptionsError("max_queue_size and default_timeout_microseconds must be 0 (no limit) or more")


def queue_policy(given: dict[str, Any]) -> QueuePolicy:
    names = [field.name for field in fields(QueuePolicy)]
    if unknown := [name for name in given if name not in names]:
        raise OptionsError(f"priority_queue_policy has no {unknown[0]!r}; it has {', '.join(names)}")
    return QueuePolicy(**given)


class DynamicScheduler(RequestLevelScheduler):
    """Takes waiting requests in order of priority level (1 first), then of arrival, up to `max_batch_size`.

    A batch of a preferred size starts at once, the largest that can be had; any other once its oldest request has waited for
    `max_queue_delay_microseconds`. Without preferred sizes the one preferred is `max_batch_size`. A request without a priority, or
    beyond `priority_levels`, has the default level. `priority_queue_policy` gives single levels a `QueuePolicy` of their own.
    """

    def __init__(
        self,
        options: EngineOptions,
        max_batch_size: int = 4,
        preferred_batch_size: list[int] | None = None,
        max_queue_delay_microseconds: int = 0,
        priority_levels: int = 0,
        default_priority_level: int = 0,
        max_queue_size: int = 0,
        default_timeout_microseconds: int = 0,
        timeout_action: str = "REJECT",
        priority_queue_policy: dict[int, dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(options)
        self.preferred = sorted(preferred_batch_size or [max_batch_size])
        if max_batch_size < 1 or self.preferred[0] < 1 or self.preferred[-1] > max_batch_size:
            raise OptionsError(f"preferred_batch_size must be from 1 to max_batch_size {max_batch_size}, got {preferred_batch_size}")
        if not min(1, priority_levels) <= default_priority_level <= priority_levels:
            raise OptionsError(f"default_priority_level must be from 1 to priority_levels {priority_levels}, got {default_priority_level}")
        self.max_batch_size, self.delay = max_batch_size, max_queue_delay_microseconds * MICRO
        self.priority_levels, self.default_priority_level = priority_levels, default_priority_level
        self.default_policy = QueuePolicy(max_queue_size, default_timeout_microseconds, timeout_action)
        self.level_policies = {int(level): queue_policy(given) for level, given in (priority_queue_policy or {}).items()}

    @property
    def max_num_seqs(self) -> int:
        return self.max_batch_size

    def refuses(self, request: Request) -> Refusal | None:
        limit = self._policy(request).max_queue_size
        level = self._level(request)
        if limit and sum(self._level(other) == level for other in self.waiting) >= limit:
            return Refusal(f"the queue is full: max_queue_size {limit} requests are waiting; try again later", retry_after=1)
        return None

    def expire(self, plan: Plan, now: float) -> None:
        for request in [request for request in self.waiting if now >= self._timeout(request)]:
            if self._policy(request).timeout_action == "REJECT":
                self.refuse(plan, request, Refusal("the request's time in the queue is over; try again later", retry_after=1))
        order = sorted(self.waiting, key=lambda request: (self._level(request), now >= self._timeout(request), request.arrival))
        self.waiting = deque(order)

    def next_batch(self, plan: Plan, now: float) -> list[Request]:
        pending = list(islice(self.waiting, self.max_batch_size))
        deadline = min((request.arrival for request in pending), default=math.inf) + self.delay
        preferred = max((size for size in self.preferred if size <= len(pending)), default=0)
        if preferred and (now < deadline or not self.delay):
            return pending[:preferred]
        if pending and (now >= deadline or self.draining):
            return pending
        plan.wait_until = min([deadline, *(self._timeout(request) for request in self.waiting if self._timeout(request) > now)])
        return []

    def _timeout(self, request: Request) -> float:
        timeout = self._policy(request).default_timeout_microseconds
        return request.arrival + timeout * MICRO if timeout else math.inf

    def _policy(self, request: Request) -> QueuePolicy:
        return self.level_policies.get(self._level(request), self.default_policy)

    def _level(self, request: Request) -> int:
        return request.priority if 0 < request.priority <= self.priority_levels else self.default_priority_level
