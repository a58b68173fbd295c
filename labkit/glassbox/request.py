"""One request and everything the scheduler knows about it."""
from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from labkit.glassbox.refusal import Refusal
from labkit.glassbox.sampling_params import SamplingParams


class RequestStatus(Enum):
    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"


@dataclass(slots=True, eq=False)
class Request:
    """Token ids, block table and progress of one request.

    `token_ids` is prompt then output. The KV of `token_ids[:num_computed_tokens]` is in the blocks of `block_table`, token i in slot
    i % block_size of block `block_table[i // block_size]`. A preempted request keeps its tokens and loses its blocks: everything,
    output included, is computed again.
    """

    request_id: str
    token_ids: list[int]
    params: SamplingParams
    arrival: float = 0.0  # seconds on the engine's clock
    priority: int = 0  # for policies that know priorities: the lower, the earlier
    num_prompt_tokens: int = 0
    num_computed_tokens: int = 0
    block_table: list[int] = field(default_factory=list)
    block_hashes: list[str] = field(default_factory=list)  # one per full block of token_ids, as far as it was needed
    num_hashed_blocks: int = 0  # leading blocks of block_table that were offered to the prefix cache
    num_cached_tokens: int = 0  # prompt tokens found in the prefix cache at first admission
    num_reserved_tokens: int = 0  # slots that were set aside at admission for the worst case; 0: blocks are given on demand
    num_shared_blocks: int = 0  # leading blocks found in the prefix cache at the latest admission
    num_preemptions: int = 0
    status: RequestStatus = RequestStatus.WAITING
    finish_reason: str | None = None  # "stop", "length", "abort" or "refused"
    refusal: Refusal | None = None
    stop_reason: int | str | None = None  # the token id or the string that stopped it; None for EOS
    first_scheduled: float | None = None  # seconds on the engine's clock
    generator: random.Random | None = None
    detokenizer: Any = None  # detokenizer.Detokenizer when text is wanted

    def __post_init__(self) -> None:
        self.num_prompt_tokens = len(self.token_ids)
        if not self.params.greedy:
            self.generator = random.Random(self.params.seed)

    @property
    def num_tokens(self) -> int:
        return len(self.token_ids)

    @property
    def num_output_tokens(self) -> int:
        return len(self.token_ids) - self.num_prompt_tokens

    @property
    def output_token_ids(self) -> list[int]:
        return self.token_ids[self.num_prompt_tokens :]

    @property
    def num_uncomputed_tokens(self) -> int:
        """Tokens whose KV is missing: the rest of the prompt, or the one token sampled last."""
        return len(self.token_ids) - self.num_computed_tokens


def check_prompt(token_ids: Sequence[int], max_model_len: int, vocab_size: int) -> None:
    """Raises `ValueError` for a prompt that cannot be served."""
    if not token_ids:
        raise ValueError("the prompt is empty: it needs at least one token")
    if len(token_ids) >= max_model_len:
        raise ValueError(
            f"the prompt has {len(token_ids)} tokens, and the context of {max_model_len} tokens must hold it and at least one output "
            f"token; shorten the prompt to {max_model_len - 1} tokens"
        )
    wrong = next((token_id for token_id in token_ids if not 0 <= token_id < vocab_size), None)
    if wrong is not None:
        raise ValueError(f"token id {wrong} is out of the vocabulary of {vocab_size} tokens")
