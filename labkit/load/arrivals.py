"""When requests arrive: schedules that are computed before the run, seeded, and never rescaled.

Every schedule starts its clock, waits the first gap, and then goes on gap by gap; a run of n requests at rate r so takes n / r seconds
only on average, as a random process does.
"""
from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Any


@dataclass(slots=True, frozen=True)
class Arrivals:
    """`times`: seconds after the start, ascending, one per request; None in a closed loop, where the next request leaves when one ends.

    `concurrency` is the most requests in flight (None: no limit). In an open loop a limit delays requests, and that wait is reported.
    """

    name: str
    times: list[float] | None
    concurrency: int | None = None
    parameters: dict[str, Any] = field(default_factory=dict)


def constant(rate: float, n: int, concurrency: int | None = None) -> Arrivals:
    """One request every 1 / `rate` seconds."""
    gap = 1 / _positive("rate", rate)
    return Arrivals("constant", [gap * (k + 1) for k in range(_count(n))], concurrency, {"rate": rate})


def poisson(rate: float, n: int, seed: int = 0, concurrency: int | None = None) -> Arrivals:
    """Independent exponential gaps of mean 1 / `rate` seconds: arrivals of many users who know nothing of each other."""
    random, mean = _random(seed), _positive("rate", rate)
    return Arrivals("poisson", _sum(random.expovariate(mean) for _ in range(_count(n))), concurrency, {"rate": rate})


def gamma(rate: float, n: int, burstiness: float = 1.0, seed: int = 0, concurrency: int | None = None) -> Arrivals:
    """Gamma gaps of mean 1 / `rate` seconds and coefficient of variation 1 / sqrt(`burstiness`).

    `burstiness` is the shape, as in `vllm bench serve`: 1 is Poisson, below 1 is more bursty, infinity is constant.
    """
    _positive("burstiness", burstiness)
    parameters = {"rate": rate, "burstiness": burstiness}
    if math.isinf(burstiness):
        return Arrivals("gamma", constant(rate, n).times, concurrency, parameters)
    random, scale = _random(seed), 1 / (_positive("rate", rate) * burstiness)
    return Arrivals("gamma", _sum(random.gammavariate(burstiness, scale) for _ in range(_count(n))), concurrency, parameters)


def burst(n: int, concurrency: int | None = None) -> Arrivals:
    """All at once, at time 0."""
    return Arrivals("burst", [0.0] * _count(n), concurrency)


def closed(concurrency: int) -> Arrivals:
    """`concurrency` users, each of whom sends the next request when the last answer is there. Says nothing about waiting: see `poisson`."""
    if concurrency < 1:
        raise ValueError(f"concurrency is {concurrency}, it must be at least 1")
    return Arrivals("closed", None, concurrency)


def trace(times: Iterable[float], concurrency: int | None = None) -> Arrivals:
    """Recorded arrivals, in seconds after the start."""
    times = [float(t) for t in times]
    if any(t < 0 or not math.isfinite(t) for t in times) or times != sorted(times):
        raise ValueError("a trace holds ascending times in seconds, none of them negative")
    return Arrivals("trace", times, concurrency)


def _random(seed: int) -> Random:
    # Its own stream: the same seed must not tie arrival gaps to prompt lengths.
    return Random(f"arrivals/{seed}")


def _sum(gaps: Iterable[float]) -> list[float]:
    times, now = [], 0.0
    for gap in gaps:
        now += gap
        times.append(now)
    return times


def _positive(name: str, value: float) -> float:
    if not value > 0:
        raise ValueError(f"{name} is {value}, it must be above 0")
    return value


def _count(n: int) -> int:
    if n < 1:
        raise ValueError(f"{n} requests: ask for at least 1")
    return n
