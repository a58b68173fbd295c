"""The laws of a paged KV cache, checked after every decision when `check_invariants` is on."""
from __future__ import annotations

from collections import Counter

from labkit.glassbox.plan import Plan
from labkit.glassbox.request import Request, RequestStatus
from labkit.glassbox.scheduler import Scheduler


class InvariantError(AssertionError):
    """A broken law: `law` is its name, `step` the engine step, `request_id` whom it concerns, if one request."""

    def __init__(self, law: str, step: int, detail: str, request_id: str | None = None) -> None:
        whom = f", request {request_id}" if request_id is not None else ""
        super().__init__(f"step {step}{whom}: {law}: {detail}")
        self.law, self.step, self.request_id = law, step, request_id


class Checker:
    """Reads a scheduler and raises `InvariantError`; changes nothing. Cost: O(blocks) a call."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler

    def check_plan(self, plan: Plan, step: int) -> None:
        """Laws of a plan, before it is computed."""
        scheduler, size = self.scheduler, self.scheduler.options.block_size
        if scheduler.has_unfinished() and not plan.requests and (plan.wait_until is None or scheduler.draining):
            raise InvariantError("progress", step, f"{len(scheduler.requests)} requests unfinished and none scheduled")
        total = plan.total_num_scheduled_tokens + sum(plan.padding.values())
        if total > scheduler.max_num_batched_tokens:
            raise InvariantError("token budget", step, f"{total} tokens, max_num_batched_tokens is {scheduler.max_num_batched_tokens}")
        if len(scheduler.running) > scheduler.max_num_seqs:
            raise InvariantError("sequence budget", step, f"{len(scheduler.running)} running, max_num_seqs is {scheduler.max_num_seqs}")
        writers: dict[int, str] = {}
        for request in plan.requests:
            rid, tokens = request.request_id, plan.num_scheduled_tokens[request.request_id]
            if request.status is not RequestStatus.RUNNING:
                raise InvariantError("scheduled requests run", step, f"scheduled, yet its status is {request.status.value}", rid)
            if not 1 <= tokens <= request.num_uncomputed_tokens:
                raise InvariantError("tokens to compute", step, f"{tokens} scheduled of {request.num_uncomputed_tokens} uncomputed", rid)
            end = request.num_computed_tokens + tokens
            if len(request.block_table) * size < end:
                held = f"{len(request.block_table)} blocks of {size} for {end} tokens"
                raise InvariantError("no scheduled request without blocks", step, held, rid)
            for block_id in request.block_table[request.num_computed_tokens // size : -(-end // size)]:
                if writers.setdefault(block_id, rid) != rid:
                    raise InvariantError("one writer per block", step, f"block {block_id} is also written by {writers[block_id]}", rid)
        self.check(step)

    def check(self, step: int) -> None:
        """Laws of the pool, the tables and the prefix cache, at any time between two decisions."""
        kv = self.scheduler.kv
        pool, cache = kv.pool, kv.prefix_cache
        cached = sum(1 for block_id in pool.free_queue if cache.hash_of(block_id) is not None)
        used = sum(1 for count in pool.ref_count if count > 0)
        free = len(pool.free_queue) - cached
        if free + used + cached != pool.num_blocks:
            raise InvariantError("free + used + cached = total", step, f"{free} + {used} + {cached} != {pool.num_blocks}")
        occurrences: Counter[int] = Counter()
        for request in self.scheduler.held:
            occurrences.update(request.block_table)
        for request in self.scheduler.requests.values():
            occurrences.update(request.block_table)
            self._check_request(request, step)
        for block_id, count in enumerate(pool.ref_count):
            if count != occurrences[block_id]:
                owners = [rid for rid, request in self.scheduler.requests.items() if block_id in request.block_table]
                detail = f"block {block_id} has count {count} and stands in {occurrences[block_id]} tables"
                raise InvariantError("reference counts equal table occurrences", step, detail, owners[0] if owners else None)

    def _check_request(self, request: Request, step: int) -> None:
        rid, size = request.request_id, self.scheduler.options.block_size
        if request.status is RequestStatus.WAITING and request.block_table:
            raise InvariantError("waiting requests hold nothing", step, f"holds blocks {request.block_table}", rid)
        if request.num_computed_tokens > len(request.block_table) * size:
            held = f"{request.num_computed_tokens} tokens in {len(request.block_table)} blocks of {size}"
            raise InvariantError("computed tokens have slots", step, held, rid)
        for block_id, block_hash in zip(request.block_table, request.block_hashes, strict=False):
            known = self.scheduler.kv.prefix_cache.hash_of(block_id)
            if known is not None and known != block_hash:
                detail = f"block {block_id} is cached as {known}, expected {block_hash}"
                raise InvariantError("a shared block holds the prefix", step, detail, rid)
