from labkit.load.health import Health
from labkit.load.record import Record

MS = 1_000_000


def records(slip_ms=0.0, ttft_ms=100, gap_ms=10, n=200):
    """Requests of which the last 5 % were ready late by `slip_ms`."""
    made = []
    for index in range(n):
        late = int(slip_ms * MS) if index >= 0.95 * n else 0
        send = index * 1000 * MS + late
        events = [send + (ttft_ms + gap_ms * k) * MS for k in range(5)]
        made.append(Record(t_sched=send - late, t_ready=send, t_send=send, t_event=events, t_end=events[-1]))
    return made


def test_a_client_on_time_is_healthy():
    health = Health.of(records(slip_ms=0.5), [MS] * 1000, cpu=0.3)
    assert not health.client_limited and health.send_slip_p99_ms == 0.5 and health.lag_p99_ms == 1


def test_slip_is_held_against_one_percent_of_the_median_ttft_and_the_timers():
    assert Health.of(records(slip_ms=3), [], 0.1).reasons[0].startswith("send slip p99 3 ms")
    assert not Health.of(records(slip_ms=3, ttft_ms=400), [], 0.1).client_limited


def test_lag_beyond_the_median_gap_is_flagged():
    assert not Health.of(records(gap_ms=10), [9 * MS] * 100, 0.1).client_limited
    assert "loop lag" in Health.of(records(gap_ms=10), [11 * MS] * 100, 0.1).reasons[0]


def test_a_busy_core_is_flagged():
    assert "95 %" in Health.of(records(), [], 0.95).reasons[0]


def test_a_run_without_any_answer_has_a_health_too():
    assert not Health.of([], [], 0.0).client_limited
