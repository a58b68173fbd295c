"""What the numbers mean. One definition each, in milliseconds, from stamps of one clock.

    TTFT              first event - t_send
    TTFT, scheduled   first event - t_sched: also counts what the client made a request wait (free of coordinated omission)
    TPOT              (last event - first event) / (N - tokens of the first event); undefined for N = 1
    gap               between neighbouring events, pooled over all requests; ITL only where one token per event is proven, else ICL
    E2E               last event - t_send
    goodput           requests that met every objective / window; a failed request is not good
"""
from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

from labkit.load.record import Record
from labkit.load.words import measured

CONFIDENCE = 0.95


def ttft(record: Record) -> float | None:
    return (record.t_event[0] - record.t_send) / 1e6 if record.t_event else None


def ttft_scheduled(record: Record) -> float | None:
    return (record.t_event[0] - record.t_sched) / 1e6 if record.t_event else None


def tpot(record: Record) -> float | None:
    first = record.n_tok[0] if record.n_tok else 1
    if not record.t_event or record.tokens <= first:
        return None
    return (record.t_event[-1] - record.t_event[0]) / 1e6 / (record.tokens - first)


def e2e(record: Record) -> float | None:
    return (record.t_event[-1] - record.t_send) / 1e6 if record.t_event else None


def gaps(record: Record) -> list[float]:
    return [(after - before) / 1e6 for before, after in pairwise(record.t_event)]


def gap_name(records: Iterable[Record]) -> str:
    """"ITL" (inter-token latency) if every answer proves one token per event, else "ICL" (inter-chunk latency)."""
    return "ITL" if all(record.one_token_per_event for record in records if record.ok) else "ICL"


LATENCIES = {"ttft": ttft, "ttft_scheduled": ttft_scheduled, "tpot": tpot, "e2e": e2e}


def values(records: Iterable[Record], metric: str) -> list[float]:
    """`metric` ("gap" or a key of `LATENCIES`) of every request that ended well, where it is defined."""
    good = [record for record in records if record.ok]
    if metric == "gap":
        return [gap for record in good for gap in gaps(record)]
    return [value for record in good if (value := LATENCIES[metric](record)) is not None]


@dataclass(slots=True, frozen=True)
class Percentile:
    """A percentile with its order-statistic interval: each bound holds with 95 % confidence by itself, whatever the distribution.

    `value`, `low` and `high` are None where n is too small for both bounds to exist (p50: n < 5, p95: n < 59, p99: n < 299).
    The bounds suppose independent samples. Gaps pooled from the same requests are not: use their value only.
    """

    p: float
    n: int
    value: float | None
    low: float | None
    high: float | None

    def __str__(self) -> str:
        return "n too small" if self.value is None else measured(self.value)

    @property
    def bounds(self) -> str:
        return "" if self.value is None else f"{measured(self.low)} to {measured(self.high)}"


def percentile(samples: Iterable[float], p: float) -> Percentile:
    """The `p`-th percentile, 0 < p < 100, by linear interpolation (numpy's default), or "n too small"."""
    import numpy  # here, so that the definitions can be imported without it

    ordered = numpy.sort(numpy.fromiter(samples, dtype=float))
    n, q = len(ordered), p / 100
    # The smallest k with P(at most k - 1 samples lie below the true percentile) >= 95 %: the k-th smallest sample is then above it.
    below = _binomial_cdf(n, q)
    upper = next((k for k in range(1, n + 1) if below[k - 1] >= CONFIDENCE), None)
    # The largest k with P(at least k samples lie below it) >= 95 %: the k-th smallest sample is then not above it.
    lower = next((k for k in range(n, 0, -1) if 1 - below[k - 1] >= CONFIDENCE), None)
    if upper is None or lower is None:
        return Percentile(p, n, None, None, None)
    return Percentile(p, n, float(numpy.percentile(ordered, p)), float(ordered[lower - 1]), float(ordered[upper - 1]))


def _binomial_cdf(n: int, q: float) -> list[float]:
    """P(X <= k) for k = 0..n - 1, X ~ Binomial(n, q)."""
    total, sums = 0.0, []
    for k in range(n):
        log = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) + k * math.log(q) + (n - k) * math.log1p(-q)
        total += math.exp(log)
        sums.append(total)
    return sums


def window(records: Iterable[Record]) -> float:
    """Seconds from the first scheduled arrival to the last end; 0 without records."""
    records = [record for record in records if record.t_end]
    return (max(r.t_end for r in records) - min(r.t_sched for r in records)) / 1e9 if records else 0.0


def is_good(record: Record, objectives: Mapping[str, float]) -> bool:
    """Whether a request ended well and met every objective: {"ttft": ms, "tpot": ms, "e2e": ms, "ttft_scheduled": ms}, each an upper limit.

    An objective that is undefined for a request (TPOT of one token) is met. Raises ValueError for an unknown name.
    """
    if unknown := set(objectives) - set(LATENCIES):
        raise ValueError(f"no objective is called {', '.join(sorted(unknown))}: there are {', '.join(LATENCIES)}, each in milliseconds")
    limits = ((LATENCIES[name](record), limit) for name, limit in objectives.items())
    return record.ok and all(value is None or value <= limit for value, limit in limits)


def goodput(records: Iterable[Record], objectives: Mapping[str, float]) -> float:
    """Good requests per second of the window."""
    records = list(records)
    seconds = window(records)
    return sum(is_good(record, objectives) for record in records) / seconds if seconds else 0.0
