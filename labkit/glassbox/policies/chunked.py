"""Chunked prefill mixed with decodes under one token budget.

Source: vllm/v1/core/sched/scheduler.py of vLLM V1; the idea is Sarathi-Serve's (arXiv 2403.02310).
"""
from __future__ import annotations

from bisect import insort

from labkit.glassbox.options import EngineOptions, OptionsError
from labkit.glassbox.plan import Plan
from labkit.glassbox.request import Request
from labkit.glassbox.scheduler import Scheduler


class ChunkedScheduler(Scheduler):
    """Running requests first, each as many of its uncomputed tokens as the budget allows: one for a decode, a chunk for a prompt; then
    waiting ones. Blocks are given on demand; when they run out, the last of `running` pays and is computed again later.

    `scheduling_policy` "fcfs": first come, first served. "priority": the lower a request's `priority` the earlier, then by arrival;
    both queues are kept in that order, so that the last to be served is the first to pay. `long_prefill_token_threshold`, where it is
    not 0, is the most a prompt gets in one step, unless there is nobody else. `scheduler_reserve_full_isl`: a request is admitted when
    the pool has room for all its tokens so far, not only for its first chunk; the room is not kept for it.
    """

    readmits = True

    def __init__(
        self,
        options: EngineOptions,
        scheduling_policy: str = "fcfs",
        long_prefill_token_threshold: int = 0,
        scheduler_reserve_full_isl: bool = True,
    ) -> None:
        super().__init__(options)
        if scheduling_policy not in ("fcfs", "priority"):
            raise OptionsError(f"--scheduling-policy must be fcfs or priority, got {scheduling_policy!r}")
        if long_prefill_token_threshold < 0:
            raise OptionsError(f"--long-prefill-token-threshold must be 0 (off) or more, got {long_prefill_token_threshold}")
        if long_prefill_token_threshold and not options.enable_chunked_prefill:
            raise OptionsError("--long-prefill-token-threshold cuts prompts into chunks: it needs --enable-chunked-prefill")
        self.by_priority = scheduling_policy == "priority"
        self.long_prefill_token_threshold = long_prefill_token_threshold
        self.scheduler_reserve_full_isl = scheduler_reserve_full_isl

    def schedule(self, now: float) -> Plan:
        plan = Plan()
        budget = self._schedule_running(plan, self.max_num_batched_tokens)
        if not plan.preempted:
            self._schedule_waiting(plan, budget)
        return plan

    def enqueue(self, request: Request, first: bool) -> None:
        if self.by_priority:
            insort(self.waiting, request, key=urgency)
        else:
            super().enqueue(request, first)

    def _schedule_running(self, plan: Plan, budget: int) -> int:
        if self.by_priority:
            self.running.sort(key=urgency)
        for request in self.running:  # may lose its end while this goes on
            if not budget:
                break
            num_tokens = self._chunk(request.num_uncomputed_tokens, budget)
            while not self.extend(plan, request, num_tokens):
                # Victims come from the end, the plan from the front: a scheduled request is never evicted.
                victim = self.running[-1]
                self.preempt(plan, victim)
                if victim is request:
                    return budget
            budget -= num_tokens
        return budget

    def _schedule_waiting(self, plan: Plan, budget: int) -> None:
        while self.waiting and budget > 0 and len(self.running) < self.max_num_seqs:
            request = self.waiting[0]
            shared = self.kv.find_cached_blocks(request)
            uncomputed = request.num_tokens - len(shared) * self.options.block_size
            num_tokens = self._chunk(uncomputed, budget)
            if num_tokens < uncomputed and not self.options.enable_chunked_prefill:
                return
            if self.scheduler_reserve_full_isl and not self.kv.has_room(request, shared):
                return
            if not self.admit(plan, request, num_tokens, shared):
                return
            budget -= num_tokens

    def _chunk(self, uncomputed: int, budget: int) -> int:
        if 0 < self.long_prefill_token_threshold < uncomputed and len(self.requests) > 1:
            uncomputed = self.long_prefill_token_threshold
        return uncomputed if uncomputed < budget else budget


def urgency(request: Request) -> tuple[int, float]:
    return request.priority, request.arrival
