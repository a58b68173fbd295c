"""Static batching: wait for a batch, run it until its longest member ends.

Source: what a loop around `generate` does; the delay and its name are TorchServe's (docs, "Batch Inference with TorchServe").
"""
from __future__ import annotations

import math
from itertools import islice

from labkit.glassbox.options import EngineOptions, OptionsError
from labkit.glassbox.plan import Plan
from labkit.glassbox.policies.request_level import RequestLevelScheduler
from labkit.glassbox.request import Request


class StaticScheduler(RequestLevelScheduler):
    """Waits for `batch_size` requests, but no longer than `max_batch_delay` milliseconds for those that have come. TorchServe's default
    of 100 ms is made for models that answer in one step; here it is long, so that batches are as full as the name promises."""

    def __init__(self, options: EngineOptions, batch_size: int = 4, max_batch_delay: int = 5000) -> None:
        super().__init__(options)
        if batch_size < 1 or max_batch_delay < 0:
            raise OptionsError(f"--batch-size must be 1 or more and --max-batch-delay 0 or more, got {batch_size} and {max_batch_delay}")
        self.batch_size, self.max_batch_delay = batch_size, max_batch_delay

    @property
    def max_num_seqs(self) -> int:
        return self.batch_size

    def next_batch(self, plan: Plan, now: float) -> list[Request]:
        deadline = self.waiting[0].arrival + self.max_batch_delay / 1000 if self.waiting else math.inf
        if len(self.waiting) < self.batch_size and now < deadline and not self.draining:
            plan.wait_until = deadline
            return []
        return list(islice(self.waiting, self.batch_size))
