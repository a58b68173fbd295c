"""TGI's batching: room for the worst case before a request starts, nobody preempted, too many turned away at the door.

Source: text-generation-inference 3, backends/v3/src/backend.rs (`batching_task`), queue.rs (`next_batch`), block_allocator.rs; names and
defaults are its launcher's. Where it does not chunk, one pass of its loop is two steps here: a prefill, then a decode.
"""
from __future__ import annotations

from labkit.glassbox.options import EngineOptions, OptionsError
from labkit.glassbox.plan import Plan
from labkit.glassbox.refusal import Refusal
from labkit.glassbox.request import Request
from labkit.glassbox.scheduler import Scheduler


class TGIScheduler(Scheduler):
    """With `prefill_chunking`, decodes and prompts share a step of `max_batch_prefill_tokens`, and the last prompt is cut to fill it.

    Without it, new requests are prefilled in a step of their own while the running ones wait, and only when enough have come: a
    `waiting_served_ratio` of those running, or any number after `max_waiting_tokens` decodes; prefixes are then not shared, and
    `max_batch_size` limits those running. `max_batch_total_tokens` is by default every slot of the pool.
    """

    engine_options = ("enable_prefix_caching",)

    def __init__(
        self,
        options: EngineOptions,
        waiting_served_ratio: float = 0.3,
        max_waiting_tokens: int = 20,
        max_batch_prefill_tokens: int = 4096,
        max_batch_total_tokens: int | None = None,
        max_concurrent_requests: int = 128,
        max_batch_size: int | None = None,
        prefill_chunking: bool = True,
    ) -> None:
        super().__init__(options)
        self.shares_prefixes = prefill_chunking
        size = options.block_size
        self._max_batch_total_tokens = max_batch_total_tokens
        self.max_batch_prefill_tokens = -(-max_batch_prefill_tokens // size) * size  # as queue.rs does: up to a whole block
        self.max_concurrent_requests = max_concurrent_requests
        self.max_batch_size = max_concurrent_requests if max_batch_size is None or prefill_chunking else max_batch_size
        if min(max_batch_prefill_tokens, self.max_batch_total_tokens, max_concurrent_requests, self.max_batch_size) < 1:
            names = "max_batch_prefill_tokens, max_batch_total_tokens, max_concurrent_requests and max_batch_size"
            raise OptionsError(f"{names} must be at least 1")
        self.waiting_served_ratio, self.max_waiting_tokens = waiting_served_ratio, max_waiting_tokens
        self.prefill_chunking = prefill_chunking
        self.waiting_tokens = 0  # decodes since new requests came in
        self.decode_is_due = False  # those who waited for a prefill come next

    @property
    def max_batch_total_tokens(self) -> int:
        """Prompt and output tokens of all that run, in the worst case."""
        slots = self.options.num_gpu_blocks_override * self.options.block_size
        return slots if self._max_batch_total_tokens is None else min(self._max_batch_total_tokens, slots)

    @property
    def max_num_seqs(self) -> int:
        return self.max_batch_size

    @property
    def max_num_batched_tokens(self) -> int:
        return max(self.max_batch_prefill_tokens, self.max_batch_size)

    def refuses(self, request: Request) -> Refusal | None:
        prompt, total = request.num_tokens, self.worst_case(request)
        if total > self.max_batch_total_tokens:
            return Refusal(
                f"{prompt} prompt tokens and up to {total - prompt} new ones make {total}, and --max-batch-total-tokens is "
                f"{self.max_batch_total_tokens}: this request can never start; shorten the prompt or lower max_tokens"
            )
        if prompt > self.max_batch_prefill_tokens and not self.prefill_chunking:
            return Refusal(
                f"the prompt has {prompt} tokens, and without prefill chunking it is computed in one step of at most "
                f"--max-batch-prefill-tokens {self.max_batch_prefill_tokens}; raise it, or shorten the prompt"
            )
        if len(self.requests) >= self.max_concurrent_requests:
            return Refusal(f"Model is overloaded: --max-concurrent-requests {self.max_concurrent_requests} are in", retry_after=1)
        return None

    def schedule(self, now: float) -> Plan:
        plan = Plan()
        if self.prefill_chunking:
            self._chunk(plan, self._compute_running(plan))
        elif (self.decode_is_due and self.running) or not self._prefill(plan):
            self._compute_running(plan)
            self.waiting_tokens += 1
            self.decode_is_due = False
        return plan

    def _compute_running(self, plan: Plan) -> int:
        """A token for each decode; the prompt that was cut, always the last, goes on. Returns what is left of the prefill budget."""
        budget = self.max_batch_prefill_tokens
        for request in self.running:
            num_tokens = min(request.num_uncomputed_tokens, max(1, budget))
            if num_tokens == 1 or budget > 0:
                self.extend(plan, request, num_tokens)
                budget -= num_tokens
        return budget

    def _chunk(self, plan: Plan, budget: int) -> None:
        room = self.max_batch_total_tokens - sum(map(self.worst_case, self.running))
        while self.waiting and budget > 0:
            request = self.waiting[0]
            shared = self.kv.find_cached_blocks(request)
            num_tokens = min(request.num_tokens - len(shared) * self.options.block_size, budget)
            room -= self.worst_case(request)
            if room < 0 or not self.admit(plan, request, num_tokens, shared, self._reservation(request)):
                break
            budget -= num_tokens

    def _prefill(self, plan: Plan) -> bool:
        """A step of new requests only. False when too few have come, or none fits."""
        batch, enough = self._next_batch(), int(len(self.running) * self.waiting_served_ratio)
        if not batch or (len(batch) < enough and self.waiting_tokens < self.max_waiting_tokens):
            return False
        self.decode_is_due = bool(self.running)
        self.waiting_tokens = 1
        for request in batch:
            self.admit(plan, request, request.num_tokens, num_reserved_tokens=self._reservation(request))
        return True

    def _next_batch(self) -> list[Request]:
        """Waiting requests, in order, that fit all four limits: seats, prefill tokens, total tokens, blocks."""
        batch, blocks, budget = [], self.kv.pool.num_free, self.max_batch_prefill_tokens
        room = self.max_batch_total_tokens - sum(map(self.worst_case, self.running))
        for request in self.waiting:
            budget -= request.num_tokens
            room -= self.worst_case(request)
            blocks -= -(-self._reservation(request) // self.options.block_size)
            if min(budget, room, blocks) < 0 or len(self.running) + len(batch) == self.max_batch_size:
                break
            batch.append(request)
        return batch

    def _reservation(self, request: Request) -> int:
        """The last token that is sampled is never computed."""
        return max(request.num_tokens, self.worst_case(request) - 1)
