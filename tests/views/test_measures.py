from __future__ import annotations

import statistics
from itertools import pairwise

import pytest

from labkit.bench.traces import record
from labkit.trace import Run
from labkit.views.lanes import Lanes
from labkit.views.measures import SHARES, SLOTS, measure, median
from tests.views.races import WORKLOAD, chunked, race


def fold(run: Run) -> Lanes:
    lanes = Lanes(run.header)
    for event in run.events:
        lanes.append(event)
    return lanes


def test_the_static_batch_comes_to_what_a_calculator_says():
    """Three batches of the workload: prompts padded to 420, 520 and 300 tokens, answers of 64, 58 and 36; see races.cost for a step."""
    m = measure(fold(race()["static"]))
    prompts = [0.007 + 0.055e-3 * n for n in (4 * 420, 4 * 520, 2 * 300)]
    decodes = [0.007 + 0.28e-3 * n for n in (4, 4, 2)]
    begins = [0.120]
    for prompt, decode, steps in zip(prompts, decodes, (63, 57, 35), strict=True):
        begins.append(begins[-1] + prompt + steps * decode)
    firsts = [begins[i] + prompts[i] for i in (0, 0, 0, 0, 1, 1, 1, 1, 2, 2)]
    assert m.makespan == pytest.approx(begins[-1])
    assert m.ttft == pytest.approx([first - at / 1e3 for first, (at, _, _) in zip(firsts, WORKLOAD, strict=True)])
    assert sorted(m.tpot) == pytest.approx(sorted(decodes[i] for i in (0, 0, 0, 0, 1, 1, 1, 1, 2, 2)))
    assert m.throughput == pytest.approx(sum(output for _, _, output in WORKLOAD) / begins[-1])
    held = sum(decode / slots * (slots * (max(outs) - 1) - sum(out - 1 for out in outs)) for decode, slots, outs in zip(
        decodes, (4, 4, 2), ((46, 20, 64, 14), (52, 30, 40, 58), (22, 36)), strict=True))
    padded = sum(prompt * (1 - sum(real) / (len(real) * max(real))) for prompt, real in zip(
        prompts, ((180, 60, 420, 96), (240, 64, 520, 80), (150, 300)), strict=True))
    assert m.seconds["padding"] == pytest.approx(held + padded) and m.seconds["idle"] == pytest.approx(0.120)
    assert m.padding == pytest.approx((held + padded) / (begins[-1] - 0.120))


@pytest.mark.parametrize("name", ["static", "dynamic", "chunked"])
@pytest.mark.parametrize("t", [0.05, 0.3, 0.6401, 0.9, 5.0])
def test_at_any_moment_the_measures_are_those_of_the_events_until_then(name, t):
    run = race()[name]
    lanes = fold(run)
    m, until = measure(lanes, t), [e for e in run.events if e.t <= t]
    arrivals = {n: a.t for e in run.events for n, a in e.arrived.items() if a.t <= min(t, lanes.now)}
    firsts = {}
    for e in until:
        for n in e.sampled:
            firsts.setdefault(n, e.t)
    assert m.requests == len(arrivals)
    assert sorted(m.ttft) == pytest.approx(sorted(at - arrivals[n] for n, at in firsts.items()))
    assert m.tokens == sum(len(tokens) for e in until for tokens in e.sampled.values())
    assert m.finished == sum(len(e.finished) for e in until) and len(m.tpot) == m.finished
    assert m.preemptions == sum(len(e.preempted) for e in run.events if e.t - e.ms / 1e3 <= t)
    busy = sum(e.ms for e in until if e.scheduled) / 1e3
    assert sum(m.seconds[s] for s in SHARES if s != "idle") == pytest.approx(busy)
    assert sum(m.seconds.values()) == pytest.approx(m.until, abs=1e-9)
    assert sum(m.mean.values()) == pytest.approx(1) if until else not any(m.mean.values())


def test_the_mean_of_the_memory_is_the_area_under_the_curve():
    run = chunked()
    lanes = fold(run)
    m, t, area = measure(lanes, 0.5), 0.0, dict.fromkeys(SLOTS, 0.0)
    ends = [e.t for e in run.events if e.t <= 0.5]
    while t < 0.5:  # a slow walk in steps of 50 microseconds
        i = sum(end <= t for end in ends) - 1
        for name in SLOTS if i >= 0 else ():
            area[name] += lanes.columns[name][i]
        t += 5e-5
    total = sum(area.values())
    assert {name: n / total for name, n in area.items()} == pytest.approx(m.mean, abs=2e-3)


def test_memory_is_measured_against_the_pool_as_it_was_at_each_moment():
    run = record(4, steps=120, pools={60: 96})
    lanes = fold(run)
    assert lanes.slots == 96 * 4
    steps = [e for e in run.events if e.t <= 1.0]
    sizes = [(96 if any(e.num_blocks for e in steps[:i + 1]) else 24) * 4 for i in range(len(steps))]
    spans = [b.t - a.t for a, b in pairwise(steps)] + [1.0 - steps[-1].t]
    m = measure(lanes, 1.0)
    assert sum(m.slots.values()) == 96 * 4 and sum(m.mean.values()) == pytest.approx(1)
    used = [sum(lanes.columns[name][i] for name in SLOTS if name != "free") for i in range(len(steps))]
    whole = sum(size * span for size, span in zip(sizes, spans, strict=True))
    assert 1 - m.mean["free"] == pytest.approx(sum(n * span for n, span in zip(used, spans, strict=True)) / whole)


def test_nothing_has_been_measured_of_a_run_that_has_not_begun():
    m = measure(Lanes(race()["static"].header))
    assert (m.requests, m.throughput, m.makespan, m.ttft) == (0, 0.0, None, []) and median(m.ttft) is None


def test_the_median_is_the_median():
    for values in ([3.0], [1.0, 2.0], [5.0, 1.0, 2.0], [0.4, 0.1, 0.2, 0.9]):
        assert median(values) == pytest.approx(statistics.median(values))
