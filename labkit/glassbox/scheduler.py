"""The queues and the moves every batching policy is made of. No torch, no KV bytes, no clock."""
from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque

from labkit.glassbox.kv_manager import KVCacheManager
from labkit.glassbox.options import EngineOptions
from labkit.glassbox.plan import Plan
from labkit.glassbox.prefix_cache import NoPrefixCache, PrefixCache
from labkit.glassbox.request import Request, RequestStatus


class Scheduler(ABC):
    """Base of all policies: a policy is a subclass with a `schedule` of its own (see `policies/`).

    The contract of `schedule() -> Plan`:
    - every request in the plan is in `running` and has blocks for its computed and its scheduled tokens;
    - each computes at least one token, all together at most `max_num_batched_tokens`, in at most `max_num_seqs` requests;
    - a request once in the plan keeps its blocks for the rest of the step;
    - while `has_unfinished()`, the plan is not empty.
    `invariants.Checker` holds a policy to this.
    """

    def __init__(self, options: EngineOptions) -> None:
        self.options = options
        prefix_cache = PrefixCache() if options.enable_prefix_caching else NoPrefixCache()
        self.kv = KVCacheManager(options.num_gpu_blocks_override, options.block_size, prefix_cache)
        self.waiting: deque[Request] = deque()
        self.running: list[Request] = []  # in order of admission
        self.requests: dict[str, Request] = {}
        self.num_preemptions = 0

    @abstractmethod
    def schedule(self) -> Plan:
        """Decide one step. Changes queues and block tables accordingly; the caller then computes the plan and calls `advance`."""

    def add(self, request: Request) -> None:
        self.requests[request.request_id] = request
        self.waiting.append(request)

    def has_unfinished(self) -> bool:
        return bool(self.requests)

    def advance(self, plan: Plan) -> None:
        """Account for a plan whose KV is now in the cache."""
        for request in plan.requests:
            request.num_computed_tokens += plan.num_scheduled_tokens[request.request_id]

    def finish(self, request: Request, reason: str, stop_reason: int | str | None = None) -> None:
        """End a request, in whatever queue it is, and give its blocks back."""
        (self.running if request.status is RequestStatus.RUNNING else self.waiting).remove(request)
        del self.requests[request.request_id]
        self.kv.release(request)
        request.status, request.finish_reason, request.stop_reason = RequestStatus.FINISHED, reason, stop_reason

    # The moves of a policy.

    def extend(self, plan: Plan, request: Request, num_tokens: int) -> bool:
        """Schedule `num_tokens` of a running request. False, with nothing changed, when the pool has no blocks for them."""
        given = self.kv.allocate(request, num_tokens)
        if given is None:
            return False
        plan.add(request, num_tokens, given)
        return True

    def admit(self, plan: Plan, request: Request, num_tokens: int, shared: list[int]) -> bool:
        """Move the head of `waiting` to `running` with its `shared` blocks and schedule `num_tokens` beyond them. False: no blocks."""
        given = self.kv.allocate(request, num_tokens, shared)
        if given is None:
            return False
        self.waiting.remove(request)
        self.running.append(request)
        request.status = RequestStatus.RUNNING
        request.num_shared_blocks = len(shared)
        num_cached = len(shared) * self.options.block_size
        if self.kv.prefix_cache.enabled:
            self.kv.queries += request.num_tokens
            self.kv.hits += num_cached
        if request.num_preemptions == 0:
            request.num_cached_tokens = num_cached
        plan.add(request, num_tokens, given, shared)
        return True

    def preempt(self, plan: Plan, request: Request) -> None:
        """Take all blocks from a running request that is not in the plan and put it at the head of `waiting`, to be recomputed."""
        self.running.remove(request)
        self.kv.release(request)
        request.status = RequestStatus.WAITING
        request.num_preemptions += 1
        self.num_preemptions += 1
        self.waiting.appendleft(request)
        plan.preempted.append(request)
