"""A runner without a model: every slot of the KV pool holds the token that was computed into it, and what comes next depends on all
tokens that a request finds in its slots. A wrong block, a missing recompute or a stale slot shows as a wrong token."""
from __future__ import annotations

from collections.abc import Sequence

from labkit.glassbox.plan import Plan
from labkit.glassbox.request import Request

PADDING = -1


class SlotRunner:
    """Takes the place of `ModelRunner` where only block ids matter. No torch."""

    vocab_size = 1 << 16

    def __init__(self, block_size: int, num_answers: int = 5) -> None:
        self.block_size, self.num_answers = block_size, num_answers  # few answers: then outputs, too, have prefixes in common
        self.slots: dict[int, int] = {}  # slot -> token id, or PADDING
        self.num_padding_tokens = 0  # computed so far

    def run(self, plan: Plan) -> dict[str, int]:
        """Compute the plan's tokens; returns the next token id of each request in `plan.sampling`."""
        self.num_padding_tokens += sum(plan.padding.values())
        for request in plan.requests + plan.held:
            start = request.num_computed_tokens
            end = start + plan.num_scheduled_tokens.get(request.request_id, 0)
            tokens = request.token_ids[start:end] + [PADDING] * plan.padding.get(request.request_id, 0)
            for position, token_id in enumerate(tokens, start):
                self.slots[self._slot(request, position)] = token_id
        return {request.request_id: self.next_token(self._read(request, plan)) for request in plan.sampling}

    def next_token(self, token_ids: Sequence[int]) -> int:
        return hash(tuple(token_ids)) % self.num_answers

    def _read(self, request: Request, plan: Plan) -> list[int]:
        """What a request's last scheduled token sees: its slots from the first to its own."""
        end = request.num_computed_tokens + plan.num_scheduled_tokens[request.request_id]
        return [self.slots.get(self._slot(request, position), PADDING) for position in range(end)]

    def _slot(self, request: Request, position: int) -> int:
        return request.block_table[position // self.block_size] * self.block_size + position % self.block_size
