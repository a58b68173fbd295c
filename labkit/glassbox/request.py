"""One request and everything the scheduler knows about it."""
from __future__ import annotations

import random
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

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
    arrival: float = 0.0  # seconds, perf_counter
    num_prompt_tokens: int = 0
    num_computed_tokens: int = 0
    block_table: list[int] = field(default_factory=list)
    block_hashes: list[str] = field(default_factory=list)  # one per full block of token_ids, as far as it was needed
    num_hashed_blocks: int = 0  # leading blocks of block_table that were offered to the prefix cache
    num_cached_tokens: int = 0  # prompt tokens found in the prefix cache at first admission
    num_shared_blocks: int = 0  # leading blocks found in the prefix cache at the latest admission
    num_preemptions: int = 0
    status: RequestStatus = RequestStatus.WAITING
    finish_reason: str | None = None  # "stop", "length" or "abort"
    stop_reason: int | str | None = None  # the token id or the string that stopped it; None for EOS
    first_scheduled: float | None = None  # seconds, perf_counter
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
