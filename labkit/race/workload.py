"""What a race is run on: requests with their arrivals, prompts, lengths and priorities, the same for every policy."""
from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from random import Random
from typing import Any

from labkit.load import arrivals as schedules
from labkit.load.arrivals import Arrivals
from labkit.load.prompts import Lengths, Prompts


class WorkloadError(ValueError):
    """A workload that can never be served, with the arithmetic."""


@dataclass(slots=True, frozen=True)
class Item:
    """One request. `max_tokens` is exactly how many it gets: in a race nobody stops earlier."""

    arrival: float  # seconds after the start
    prompt: tuple[int, ...]  # token ids
    max_tokens: int
    priority: int = 0


@dataclass(slots=True, frozen=True)
class Workload:
    """`items` in order of arrival. `about` says in words how it was made, `parameters` with what."""

    items: tuple[Item, ...]
    about: str = ""
    parameters: dict[str, Any] = field(default_factory=dict, compare=False)

    @classmethod
    def make(
        cls,
        requests: int = 10,
        rate: float | None = None,
        *,
        arrivals: Arrivals | Sequence[float] | None = None,
        prompt_tokens: Lengths = (32, 256),
        output_tokens: Lengths = (8, 64),
        prefix_overlap: float = 0.0,
        priorities: Sequence[int] = (0,),
        seed: int = 0,
        vocab: int = 2048,
    ) -> Workload:
        """Random prompts with Poisson arrivals at `rate` per second; without a rate all at once.

        `arrivals` takes another schedule instead: one of `labkit.load.arrivals`, or seconds. Lengths are a number, a (low, high) range or a
        function of a `random.Random`. `prefix_overlap` is the share of each prompt, 0 to 1, that all begin with; `priorities` are dealt out
        at random. The same seed gives the same requests, and a longer workload begins with the shorter.
        """
        if requests < 1:
            raise ValueError(f"{requests} requests: a race needs at least 1")
        schedule = _schedule(requests, rate, arrivals, seed)
        prompts = Prompts(length=prompt_tokens, max_tokens=output_tokens, shared_prefix=prefix_overlap, kind="ids", vocab=vocab)
        dealt = Random(f"priorities/{seed}")
        items = [Item(t, tuple(request.prompt), request.max_tokens, dealt.choice(list(priorities)))
                 for t, request in zip(schedule.times, prompts.draw(requests, seed), strict=True)]
        parameters = {
            "requests": requests, "arrivals": schedule.name, **schedule.parameters, "prompt_tokens": _plain(prompt_tokens), "seed": seed,
            "output_tokens": _plain(output_tokens), "prefix_overlap": prefix_overlap, "priorities": list(priorities),
        }
        return cls(tuple(items), describe(items, schedule, seed), parameters)

    def __len__(self) -> int:
        return len(self.items)

    def __str__(self) -> str:
        return self.about or f"{len(self.items)} requests"

    @property
    def longest(self) -> int:
        """Tokens of the longest request, prompt and output."""
        return max(len(item.prompt) + item.max_tokens for item in self.items)

    @property
    def hash(self) -> str:
        """What is asked and when, in 16 hexadecimal digits."""
        return hashlib.sha256(json.dumps([asdict(item) for item in self.items]).encode()).hexdigest()[:16]

    def check(self, num_blocks: int, block_size: int, context: int) -> None:
        """Raises `WorkloadError` for a request that no policy could ever serve in a pool of this size, or in the model's context."""
        for number, item in enumerate(self.items, 1):
            prompt, total = len(item.prompt), len(item.prompt) + item.max_tokens
            lengths = f"request {number} has {prompt} prompt tokens and asks for {item.max_tokens} more: {total} tokens"
            if not item.prompt or item.max_tokens < 1:
                raise WorkloadError(f"{lengths}; it needs at least one of each")
            if total > context:
                raise WorkloadError(f"{lengths}, and the model's context holds {context}; shorten the prompt or the output")
            needed = -(-total // block_size)
            if needed > num_blocks:
                raise WorkloadError(
                    f"{lengths}, which are {needed} blocks of {block_size}, and the pool has {num_blocks}: it can never run to its end; "
                    f"raise num_blocks to {needed} or more, or shorten it to {num_blocks * block_size} tokens"
                )


def describe(items: Sequence[Item], schedule: Arrivals, seed: int) -> str:
    """The workload in one line."""
    def span(values: list[int]) -> str:
        return f"{min(values)}" if min(values) == max(values) else f"{min(values)}–{max(values)}"

    rate = schedule.parameters.get("rate")
    how = "all at once" if not any(item.arrival for item in items) else f"{schedule.name} {rate:g}/s" if rate else schedule.name
    prompts, outputs = span([len(item.prompt) for item in items]), span([item.max_tokens for item in items])
    return f"{len(items)} requests, {how}, prompts of {prompts} and outputs of {outputs} tokens, seed {seed}"


def _schedule(requests: int, rate: float | None, given: Arrivals | Sequence[float] | None, seed: int) -> Arrivals:
    if given is None:
        return schedules.burst(requests) if rate is None else schedules.poisson(rate, requests, seed)
    if rate is not None:
        raise ValueError("give either arrivals or a rate: the schedule has its own")
    schedule = given if isinstance(given, Arrivals) else schedules.trace(given)
    if schedule.times is None:
        raise ValueError("a closed loop has no arrivals of its own, and a race needs some: take poisson, constant, gamma, burst or trace")
    if len(schedule.times) != requests:
        raise ValueError(f"the schedule has {len(schedule.times)} arrivals for {requests} requests: say requests={len(schedule.times)}")
    return schedule


def _plain(lengths: Lengths) -> Any:
    return lengths if isinstance(lengths, int) else repr(lengths) if callable(lengths) else list(lengths)
