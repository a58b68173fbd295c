"""A source of random choices that adds up what each choice cost in nats."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Draw:
    """Seeded choices with their exact log-probability.

    `nats` is minus the natural logarithm of the probability of all choices made so far. As the grammar is unambiguous (different
    choices, different text), that is the information in the text, and its mean is the entropy that no model can get below.
    """

    def __init__(self, seed: int | str) -> None:
        self.random = random.Random(seed)
        self.nats = 0.0

    def index(self, n: int) -> int:
        """One of 0 .. n-1, all equally likely."""
        self.nats += math.log(n)
        return self.random.randrange(n)

    def integer(self, low: int, high: int) -> int:
        """One of low .. high, both included, all equally likely."""
        return low + self.index(high - low + 1)

    def choose(self, options: Sequence[T]) -> T:
        """One of the options, all equally likely."""
        return options[self.index(len(options))]

    def weighted(self, options: dict[T, float]) -> T:
        """One of the keys, with probability proportional to its value."""
        total = sum(options.values())
        (key,) = self.random.choices(list(options), weights=list(options.values()))
        self.nats -= math.log(options[key] / total)
        return key

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self.weighted({True: probability, False: 1 - probability})

    def several(self, options: Sequence[T], k: int) -> list[T]:
        """k different options in random order."""
        pool, picked = list(options), []
        for _ in range(k):
            picked.append(pool.pop(self.index(len(pool))))
        return picked

    def digits(self, k: int) -> str:
        """A string of k digits."""
        return "".join(str(self.index(10)) for _ in range(k))
