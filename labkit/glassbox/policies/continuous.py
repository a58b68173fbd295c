"""Continuous batching: the batch is made anew in every iteration, so a request ends, and another begins, at any step.

Source: Orca (Yu et al., OSDI 2022), algorithm 1: requests in order of arrival, at most a batch size of them, each admitted only when
slots for all tokens it may ever have are free; selective batching lets whole prompts and decodes stand in one iteration.
"""
from __future__ import annotations

from labkit.glassbox.plan import Plan
from labkit.glassbox.refusal import Refusal
from labkit.glassbox.request import Request
from labkit.glassbox.scheduler import Scheduler


class ContinuousScheduler(Scheduler):
    """Prefill first and whole: a prompt is computed in the iteration that admits it, and the decodes beside it wait for its end.

    Orca reserves the worst case and so never preempts; it shares no prefixes. It knows no token budget either: here a prompt waits until
    it fits into `max_num_batched_tokens` beside the decodes.
    """

    shares_prefixes = False
    engine_options = ("max_num_seqs", "max_num_batched_tokens")

    def refuses(self, request: Request) -> Refusal | None:
        if request.num_tokens <= self.max_num_batched_tokens:
            return None
        return Refusal(
            f"the prompt has {request.num_tokens} tokens, and this policy computes a prompt in one step of at most "
            f"--max-num-batched-tokens {self.max_num_batched_tokens}; raise it, or shorten the prompt"
        )

    def schedule(self, now: float) -> Plan:
        plan = Plan()
        for request in self.running:
            self.extend(plan, request, 1)
        budget = self.max_num_batched_tokens - len(self.running)
        while self.waiting and len(self.running) < self.max_num_seqs:
            request = self.waiting[0]
            num_tokens = request.num_tokens
            if num_tokens > budget or not self.admit(plan, request, num_tokens, num_reserved_tokens=self.worst_case(request)):
                break
            budget -= num_tokens
        return plan
