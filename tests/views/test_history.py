from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.bench.traces import record
from labkit.trace import PoolState, Run, Step
from labkit.views.cursor import Cursor
from labkit.views.history import History


def loaded(run: Run, **options) -> History:
    history = History(run.header, **options)
    for event in run.events:
        history.append(event)
    return history


def content(state: PoolState) -> dict:
    return vars(state)


POOLS = st.dictionaries(st.integers(1, 120), st.integers(24, 60), max_size=3)


@settings(max_examples=60)
@given(st.integers(0, 1000), st.lists(st.integers(1, 200), min_size=1, max_size=12), st.sampled_from([1 << 60, 7]), POOLS)
def test_seeking_anywhere_in_any_order_gives_the_fold_from_the_start(seed, steps, snapshot_every, pools):
    run = record(seed, snapshot_every=snapshot_every, pools=pools)
    history = loaded(run)
    for step in steps:
        position = history.position_of(step)
        assert content(history.state_at(position)) == content(run.state_at(min(step, run.steps)))


def test_seeking_while_the_run_goes_on_does_not_disturb_it():
    run = record(3)
    history = History(run.header)
    for count, event in enumerate(run.events):
        history.append(event)
        history.state_at(count // 2)
    assert content(history.state_at(history.last)) == content(run.state_at(run.steps))


def test_keyframes_stay_few_and_near_enough_however_long_the_run_is():
    run = record(5, steps=3000, rate=0.2)
    history = loaded(run)
    assert len(history._keyframes) <= history.keyframe_limit
    positions = sorted(history._keyframes)
    widest = max(b - a for a, b in zip(positions, [*positions[1:], history.last], strict=True))
    assert widest <= 4 * len(history) / len(positions)


def test_a_run_beyond_the_limit_loses_its_beginning_and_keeps_its_end():
    run = record(6, steps=500)
    history = loaded(run, limit=100)
    assert len(history) <= 100 and history.first > 0
    assert len(history.steps) == len(history.used) == len(history.cached) == len(history.times) == len(history)
    assert all(mark.position >= history.first for mark in history.marks)
    for position in range(history.first, history.last + 1, 13):
        assert content(history.state_at(position)) == content(run.state_at(history.steps[position - history.first]))
    assert history.state_at(0).step == history.steps[0]


def test_the_curve_holds_what_the_pool_held_after_every_step():
    run = record(8)
    history = loaded(run)
    state = PoolState(run.header)
    for at, event in enumerate(run.events):
        state.apply(event)
        counts = state.counts()
        assert history.used[at] == counts["used"] + counts["tail"] + counts["shared"]
        assert history.cached[at] == counts["cached"]
    assert history.used[history.fullest() - history.first] == max(history.used)


@pytest.mark.parametrize("limit", [1000, 60])
def test_a_history_knows_how_large_the_pool_was_at_every_position(limit):
    run = record(8, pools={40: 50, 90: 30})
    history, sizes = History(run.header, limit), []
    state = PoolState(run.header)
    for event in run.events:
        state.apply(event)
        history.append(event)
        sizes.append(state.num_blocks)
    assert set(sizes) == {24, 50, 30}
    for position in range(history.first, len(sizes)):
        assert next(blocks for begin, blocks in reversed(history.pools) if begin <= position) == sizes[position]
    assert history.pools[0][0] == history.first and history.largest() == max(sizes[history.first :])


def test_marks_name_every_admission_share_preemption_and_end():
    run = record(4, blocks=20, rate=0.5)
    history = loaded(run)
    steps = [event for event in run.events if isinstance(event, Step)]
    by_kind = {kind: sum(mark.kind == kind for mark in history.marks) for kind in ("admit", "share", "preempt", "finish")}
    assert by_kind["preempt"] == sum(len(step.preempted) for step in steps) > 0
    assert by_kind["share"] == sum(len(step.shared) for step in steps) > 0
    assert by_kind["finish"] == sum(len(step.finished) for step in steps) > 0
    admitted, live = 0, set()
    for step in steps:
        live -= set(step.preempted)
        admitted += len(set(step.scheduled) - live)
        live = (live | set(step.scheduled)) - set(step.finished)
    assert by_kind["admit"] == admitted


def test_the_cursor_plays_in_the_runs_own_time_and_stops_at_its_end():
    history = loaded(record(1, steps=50))
    cursor = Cursor()
    cursor.seek(0, history)
    cursor.play(history, now=100.0)
    cursor.advance(history, 100.0 + 10.5 * 0.01, ended=True)
    assert cursor.position == 11
    cursor.advance(history, 200.0, ended=True)
    assert (cursor.position, cursor.mode) == (history.last, "paused")
    cursor.play(history, now=300.0)
    cursor.advance(history, 300.0, ended=True)
    assert cursor.position == 1, "play at the end begins again"


def test_the_cursor_catches_up_with_a_live_run_and_then_follows_it():
    history = loaded(record(1, steps=50))
    cursor = Cursor()
    cursor.seek(40, history)
    cursor.play(history, now=0.0)
    cursor.advance(history, 10.0, ended=False)
    assert cursor.mode == "live"


def test_the_cursor_jumps_from_mark_to_mark():
    history = loaded(record(2))
    positions = sorted({mark.position for mark in history.marks})
    cursor = Cursor("paused", 0)
    seen = []
    while not seen or cursor.position != seen[-1]:
        seen.append(cursor.position)
        cursor.jump(1, history)
    assert seen[1:] == [p for p in positions if p > 0]
    cursor.jump(-1, history)
    assert cursor.position == positions[-2]


def test_a_speed_that_there_is_not_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8"):
        Cursor().set_speed(3)
