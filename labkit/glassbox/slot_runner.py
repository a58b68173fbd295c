"""A runner without a model: every slot of the KV pool holds the token that was computed into it, and what comes next depends on all
tokens that a request finds in its slots. A wrong block, a missing recompute or a stale slot shows as a wrong token."""
from __future__ import annotations

from collections.abc import Sequence

from labkit.glassbox.plan import Plan
from labkit.glassbox.request import Request

PADDING = -1


class SlotRunner:
    """Takes the place of `ModelRunner` where only block ids matter. No torch."""

    def __init__(self, block_size: int, vocab_size: int = 5) -> None:
        self.block_size, self.vocab_size = block_size, vocab_size
        self.slots: dict[int, int] = {}  # slot -> token id, or PADDING

    def run(self, plan: Plan) -> dict[str, int]:
        """Compute the plan's tokens; returns the next token id of each request in `plan.sampling`."""
        for request in plan.requests + plan.held:
            start = request.num_computed_tokens
            end = start + plan.num_scheduled_tokens.get(request.request_id, 0)
            tokens = request.token_ids[start:end] + [PADDING] * plan.padding.get(request.request_id, 0)
            for position, token_id in enumerate(tokens, start):
                self.slots[self._slot(request, position)] = token_id
        return {request.request_id: self.next_token(self.read(request, request.num_tokens)) for request in plan.sampling}

    def read(self, request: Request, num_tokens: int) -> list[int | None]:
        """What stands in the first `num_tokens` slots of a request; None where nothing was ever written."""
        return [self.slots.get(self._slot(request, position)) for position in range(num_tokens)]

    def next_token(self, token_ids: Sequence[int | None]) -> int:
        return hash(tuple(-1 if token_id is None else token_id for token_id in token_ids)) % self.vocab_size

    def _slot(self, request: Request, position: int) -> int:
        return request.block_table[position // self.block_size] * self.block_size + position % self.block_size
