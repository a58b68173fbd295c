import math

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.load import arrivals

SEEDS = st.integers(0, 2**32)


@given(seed=SEEDS, rate=st.floats(0.1, 100), burstiness=st.floats(0.2, 10), n=st.integers(2, 200))
@settings(max_examples=50)
def test_a_seed_gives_one_schedule_and_a_longer_run_only_adds_to_it(seed, rate, burstiness, n):
    times = arrivals.gamma(rate, n, burstiness, seed).times
    assert times == arrivals.gamma(rate, n, burstiness, seed).times
    assert times == sorted(times) and times[0] >= 0
    # Rescaling to a horizon would move every earlier arrival.
    assert arrivals.gamma(rate, n + 50, burstiness, seed).times[:n] == times
    assert times != arrivals.gamma(rate, n, burstiness, seed + 1).times


@pytest.mark.parametrize("burstiness", [0.25, 1.0, 4.0])
def test_gaps_have_the_mean_and_the_coefficient_of_variation_of_their_gamma_law(burstiness):
    rate, n = 5.0, 40_000
    gaps = numpy.diff([0, *arrivals.gamma(rate, n, burstiness, seed=3).times])
    cv = 1 / math.sqrt(burstiness)
    assert abs(gaps.mean() * rate - 1) < 5 * cv / math.sqrt(n)
    # Delta method, standard error of the CV of a gamma sample: sqrt((1 + 1 / shape) / (2 n)).
    assert abs(gaps.std() / gaps.mean() / cv - 1) < 6 * math.sqrt((1 + 1 / burstiness) / (2 * n))


def test_poisson_gaps_are_exponential_by_a_kolmogorov_smirnov_bound():
    n = 20_000
    gaps = numpy.sort(numpy.diff([0, *arrivals.poisson(8.0, n, seed=1).times]))
    law = 1 - numpy.exp(-8.0 * gaps)
    distance = max(numpy.abs(law - numpy.arange(1, n + 1) / n).max(), numpy.abs(law - numpy.arange(n) / n).max())
    assert distance < 1.95 / math.sqrt(n)  # 0.1 % level


def test_the_last_poisson_arrival_spreads_as_a_sum_of_gaps_does():
    # The n-th arrival of a Poisson process has standard deviation sqrt(n) / rate; a rescaled schedule has none.
    last = [arrivals.poisson(4.0, 100, seed).times[-1] for seed in range(400)]
    assert abs(numpy.mean(last) - 25) < 5 * 2.5 / math.sqrt(400)
    assert 2.5 * 0.8 < numpy.std(last) < 2.5 * 1.2


def test_constant_arrivals_are_constant_and_infinite_burstiness_is_the_same():
    times = arrivals.constant(4.0, 5).times
    assert times == [0.25, 0.5, 0.75, 1.0, 1.25]
    assert arrivals.gamma(4.0, 5, math.inf).times == times


def test_burst_closed_and_trace_say_what_they_are():
    assert arrivals.burst(3).times == [0, 0, 0]
    assert arrivals.closed(4).times is None and arrivals.closed(4).concurrency == 4
    assert arrivals.trace([0, 0.5, 0.5]).times == [0, 0.5, 0.5]


@pytest.mark.parametrize("call", [
    lambda: arrivals.poisson(0, 5), lambda: arrivals.constant(-1, 5), lambda: arrivals.gamma(1, 5, burstiness=0),
    lambda: arrivals.closed(0), lambda: arrivals.burst(0), lambda: arrivals.trace([1, 0.5]),
    lambda: arrivals.trace([-1]), lambda: arrivals.poisson(math.nan, 5),
])
def test_a_schedule_that_makes_no_sense_is_refused(call):
    with pytest.raises(ValueError, match="."):
        call()
