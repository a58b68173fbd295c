"""Chunked prefill mixed with decodes under one token budget.

Source: vllm/v1/core/sched/scheduler.py of vLLM V1; the idea is Sarathi-Serve's (arXiv 2403.02310).
"""
from __future__ import annotations

from labkit.glassbox.plan import Plan
from labkit.glassbox.scheduler import Scheduler


class ChunkedScheduler(Scheduler):
    """First come, first served. Running requests first, each as many of its uncomputed tokens as the budget allows: one for a
    decode, a chunk for a prompt; then waiting ones. Blocks are given on demand; when they run out, the last admitted pays."""

    def schedule(self, now: float) -> Plan:
        plan = Plan()
        budget = self._schedule_running(plan, self.max_num_batched_tokens)
        if not plan.preempted:
            self._schedule_waiting(plan, budget)
        return plan

    def _schedule_running(self, plan: Plan, budget: int) -> int:
        index = 0
        while index < len(self.running) and budget > 0:
            request = self.running[index]
            num_tokens = min(request.num_uncomputed_tokens, budget)
            while not self.extend(plan, request, num_tokens):
                # Victims come from the end, the plan from the front: a scheduled request is never evicted.
                victim = self.running[-1]
                self.preempt(plan, victim)
                if victim is request:
                    return budget
            budget -= num_tokens
            index += 1
        return budget

    def _schedule_waiting(self, plan: Plan, budget: int) -> None:
        while self.waiting and budget > 0 and len(self.running) < self.max_num_seqs:
            request = self.waiting[0]
            shared = self.kv.find_cached_blocks(request)
            num_tokens = request.num_tokens - len(shared) * self.options.block_size
            if num_tokens > budget and not self.options.enable_chunked_prefill:
                return
            num_tokens = min(num_tokens, budget)
            if not self.admit(plan, request, num_tokens, shared):
                return
            budget -= num_tokens
