"""What servers do that know requests and not tokens: a batch starts together, and its places are taken until its longest member ends."""
from __future__ import annotations

from abc import abstractmethod

from labkit.glassbox.plan import Plan
from labkit.glassbox.request import Request
from labkit.glassbox.scheduler import Scheduler


class RequestLevelScheduler(Scheduler):
    """A batch is a rectangle: prompts are padded to the longest, a request that has ended is computed on as padding, and each has a
    contiguous worst case of slots, the batch's longest prompt and its largest `max_tokens`, reserved from start to end.

    A subclass says which requests start next. Nothing is shared between requests and nobody is preempted.
    """

    shares_prefixes = False
    engine_options = ()

    @abstractmethod
    def next_batch(self, plan: Plan, now: float) -> list[Request]:
        """Waiting requests to start now, at most `max_num_seqs`; or none, with `plan.wait_until` set."""

    @property
    def max_num_batched_tokens(self) -> int:
        """No limit but the size of the largest rectangle."""
        return self.max_num_seqs * self.options.max_model_len

    def expire(self, plan: Plan, now: float) -> None:
        """Refuse whoever has waited too long; called in every step."""

    def schedule(self, now: float) -> Plan:
        plan = Plan()
        self.expire(plan, now)
        if not self.running:
            self._start(plan, self.next_batch(plan, now))
            return plan
        for request in self.running:
            self.extend(plan, request, 1)
        for request in self.held:
            plan.pad(request, 1)
        return plan

    def advance(self, plan: Plan) -> None:
        super().advance(plan)
        for request in plan.held:  # the last slot is written again and again once the context is full
            request.num_computed_tokens = min(request.num_computed_tokens + 1, request.num_reserved_tokens - 1)

    def give_back(self, request: Request) -> None:
        """The blocks of a batch are freed together, when its last member ends."""
        if self.running and request.block_table:
            self.held.append(request)
            return
        self.kv.release(request)
        if not self.running:
            self.release()

    def _start(self, plan: Plan, batch: list[Request]) -> None:
        batch = self._fitting(batch)
        longest = max((request.num_tokens for request in batch), default=0)
        slots = self._slots(batch)
        for request in batch:
            self.admit(plan, request, request.num_tokens, num_reserved_tokens=slots)
            plan.pad(request, longest - request.num_tokens)

    def _fitting(self, batch: list[Request]) -> list[Request]:
        """As many from the front as the pool has room for; one always fits, because the pool is empty."""
        while len(batch) > 1 and len(batch) * -(-self._slots(batch) // self.options.block_size) > self.kv.pool.num_free:
            batch = batch[:-1]
        return batch

    def _slots(self, batch: list[Request]) -> int:
        """Slots of each member: what the longest prompt with the longest output would take, as far as the context goes."""
        longest = max((request.num_tokens for request in batch), default=0)
        return min(longest + max((request.params.max_tokens for request in batch), default=0), self.options.max_model_len)
