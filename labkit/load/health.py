"""Whether the client itself limited a run: a slow ruler must not be read as a slow server."""
from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from labkit.load import metrics
from labkit.load.record import Record

CPU_LIMIT = 0.80  # of one core: the generator is one process with one thread
SHARE = 0.01  # of the median TTFT that the send slip may reach
TIMER_MS = 2.0  # what the operating system's timers and a busy core blur in any case: below it, neither slip nor lag is flagged


@dataclass(slots=True, frozen=True)
class Health:
    """Milliseconds and a share of one core. `reasons` says what limited the run; empty when nothing did.

    Send slip: how late the generator was ready to send. Lag: how late its event loop woke, the error any stamp may carry:
    beyond the median gap, gaps say more of the client than of the server.
    """

    send_slip_p99_ms: float
    lag_p99_ms: float
    cpu: float
    slip_limit_ms: float
    lag_limit_ms: float
    reasons: tuple[str, ...]

    @property
    def client_limited(self) -> bool:
        return bool(self.reasons)

    @classmethod
    def of(cls, records: list[Record], lags: list[int], cpu: float) -> Health:
        slip = _p99([(record.t_ready - record.t_sched) / 1e6 for record in records])
        lag = _p99([ns / 1e6 for ns in lags])
        slip_limit = max([TIMER_MS, *(SHARE * median(found) for found in [metrics.values(records, "ttft")] if found)])
        lag_limit = max([TIMER_MS, *(median(found) for found in [metrics.values(records, "gap")] if found)])
        reasons = []
        if slip > slip_limit:
            reasons.append(f"send slip p99 {slip:.2g} ms is above {slip_limit:.2g} ms")
        if lag > lag_limit:
            reasons.append(f"loop lag p99 {lag:.2g} ms is above the median gap")
        if cpu > CPU_LIMIT:
            reasons.append(f"the generator used {100 * cpu:.0f} % of its core")
        return cls(slip, lag, cpu, slip_limit, lag_limit, tuple(reasons))


def _p99(samples: list[float]) -> float:
    """The sample that 99 % do not exceed: a health check, so the worst one while n is small."""
    ordered = sorted(samples)
    return ordered[max(0, -(-99 * len(ordered) // 100) - 1)] if ordered else 0.0
