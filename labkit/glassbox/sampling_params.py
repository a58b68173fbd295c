"""How one request wants its tokens chosen, and when it ends. Names and meanings are vLLM's."""
from __future__ import annotations

import sys
from dataclasses import dataclass, field

LARGEST = sys.float_info.max
COLDEST = 0.01  # temperature, as in vLLM: below it logits over temperature leave the range of numbers


@dataclass(slots=True)
class SamplingParams:
    """Raises `ValueError`, naming the parameter, the value and the range, when a value makes no sense.

    `temperature` 0 is greedy, one below 0.01 is taken as 0.01; `top_k` 0 or -1 keeps the whole vocabulary; `repetition_penalty` counts
    prompt and output tokens; `seed` makes a request repeatable whatever else is in its batch; stop conditions are ignored before
    `min_tokens`.
    """

    max_tokens: int = 16
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0
    seed: int | None = None
    stop: list[str] = field(default_factory=list)
    stop_token_ids: list[int] = field(default_factory=list)
    ignore_eos: bool = False
    min_tokens: int = 0
    include_stop_str_in_output: bool = False
    skip_special_tokens: bool = True
    detokenize: bool = True

    def __post_init__(self) -> None:
        if isinstance(self.stop, str):
            self.stop = [self.stop]
        self.stop = list(self.stop or [])
        self.stop_token_ids = list(self.stop_token_ids or [])
        self._require(self.max_tokens >= 1, "max_tokens", "at least 1")
        self._require(0.0 <= self.temperature <= LARGEST, "temperature", "0 (greedy) or more, and finite")
        if not self.greedy:
            self.temperature = max(self.temperature, COLDEST)
        self._require(0.0 < self.top_p <= 1.0, "top_p", "in (0, 1]")
        self._require(self.top_k >= -1, "top_k", "0 or -1 (off), or 1 and more")
        self._require(0.0 < self.repetition_penalty <= LARGEST, "repetition_penalty", "greater than 0, and finite")
        self._require(self.seed is None or isinstance(self.seed, int), "seed", "an integer")
        self._require(0 <= self.min_tokens <= self.max_tokens, "min_tokens", f"from 0 to max_tokens={self.max_tokens}")
        self._require(all(isinstance(text, str) and text for text in self.stop), "stop", "strings that are not empty")
        self._require(self.detokenize or not self.stop, "stop", "empty when detokenize is off: stop strings are found in text")

    def check_vocabulary(self, vocab_size: int) -> None:
        """Raises `ValueError` for a stop token that is none of the model's."""
        self._require(all(0 <= token_id < vocab_size for token_id in self.stop_token_ids), "stop_token_ids", f"from 0 to {vocab_size - 1}")

    def _require(self, condition: bool, name: str, expected: str) -> None:
        if not condition:
            raise ValueError(f"{name} must be {expected}, got {getattr(self, name)!r}")

    @property
    def greedy(self) -> bool:
        return self.temperature == 0.0
