from __future__ import annotations

from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.bench.traces import record
from labkit.trace import Arrival, PoolState, Run, Snapshot, Step, read
from labkit.views.lane import KINDS
from labkit.views.lanes import Lanes
from tests.views.races import chunked, header, race, real


def fold(run: Run, **options) -> Lanes:
    lanes = Lanes(run.header, **options)
    for event in run.events:
        lanes.append(event)
    return lanes


def told(lanes: Lanes, name: str) -> list[tuple]:
    """(kind, from ms, to ms, tokens, first step, last step, blocks) of each segment."""
    ends = ((s, round(1e3 * (lanes.now if s.open else s.t1))) for s in lanes.lanes[name].segments)
    return [(KINDS[s.kind], round(1e3 * s.t0), end, s.tokens, s.step, s.last, s.blocks) for s, end in ends]


def step(number: int, begin: float, end: float, **what) -> Step:
    return Step(number, end / 1e3, end - begin, **what)


def arrival(t: float, prompt: int, output: int = 9) -> Arrival:
    return Arrival(prompt, output, t / 1e3, list(range(prompt)))


def test_a_request_is_queued_prefilled_in_chunks_decoded_preempted_recomputed_and_ended():
    run = Run(header(), [
        step(1, 10, 20, arrived={"a": arrival(4, 40)}, scheduled={"a": 32}, given={"a": [0, 1]}),
        step(2, 20, 30, scheduled={"a": 8}, given={"a": [2]}, sampled={"a": [7]}),
        step(3, 31, 40, scheduled={"a": 1}, sampled={"a": [7]}),
        step(4, 40, 50, scheduled={"a": 1}, sampled={"a": [7]}),
        step(5, 52, 60, arrived={"b": arrival(45, 10)}, preempted=["a"], scheduled={"b": 10}, given={"b": [3]}, sampled={"b": [7]}),
        step(6, 60, 75, scheduled={"b": 1, "a": 43}, given={"a": [0, 1, 2]}, sampled={"a": [7], "b": [7]}, finished={"b": "length"}),
        step(7, 75, 80, scheduled={"a": 1}, sampled={"a": [7]}, finished={"a": "stop"}),
    ])
    lanes = fold(run)
    assert told(lanes, "a") == [
        ("queued", 4, 10, 0, 1, 1, 0), ("prefill", 10, 20, 32, 1, 1, 2), ("prefill", 20, 30, 8, 2, 2, 3), ("decode", 31, 50, 2, 3, 4, 3),
        ("preempted", 52, 60, 0, 5, 6, 0), ("recompute", 60, 75, 43, 6, 6, 3), ("decode", 75, 80, 1, 7, 7, 3)]
    assert told(lanes, "b") == [("queued", 45, 52, 0, 5, 5, 0), ("prefill", 52, 60, 10, 5, 5, 1), ("decode", 60, 75, 1, 6, 6, 1)]
    a, b = lanes.lanes["a"], lanes.lanes["b"]
    assert (a.letter, b.letter, a.preemptions, a.reason, lanes.alive) == ("A", "B", 1, "stop", 0)
    assert a.ttft == pytest.approx(0.026) and a.tpot == pytest.approx((0.080 - 0.030) / 4)
    assert b.ttft == pytest.approx(0.015) and b.tpot == pytest.approx(0.015)
    column = {name: list(values) for name, values in lanes.columns.items()}
    assert column["prefill"] == [32, 8, 0, 0, 10, 1, 0], "the 43rd token of step 6 is computed for the first time"
    assert column["recompute"] == [0, 0, 0, 0, 0, 42, 0] and column["decode"] == [0, 0, 1, 1, 0, 1, 1]
    assert (lanes.origin, lanes.done) == (0.004, 0.080)


def test_padding_beside_a_prompt_shares_its_step_and_a_slot_that_is_held_goes_on_after_the_end():
    run = Run(header(), [
        step(1, 0, 30, arrived={"a": arrival(0, 10), "b": arrival(0, 30)}, scheduled={"a": 10, "b": 30}, padding={"a": 20},
             sampled={"a": [1], "b": [1]}),
        step(2, 30, 40, scheduled={"a": 1, "b": 1}, sampled={"a": [1], "b": [1]}, finished={"a": "length"}),
        step(3, 40, 50, scheduled={"b": 1}, padding={"a": 1}, sampled={"b": [1]}),
        step(4, 50, 60, scheduled={"b": 1}, padding={"a": 1}, sampled={"b": [1]}, finished={"b": "length"}),
    ])
    lanes = fold(run)
    assert told(lanes, "a") == [("queued", 0, 0, 0, 1, 1, 0), ("prefill", 0, 10, 10, 1, 1, 0), ("padding", 10, 30, 20, 1, 1, 0),
                                ("decode", 30, 40, 1, 2, 2, 0), ("padding", 40, 60, 2, 3, 4, 0)]
    assert lanes.lanes["a"].finished == pytest.approx(0.040) and lanes.lanes["a"].well
    assert list(lanes.columns["padded"]) == [20, 0, 0, 0] and list(lanes.columns["held"]) == [0, 0, 1, 1]


def test_the_rows_of_a_static_batch_written_down_by_hand_are_those_of_the_policy():
    by_hand, policy = fold(race()["static"]), fold(real("static", blocks=160, batch_size=4))
    for name in by_hand.lanes:
        assert [row[:4] for row in told(by_hand, name)] == [row[:4] for row in told(policy, name)]
    assert by_hand.done == pytest.approx(policy.done)


def test_blocks_that_a_request_keeps_after_its_end_are_reserved_until_its_batch_ends():
    run = Run(header(), [
        step(1, 0, 10, arrived={"a": arrival(0, 20), "b": arrival(0, 20)}, scheduled={"a": 20, "b": 20}, given={"a": [0, 1], "b": [2, 3]}),
        step(2, 10, 20, scheduled={"a": 1, "b": 1}, finished={"a": "length"}, held=["a"]),
        step(3, 20, 30, scheduled={"b": 1}, padding={"a": 1}),
        step(4, 30, 40, scheduled={"b": 1}, padding={"a": 1}, finished={"b": "length"}, released=["a"]),
    ])
    columns = fold(run).columns
    assert list(columns["useful"]) == [40, 21, 22, 0] and list(columns["reserved"]) == [0, 32, 32, 0]
    assert list(columns["tail"]) == [24, 11, 10, 0] and list(columns["free"]) == [1536, 1536, 1536, 1600]


def test_a_running_request_that_a_step_leaves_out_is_stalled():
    run = Run(header(), [
        step(1, 0, 10, arrived={"a": arrival(0, 5)}, scheduled={"a": 5}, sampled={"a": [1]}),
        step(2, 10, 20, scheduled={"a": 1}, sampled={"a": [1]}),
        step(3, 20, 50, arrived={"b": arrival(15, 90)}, scheduled={"b": 90}, sampled={"b": [1]}),
        step(4, 50, 60, scheduled={"a": 1, "b": 1}, sampled={"a": [1], "b": [1]}),
    ])
    lanes = fold(run)
    assert told(lanes, "a")[2:] == [("decode", 10, 20, 1, 2, 2, 0), ("stalled", 20, 50, 0, 3, 3, 0), ("decode", 50, 60, 1, 4, 4, 0)]
    assert told(lanes, "b")[-1] == ("decode", 50, 60, 1, 4, 4, 0)


def test_steps_that_overlap_because_the_engine_schedules_ahead_are_told_apart():
    run = Run(header(), [
        step(1, 0, 10, arrived={"a": arrival(0, 5)}, scheduled={"a": 5}, sampled={"a": [1]}),
        step(2, 2, 20, scheduled={"a": 1}, sampled={"a": [1]}, finished={"a": "stop"}),
        step(3, 12, 30, scheduled={"a": 1}),  # it had been scheduled when its end was found
    ])
    lanes = fold(run)
    assert list(lanes.starts) == pytest.approx([0, 0.010, 0.020]) and list(lanes.ends) == pytest.approx([0.010, 0.020, 0.030])
    assert list(lanes.columns["held"]) == [0, 0, 1], "a token for nothing"
    assert told(lanes, "a")[-1] == ("decode", 10, 20, 1, 2, 2, 0)


def test_requests_that_end_without_a_token_and_those_cancelled_in_the_queue():
    run = Run(header(), [
        step(1, 5, 5, arrived={"a": arrival(1, 5), "b": arrival(2, 5)}, finished={"a": "refused"}),
        step(2, 9, 9, finished={"b": "abort"}),
    ])
    lanes = fold(run)
    assert told(lanes, "a") == [("queued", 1, 5, 0, 1, 1, 0)] and told(lanes, "b") == [("queued", 2, 9, 0, 1, 1, 0)]
    assert not lanes.lanes["a"].well and lanes.lanes["b"].tpot is None and lanes.lanes["b"].ttft is None


def test_what_goes_on_is_open_until_now():
    events = [step(1, 0, 10, arrived={"a": arrival(0, 5), "b": arrival(3, 5)}, scheduled={"a": 5}, sampled={"a": [1]}),
              step(2, 10, 20, scheduled={"a": 1}, sampled={"a": [1]})]
    lanes = fold(Run(header(), events))
    assert [s.open for s in lanes.lanes["a"].segments] == [False, False, True] and [s.open for s in lanes.lanes["b"].segments] == [True]
    assert told(lanes, "b") == [("queued", 3, 20, 0, 1, 1, 0)]


def naive(run: Run) -> tuple[dict[str, list[tuple[str, int, int]]], dict[str, Counter]]:
    """For each request (kind, step, tokens) of every step, worked out anew from all events before it; and the tokens of each step."""
    rows, steps = defaultdict(list), {}
    pool = PoolState(run.header)
    reached: dict[str, int] = {}
    for event in run.events:
        count = Counter()
        before = {name: (r.status, r.computed, r.prompt) for name, r in pool.requests.items()}
        for name in event.preempted:
            reached[name] = max(reached.get(name, 0), before[name][1])
        ended = set(run_ended(run, event.step))
        for name, n in event.scheduled.items():
            if name in ended:
                count["held"] += n
                continue
            status, computed, prompt = before.get(name, ("waiting", 0, 0))
            prompt = event.arrived[name].prompt if name in event.arrived else prompt
            begin = (0 if status == "waiting" or name in event.preempted else computed) + pool.block_size * len(event.shared.get(name, ()))
            again = len([p for p in range(begin, begin + n) if p < reached.get(name, 0)])
            kind = "recompute" if again else "prefill" if begin < prompt else "decode"
            rows[name].append((kind, event.step, n))
            count["recompute"] += again
            count["decode" if kind == "decode" else "prefill"] += n - again
            reached[name] = max(reached.get(name, 0), 0)
        pool.apply(event)
        steps[event.step] = count
    return rows, steps


def run_ended(run: Run, before: int) -> list[str]:
    return [name for event in run.events if event.step < before for name in event.finished]


@settings(max_examples=15)
@given(seed=st.integers(0, 10_000), blocks=st.sampled_from([12, 24, 80]), rate=st.sampled_from([0.2, 0.6]))
def test_random_runs_are_what_a_slow_count_from_the_events_says(seed, blocks, rate):
    run = record(seed, steps=90, blocks=blocks, rate=rate)
    check(run)


@pytest.mark.parametrize("name", ["chunked", "tight"])
def test_true_schedules_are_what_a_slow_count_from_the_events_says(name):
    check(race()["chunked"] if name == "chunked" else chunked(blocks=45, budget=64))


def check(run: Run) -> None:
    lanes, (rows, steps) = fold(run), naive(run)
    for name, lane in lanes.lanes.items():
        found = []
        for s in lane.segments:
            kind = KINDS[s.kind]
            if kind in ("prefill", "recompute"):
                found.append((kind, s.step, s.tokens))
            elif kind == "decode":
                numbers = [e.step for e in run.events if s.step <= e.step <= s.last and e.scheduled]
                assert s.tokens == len(numbers), "a token a step"
                found += [(kind, number, 1) for number in numbers]
        assert found == rows[name], name
        times = [(s.t0, s.t1) for s in lane.segments if not s.open]
        assert all(a <= b for a, b in times) and all(first[1] <= second[0] + 1e-9 for first, second in pairwise(times))
    for i, number in enumerate(lanes.columns["step"]):
        for kind in ("prefill", "recompute", "decode", "held"):
            assert lanes.columns[kind][i] == steps[number][kind], (number, kind)
    firsts, outputs, ends = {}, Counter(), {}
    for event in run.events:
        for name, tokens in event.sampled.items():
            firsts.setdefault(name, event.t)
            outputs[name] += len(tokens)
        ends |= dict.fromkeys(event.finished, event.t)
    for name, lane in lanes.lanes.items():
        assert (lane.first, lane.outputs) == (firsts.get(name), outputs[name])
        assert lane.finished == (max(ends[name], lane.arrival) if name in ends else None)


@pytest.mark.parametrize("seed", range(4))
def test_memory_adds_up_and_reserved_blocks_are_those_without_a_token(seed):
    policies = [real("dynamic", max_batch_size=3), real("tgi", blocks=90, max_batch_prefill_tokens=1024)]
    for run in (record(seed, blocks=40, rate=0.5), race()["static"], race()["chunked"], *policies):
        lanes, pool = Lanes(run.header), PoolState(run.header)
        for event in run.events:
            lanes.append(event)
            pool.apply(event)
            last = {name: lanes.columns[name][-1] for name in ("useful", "tail", "reserved", "cached", "free")}
            assert sum(last.values()) == pool.num_blocks * pool.block_size
            over = {name for name, request in pool.requests.items() if request.held}
            owners = {b: {name for name, _ in pool.owners(b)} for b in range(pool.num_blocks) if pool.owners(b)}
            unused = [b for b, names in owners.items() if names <= over or pool.filled[b] == 0]
            assert last["reserved"] == len(unused) * pool.block_size
            assert last["useful"] == sum(pool.filled[b] for b in owners if b not in unused)


def test_a_view_that_joins_in_the_middle_knows_what_came_after_and_nothing_else():
    run = record(8, rate=0.6, steps=100)
    whole, half = fold(run), len(run.events) // 2
    state = PoolState(run.header)
    for event in run.events[:half]:
        state.apply(event)
    late = fold(Run(run.header, [state.snapshot(), *run.events[half:]]))
    assert late.origin == state.t and set(state.requests) <= set(late.lanes)
    assert any(lane.joined for lane in late.lanes.values())
    for name, lane in late.lanes.items():
        known = whole.lanes[name]
        assert (lane.finished, lane.reason, lane.outputs, lane.computed) == (known.finished, known.reason, known.outputs, known.computed)
        assert lane.ttft == (None if lane.joined else known.ttft)
    n = len(late.ends)
    for name in ("decode", "useful", "free", "waiting"):
        assert list(late.columns[name]) == list(whole.columns[name])[-n:]


def test_after_a_gap_requests_that_are_gone_are_lost_and_a_snapshot_of_a_known_step_changes_nothing():
    run = record(8, rate=0.6, steps=100, snapshot_every=10)
    assert any(isinstance(event, Snapshot) for event in run.events)
    lanes, plain = fold(run), fold(Run(run.header, [e for e in run.events if isinstance(e, Step)]))
    assert [told(lanes, name) for name in lanes.lanes] == [told(plain, name) for name in plain.lanes]
    state = PoolState(run.header)
    for event in run.events[:90]:
        state.apply(event)
    torn = fold(Run(run.header, [*run.events[:40], state.snapshot(), *run.events[90:]]))
    gone = [lane for lane in torn.lanes.values() if lane.reason == "lost"]
    assert gone and all(lane.tpot is None for lane in gone)
    assert set(torn._alive) == {name for name, lane in plain.lanes.items() if lane.finished is None}


def test_a_long_run_keeps_its_end_and_every_request_that_is_alive():
    run = record(5, rate=0.5, steps=400)
    lanes, whole = fold(run, limit=100), fold(run)
    assert len(lanes.ends) <= 100 and lanes.generation > 0 and lanes.trimmed + len(lanes.ends) == len(whole.ends)
    assert list(lanes.columns["decode"]) == list(whole.columns["decode"])[-len(lanes.ends):]
    begin = lanes.starts[0]
    for name, lane in whole.lanes.items():
        if lane.finished is None or lane.finished > begin:
            assert name in lanes.lanes
            assert told(lanes, name) == [s for s in told(whole, name) if s in told(lanes, name)]
    assert [s.index for s in lanes.segments] == list(range(len(lanes.segments)))


def test_letters_are_shared_by_the_runs_of_one_workload():
    ordinals: dict[str, int] = {}
    runs = race()
    first, second = fold(runs["static"], ordinals=ordinals), fold(runs["chunked"], ordinals=ordinals)
    assert {name: lane.letter for name, lane in first.lanes.items()} == {name: lane.letter for name, lane in second.lanes.items()}


def test_a_run_that_vllm_recorded_is_what_a_slow_count_from_its_events_says():
    """Seven requests in eight blocks of 32 tokens: vLLM 0.32 preempts four times. Token ids are left out of the file."""
    run = read(Path(__file__).with_name("vllm.jsonl"))
    check(run)
    lanes = fold(run)
    assert sum(lane.preemptions for lane in lanes.lanes.values()) == 4 and all(lane.well for lane in lanes.lanes.values())
    assert sum(lanes.columns["recompute"]) > 0 and not sum(lanes.columns["held"])
    for i in range(len(lanes.ends)):
        assert sum(lanes.columns[name][i] for name in ("useful", "tail", "reserved", "cached", "free")) == 8 * 32
