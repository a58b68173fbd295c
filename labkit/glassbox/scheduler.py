"""The queues and the moves every batching policy is made of. No torch, no KV bytes, no clock of its own."""
from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property

from labkit.glassbox.kv_manager import KVCacheManager
from labkit.glassbox.options import SCHEDULING_OPTIONS, EngineOptions
from labkit.glassbox.plan import Plan
from labkit.glassbox.prefix_cache import NoPrefixCache, PrefixCache
from labkit.glassbox.refusal import Refusal
from labkit.glassbox.request import Request, RequestStatus


class Scheduler(ABC):
    """Base of all policies: a policy is a subclass with a `schedule` of its own (see `policies/`).

    The contract of `schedule(now) -> Plan`:
    - every request in the plan is in `running` and has blocks for its computed, its scheduled and its padding tokens;
    - each computes at least one token, all together, padding included, at most `max_num_batched_tokens`, in at most `max_num_seqs`
      requests;
    - a request once in the plan keeps its blocks for the rest of the step;
    - while `has_unfinished()`, the plan is not empty, or says until when it waits; when `draining`, it is not empty.
    `invariants.Checker` holds a policy to this.

    Parameters of a policy are the keyword arguments of its `__init__(self, options, ...)`; their names are its command line options.
    """

    shares_prefixes = True  # whether the policy looks for cached blocks at all
    readmits = False  # whether it preempts: then a request that lost its blocks is computed again, however long it has become
    engine_options = SCHEDULING_OPTIONS  # those of the engine's options that it obeys; they may be given beside its own parameters

    def __init__(self, options: EngineOptions) -> None:
        self.options = options
        self.waiting: deque[Request] = deque()  # whose turn is next comes first
        self.running: list[Request] = []  # in order of admission
        self.held: list[Request] = []  # ended, and still in their blocks
        self.requests: dict[str, Request] = {}  # waiting and running
        self.num_preemptions = 0
        self.draining = False  # set by who drives: nothing more will arrive, so do not wait for it
        self._released: list[str] = []

    @cached_property
    def kv(self) -> KVCacheManager:
        """Made when it is first used: a policy's parameters can be checked without a pool."""
        prefix_cache = PrefixCache() if self.options.enable_prefix_caching and self.shares_prefixes else NoPrefixCache()
        return KVCacheManager(self.options.num_gpu_blocks_override, self.options.block_size, prefix_cache)

    @abstractmethod
    def schedule(self, now: float) -> Plan:
        """Decide one step; `now` is in seconds on the engine's clock. Changes queues and block tables accordingly; the caller then
        computes the plan and calls `advance`."""

    @property
    def max_num_seqs(self) -> int:
        """Requests that may run at once."""
        return self.options.max_num_seqs

    @property
    def max_num_batched_tokens(self) -> int:
        """Tokens that a step may compute, padding included."""
        return self.options.max_num_batched_tokens

    def refuses(self, request: Request) -> Refusal | None:
        """Whether, and why, a request is turned away at the door instead of being queued."""
        return None

    def add(self, request: Request) -> None:
        self.requests[request.request_id] = request
        self.enqueue(request, first=False)

    def enqueue(self, request: Request, first: bool) -> None:
        """Put a request into `waiting`: at the end, or, if it was preempted, first."""
        if first:
            self.waiting.appendleft(request)
        else:
            self.waiting.append(request)

    def has_unfinished(self) -> bool:
        return bool(self.requests)

    def advance(self, plan: Plan) -> None:
        """Account for a plan whose KV is now in the cache."""
        for request in plan.requests:
            request.num_computed_tokens += plan.num_scheduled_tokens[request.request_id]

    def finish(self, request: Request, reason: str, stop_reason: int | str | None = None) -> None:
        """End a request, in whatever queue it is, and give its blocks back as the policy does."""
        with suppress(ValueError):  # a policy of one's own may have lost it
            (self.running if request.status is RequestStatus.RUNNING else self.waiting).remove(request)
        del self.requests[request.request_id]
        request.status, request.finish_reason, request.stop_reason = RequestStatus.FINISHED, reason, stop_reason
        self.give_back(request)

    def give_back(self, request: Request) -> None:
        """Free the blocks of a request that has ended. A policy may put it into `held` instead and `release` it later."""
        self.kv.release(request)

    def release(self) -> None:
        """Free the blocks of all `held` requests."""
        for request in self.held:
            self.kv.release(request)
            self._released.append(request.request_id)
        self.held.clear()

    def resize(self, num_blocks: int) -> None:
        """Make the pool `num_blocks` large and forget every cached prefix. Raises `ValueError` where a block that would go is held."""
        self.kv.resize(num_blocks)
        self.options.num_gpu_blocks_override = num_blocks

    def take_released(self) -> list[str]:
        """Requests released since this was last asked."""
        released, self._released = self._released, []
        return released

    def worst_case(self, request: Request) -> int:
        """Tokens a request can have at most: prompt and `max_tokens` of output, as far as the context goes."""
        return min(request.num_prompt_tokens + request.params.max_tokens, self.options.max_model_len)

    # The moves of a policy.

    def extend(self, plan: Plan, request: Request, num_tokens: int) -> bool:
        """Schedule `num_tokens` of a running request. False, with nothing changed, when the pool has no blocks for them."""
        given = self.kv.allocate(request, num_tokens)
        if given is None:
            return self._failed(plan)
        plan.add(request, num_tokens, given)
        return True

    def admit(self, plan: Plan, request: Request, num_tokens: int, shared: Sequence[int] = (), num_reserved_tokens: int = 0) -> bool:
        """Move a request from `waiting` to `running` with its `shared` blocks and schedule `num_tokens` beyond them, in a table of at
        least `num_reserved_tokens` slots. False, with nothing changed: no blocks."""
        given = self.kv.allocate(request, num_tokens, shared, num_reserved_tokens)
        if given is None:
            return self._failed(plan)
        self.waiting.remove(request)
        self.running.append(request)
        request.num_reserved_tokens = num_reserved_tokens
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

    def _failed(self, plan: Plan) -> bool:
        """False. Raises `RuntimeError` where a policy does not heed it and tries again for ever."""
        plan.num_failed += 1
        if plan.num_failed > 100 + 10 * len(self.requests):
            raise RuntimeError(f"{plan.num_failed} times in one step extend and admit found no blocks and returned False: a policy has to "
                               "look at that, and go on without this request")
        return False

    def preempt(self, plan: Plan, request: Request) -> None:
        """Take all blocks from a running request that is not in the plan and put it at the head of `waiting`, to be recomputed."""
        self.running.remove(request)
        self.kv.release(request)
        request.status = RequestStatus.WAITING
        request.num_preemptions += 1
        self.num_preemptions += 1
        self.enqueue(request, first=True)
        plan.preempted.append(request)

    def refuse(self, plan: Plan, request: Request, refusal: Refusal) -> None:
        """Take a waiting request out of the queue for good."""
        request.refusal = refusal
        self.finish(request, "refused")
        plan.refused.append(request)
