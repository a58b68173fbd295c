from math import comb

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.clients.exchange import Failure
from labkit.load import metrics
from labkit.load.record import Record

MS = 1_000_000


def record(events=(30, 40, 60), sched=5, send=10, tokens=3, **more) -> Record:
    return Record(t_sched=sched * MS, t_ready=sched * MS, t_send=send * MS, t_headers=send * MS, t_event=[t * MS for t in events],
                  pieces=["x"] * len(events), t_end=(events[-1] if events else 70) * MS, finish_reason="length",
                  usage={"prompt_tokens": 4, "completion_tokens": tokens}, **more)


def test_each_latency_is_its_written_definition():
    r = record()
    assert (metrics.ttft(r), metrics.ttft_scheduled(r), metrics.tpot(r), metrics.e2e(r)) == (20, 25, 15, 50)
    assert metrics.gaps(r) == [10, 20]


def test_time_per_token_leaves_out_all_tokens_of_the_first_event():
    assert metrics.tpot(record(tokens=7, n_tok=[3, 2, 2])) == 30 / 4


def test_time_per_token_of_a_single_token_is_undefined():
    assert metrics.tpot(record(events=(30,), tokens=1)) is None


def test_gaps_are_called_itl_only_where_one_token_per_event_is_proven():
    one, two = record(), record(tokens=6)
    assert metrics.gap_name([one]) == "ITL" and metrics.gap_name([one, two]) == "ICL"
    uncounted = record()
    uncounted.usage = None
    assert metrics.gap_name([uncounted]) == "ICL"
    ended = record(tokens=4)
    ended.finish_reason = "stop"  # the end token is counted but has no text
    assert metrics.gap_name([ended]) == "ITL"
    assert metrics.gap_name([record(n_tok=[1, 2, 1], tokens=3)]) == "ICL"


def test_failed_requests_have_no_latency_and_are_not_good():
    failed = record(error=Failure("timeout", "slow"))
    assert metrics.values([failed, record()], "ttft") == [20]
    assert not metrics.is_good(failed, {}) and metrics.is_good(record(), {"ttft": 20, "tpot": 15})
    assert not metrics.is_good(record(), {"ttft": 20, "tpot": 14.9})


def test_goodput_is_good_requests_over_the_window():
    records = [record(), record(events=(30, 505)), record(error=Failure("timeout", "slow"))]
    assert metrics.goodput(records, {"e2e": 100}) == pytest.approx(1 / 0.5)


def test_an_unknown_objective_is_named():
    with pytest.raises(ValueError, match="tbt"):
        metrics.is_good(record(), {"tbt": 3})


@given(st.lists(st.floats(-1e6, 1e6), min_size=5, max_size=200), st.sampled_from([50, 90, 95, 99]))
def test_percentiles_are_numpys_where_n_supports_them(samples, p):
    found = metrics.percentile(samples, p)
    if found.value is not None:
        assert found.value == numpy.percentile(samples, p)
        assert found.low in samples and found.high in samples


@pytest.mark.parametrize(("p", "least"), [(50, 5), (95, 59), (99, 299)])
def test_a_percentile_is_refused_until_n_supports_an_upper_bound(p, least):
    assert metrics.percentile(range(least - 1), p).value is None
    assert str(metrics.percentile(range(least - 1), p)) == "n too small"
    assert metrics.percentile(range(least), p).value is not None
    assert metrics.percentile([], p).value is None


@pytest.mark.parametrize(("n", "p"), [(5, 50), (40, 50), (59, 95), (100, 95), (300, 99), (400, 95)])
def test_bounds_are_the_tightest_order_statistics_with_95_percent_coverage_by_exact_sums(n, p):
    def at_most(k):  # P(X <= k), X ~ Binomial(n, p / 100), in whole numbers
        return sum(comb(n, i) * p**i * (100 - p) ** (n - i) for i in range(k + 1)) / 100**n

    upper = min(k for k in range(1, n + 1) if at_most(k - 1) >= 0.95)
    lower = max(k for k in range(1, n + 1) if 1 - at_most(k - 1) >= 0.95)
    found = metrics.percentile(range(1, n + 1), p)
    assert (found.low, found.high) == (lower, upper)


def test_bounds_hold_as_often_as_they_promise():
    random = numpy.random.default_rng(1)
    runs = 2000
    hits = sum(metrics.percentile(random.exponential(size=100), 95).high >= -numpy.log(0.05) for _ in range(runs)) / runs
    assert hits >= 0.95 - 4 * (0.95 * 0.05 / runs) ** 0.5
