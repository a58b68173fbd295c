"""The laws of a batching policy and of a paged KV cache, checked at every decision when `check_invariants` is on."""
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
        self._patience: dict[str, int] = {}  # whose turn it is -> busy steps after which they must have been scheduled

    def check_plan(self, plan: Plan, step: int, now: float = 0.0) -> None:
        """Laws of a plan that was made at `now`, before it is computed."""
        self._check_queues(step)
        if not plan.requests:
            self._check_wait(plan, step, now)
        self._check_budgets(plan, step)
        seen: set[str] = set()
        writers: dict[int, str] = {}
        for request in plan.requests:
            self._check_scheduled(request, plan, step)
            if request.request_id in seen:
                raise InvariantError("scheduled once", step, "stands in the plan twice", request.request_id)
            seen.add(request.request_id)
            self._check_slots(request, plan.num_scheduled_tokens[request.request_id], plan, writers, step)
        for request in plan.held:
            self._check_slots(request, 0, plan, writers, step)
        for request_id in plan.padding.keys() - seen - {request.request_id for request in plan.held}:
            raise InvariantError("padding is somebody's", step, "padded without being scheduled or held", request_id)
        self._check_patience(plan, step)
        self.check(step)

    def check(self, step: int) -> None:
        """Laws of the queues, the pool, the tables and the prefix cache, at any time between two decisions."""
        self._check_queues(step)
        kv = self.scheduler.kv
        pool, cache = kv.pool, kv.prefix_cache
        cached = sum(1 for block_id in pool.free_queue if cache.hash_of(block_id) is not None)
        used = sum(1 for count in pool.ref_count if count > 0)
        free = len(pool.free_queue) - cached
        if free + used + cached != pool.num_blocks:
            raise InvariantError("free + used + cached = total", step, f"{free} + {used} + {cached} != {pool.num_blocks}")
        owners = {request.request_id: request for request in [*self.scheduler.requests.values(), *self.scheduler.held]}
        occurrences: Counter[int] = Counter()
        for request in owners.values():
            occurrences.update(request.block_table)
            self._check_request(request, step)
        for block_id, count in enumerate(pool.ref_count):
            if count != occurrences[block_id]:
                whom = next((name for name, request in owners.items() if block_id in request.block_table), None)
                detail = f"block {block_id} has count {count} and stands in {occurrences[block_id]} tables"
                raise InvariantError("reference counts equal table occurrences", step, detail, whom)

    def _check_queues(self, step: int) -> None:
        places = Counter(request.request_id for request in [*self.scheduler.waiting, *self.scheduler.running])
        for rid in [*self.scheduler.requests, *places]:
            if places[rid] != 1 or rid not in self.scheduler.requests:
                detail = f"stands {places[rid]} times in waiting and running"
                raise InvariantError("a request is in one queue until it ends", step, detail, rid)

    def _check_wait(self, plan: Plan, step: int, now: float) -> None:
        scheduler = self.scheduler
        if not scheduler.has_unfinished():
            return
        if scheduler.running:
            whom = scheduler.running[0].request_id
            raise InvariantError("progress", step, f"{len(scheduler.running)} requests are running and none is scheduled", whom)
        whom = scheduler.waiting[0].request_id
        if plan.wait_until is None:
            raise InvariantError("progress", step, f"{len(scheduler.waiting)} requests wait, none is scheduled, and no wait_until", whom)
        if scheduler.draining:
            raise InvariantError("progress", step, f"{len(scheduler.waiting)} requests wait, and nothing more will arrive", whom)
        if plan.wait_until <= now:
            raise InvariantError("progress", step, f"waits until {plan.wait_until:.6f} s, and it is {now:.6f} s", whom)

    def _check_budgets(self, plan: Plan, step: int) -> None:
        seats, budget = self.scheduler.max_num_seqs, self.scheduler.max_num_batched_tokens
        total, last = 0, None
        for request in [*plan.requests, *plan.held]:
            last = request.request_id
            total += plan.num_scheduled_tokens.get(last, 0) + plan.padding.get(last, 0)
            if total > budget:
                raise InvariantError("token budget", step, f"{total} tokens with this request, the step's limit is {budget}", last)
        if len(self.scheduler.running) > seats:
            last = self.scheduler.running[seats].request_id
            raise InvariantError("sequence budget", step, f"{len(self.scheduler.running)} running, the limit is {seats}", last)

    def _check_scheduled(self, request: Request, plan: Plan, step: int) -> None:
        rid, tokens = request.request_id, plan.num_scheduled_tokens[request.request_id]
        if request.status is not RequestStatus.RUNNING:
            raise InvariantError("scheduled requests run", step, f"scheduled, yet its status is {request.status.value}", rid)
        if not 1 <= tokens <= request.num_uncomputed_tokens:
            raise InvariantError("tokens to compute", step, f"{tokens} scheduled of {request.num_uncomputed_tokens} uncomputed", rid)

    def _check_slots(self, request: Request, tokens: int, plan: Plan, writers: dict[int, str], step: int) -> None:
        rid, size = request.request_id, self.scheduler.options.block_size
        end, slots = request.num_computed_tokens + tokens, len(request.block_table) * size
        if end > slots:
            held = f"{len(request.block_table)} blocks of {size} for {end} tokens"
            raise InvariantError("no scheduled request without blocks", step, held, rid)
        padded = end + plan.padding.get(rid, 0)
        if padded > slots:
            raise InvariantError("padding in its own slots", step, f"padding up to token {padded} in {slots} slots", rid)
        if 0 < request.num_reserved_tokens < padded or (request.num_reserved_tokens and slots - size >= request.num_reserved_tokens):
            detail = f"{padded} tokens in {slots} slots, {request.num_reserved_tokens} tokens were reserved at admission"
            raise InvariantError("the reservation is the worst case", step, detail, rid)
        for block_id in request.block_table[request.num_computed_tokens // size : -(-padded // size)]:
            if writers.setdefault(block_id, rid) != rid:
                raise InvariantError("one writer per block", step, f"block {block_id} is also written by {writers[block_id]}", rid)

    def _check_patience(self, plan: Plan, step: int) -> None:
        """The head of the queue, and whoever runs, comes to be scheduled: at the latest when all that run could have ended one by one."""
        scheduler = self.scheduler
        turn = [request.request_id for request in scheduler.running]
        if scheduler.waiting:
            turn.append(scheduler.waiting[0].request_id)
        limit = (len(scheduler.running) + 1) * scheduler.options.max_model_len
        patience = {rid: self._patience.get(rid, limit) for rid in turn if rid not in plan.num_scheduled_tokens}
        for rid in patience if plan.requests else ():
            patience[rid] -= 1
            if patience[rid] < 0:
                detail = f"its turn for {limit} steps, and never scheduled"
                raise InvariantError("starvation", step, detail, rid)
        self._patience = patience

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
