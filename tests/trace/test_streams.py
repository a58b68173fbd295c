"""Recorder, run files, live readers and replay, through real files and sockets."""
from __future__ import annotations

import itertools
import threading
import time

import pytest

from labkit.trace import (
    Arrival,
    Header,
    PoolState,
    Recorder,
    Run,
    Snapshot,
    Step,
    TraceError,
    as_replay,
    decode,
    encode,
    read,
    read_idle,
    replay,
    subscribe,
)


def header(**changes) -> Header:
    return Header("glassbox", "live", {"labkit": "0"}, "tiny", {"block_size": 4, "num_blocks": 8}, {"cpu": "x"}, seed=7, **changes)


def steps(n: int, start: int = 1) -> list[Step]:
    """n steps of one request that decodes for ever."""
    first = Step(start, 0.01, 1.0, arrived={"a": Arrival(3, 99, 0.0, [1, 2, 3])}, scheduled={"a": 3}, given={"a": [0]}, sampled={"a": [5]})
    return [first, *(Step(start + i, 0.01 * i, 1.0, scheduled={"a": 0}, sampled={"a": [i]}) for i in range(1, n))]


def test_a_run_file_reads_back_as_it_was_recorded(tmp_path):
    recorder = Recorder(header(), tmp_path / "runs" / "run.jsonl")
    events = steps(20)
    for event in events:
        recorder.emit(event)
    recorder.close()
    run = read(tmp_path / "runs" / "run.jsonl")
    assert run.header == header() and run.events == events and not run.torn
    run.save(tmp_path / "copy.jsonl")
    assert read(tmp_path / "copy.jsonl").events == events
    assert run.state_at(5).requests["a"].token_ids == [1, 2, 3, 5, 1, 2, 3, 4]


def test_a_run_file_cut_in_its_last_line_keeps_everything_before(tmp_path):
    path = tmp_path / "run.jsonl"
    whole = [encode(header()), *map(encode, steps(3))]
    path.write_text("\n".join(whole)[:-4])
    run = read(path)
    assert run.torn and run.events == steps(3)[:2]


@pytest.mark.parametrize(("text", "says"), [
    ("", "not a run file"), ("{}\n", "line 1"), ('{"kind":"step","step":1}\n', "line 1"),
    ('{"kind":"step","step":1,"t":0,"ms":1}\n', "first line"),
    ('{"kind":"header","schema":99}\n', "update labkit")])
def test_a_file_that_is_no_run_file_is_refused_with_its_line(tmp_path, text, says):
    path = tmp_path / "x.jsonl"
    path.write_text(text)
    with pytest.raises(TraceError, match=says):
        read(path)


def test_a_late_reader_gets_the_header_the_last_snapshot_and_everything_since(tmp_path):
    recorder = Recorder(header(), None, tmp_path / "s")
    events = steps(30)
    truth = PoolState(header())
    for event in events[:20]:
        recorder.emit(event)
        truth.apply(event)
    recorder.emit(truth.snapshot())
    for event in events[20:25]:
        recorder.emit(event)
    with subscribe(tmp_path / "s") as late:
        state = PoolState(late.header)
        first = None
        for event in late:
            first = first or event
            state.apply(event)
            if event.step == 25:
                for more in events[25:]:
                    recorder.emit(more)
            if event.step == 30:
                break
    for event in events[20:]:
        truth.apply(event)
    assert isinstance(first, Snapshot) or first.step == 1  # the snapshot, or the start when the reader was quicker than the queue
    assert state.requests["a"].token_ids == truth.requests["a"].token_ids
    recorder.close()


def test_many_readers_see_every_event_and_end_when_the_engine_does(tmp_path):
    recorder = Recorder(header(), None, tmp_path / "s")
    seen: list[list[int]] = [[], [], []]

    def follow(i: int, subscription) -> None:
        for event in subscription:
            seen[i].append(event.step)

    threads = [threading.Thread(target=follow, args=(i, subscribe(tmp_path / "s"))) for i in range(3)]
    for thread in threads:
        thread.start()
    for event in steps(200):
        recorder.emit(event)
    recorder.close()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert seen == [list(range(1, 201))] * 3


def big_steps(n: int) -> list[Step]:
    """Steps that no socket buffer takes many of: together `n` x 100 kB."""
    return [Step(i, 0.1 * i, 1.0, arrived={f"r{i}": Arrival(20_000, 1, 0.1 * i, [1000] * 20_000)}) for i in range(1, n + 1)]


def test_a_reader_that_pauses_holds_nobody_up_and_misses_nothing(tmp_path):
    recorder = Recorder(header(), tmp_path / "run.jsonl", tmp_path / "s")
    with subscribe(tmp_path / "s") as slow, subscribe(tmp_path / "s") as quick:
        for event in big_steps(30):
            recorder.emit(event)
        assert [event.step for event in itertools.islice(quick, 30)] == list(range(1, 31))
        begin = time.monotonic()
        while len(read(tmp_path / "run.jsonl").events) < 30:
            assert time.monotonic() - begin < 10
        assert [event.step for event in itertools.islice(slow, 30)] == list(range(1, 31))
    recorder.close()


@pytest.mark.parametrize(("limit", "value"), [("BACKLOG", 1 << 20), ("STALLED", 0.2)])
def test_a_reader_that_lags_too_far_is_cut_off_and_may_join_again(tmp_path, monkeypatch, limit, value):
    monkeypatch.setattr(f"labkit.trace.reader.{limit}", value)
    recorder = Recorder(header(), None, tmp_path / "s")
    slow = subscribe(tmp_path / "s")
    for event in big_steps(30):
        recorder.emit(event)
    deadline = time.monotonic() + 10
    while recorder._readers and time.monotonic() < deadline:
        recorder.emit(Step(31, 9.0, 1.0))
    assert recorder._readers == []
    assert len(list(slow)) < 30  # what it was sent, and then the end
    monkeypatch.undo()
    with subscribe(tmp_path / "s") as again:
        assert [event.step for event in itertools.islice(again, 30)] == list(range(1, 31))
    recorder.close()


def test_a_full_queue_drops_counts_and_heals_with_a_snapshot(tmp_path):
    gate = threading.Event()
    recorder = Recorder(header(), tmp_path / "run.jsonl", capacity=4)
    write, recorder._write = recorder._write, lambda lines: (gate.wait(10), write(lines))
    truth = PoolState(header())
    for event in steps(40):
        truth.apply(event)
        recorder.emit(event)
    assert recorder.dropped > 0 and recorder.wants_snapshot
    gate.set()
    deadline = time.monotonic() + 10
    while recorder.wants_snapshot and time.monotonic() < deadline:  # the queue empties; the next snapshot goes through
        recorder.emit(truth.snapshot())
    assert not recorder.wants_snapshot
    recorder.close()
    run = read(tmp_path / "run.jsonl")
    state = run.state_at(run.steps)
    assert state.requests["a"].token_ids == truth.requests["a"].token_ids
    assert state.dropped == recorder.dropped


def test_a_snapshot_is_asked_for_now_and_then():
    recorder = Recorder(header())
    events = steps(2000)
    asked = 0
    truth = PoolState(header())
    for event in events:
        truth.apply(event)
        recorder.emit(event)
        if recorder.wants_snapshot:
            asked += 1
            recorder.emit(truth.snapshot())
    recorder.close()
    assert asked >= 3


def test_a_disk_that_is_full_ends_the_file_not_the_stream(tmp_path):
    recorder = Recorder(header(), tmp_path / "full" / "x.jsonl", tmp_path / "s")
    recorder._file.close()
    recorder._file = open("/dev/full", "w")
    with subscribe(tmp_path / "s") as reader:
        for event in steps(3):
            recorder.emit(event)
        assert [event.step for event in itertools.islice(reader, 3)] == [1, 2, 3]
    recorder.close()
    assert "No space left" in recorder.failure


def test_nobody_on_the_socket_is_a_clear_error(tmp_path):
    with pytest.raises(ConnectionError, match="has the server stopped"):
        subscribe(tmp_path / "nobody")


def test_a_replay_keeps_the_order_says_so_and_can_be_stopped():
    run = Run(header(), steps(50))
    assert as_replay(run).header.badge == "replay" and run.header.badge == "live"
    assert list(replay(run, float("inf"))) == run.events
    stop = threading.Event()
    seen = []
    for event in replay(run, 1000, stop):
        seen.append(event)
        if len(seen) == 5:
            stop.set()
    assert len(seen) == 5
    with pytest.raises(ValueError, match="greater than 0"):
        list(replay(run, 0))


def test_a_replay_takes_the_time_the_run_took_over_its_speed():
    run = Run(header(), [Step(1, 0.0, 1), Step(2, 0.4, 1)])
    begin = time.perf_counter()
    list(replay(run, 4))
    assert time.perf_counter() - begin >= 0.1


def test_a_line_of_another_kind_is_refused():
    for line in ("nonsense", '{"kind":"what"}', "[]", '{"kind":"step","step":1,"t":0,"ms":0,"odd":1}'):
        with pytest.raises(TraceError):
            decode(line)


def test_reading_a_running_engine_waits_until_its_requests_have_ended(tmp_path):
    recorder = Recorder(header(), tmp_path / "run.jsonl")
    for event in steps(5):
        recorder.emit(event)
    deadline = time.monotonic() + 10
    while read(tmp_path / "run.jsonl").steps < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    with pytest.raises(TimeoutError, match="1 requests are still at work"):
        read_idle(tmp_path / "run.jsonl", timeout=0.1)
    threading.Timer(0.2, recorder.emit, [Step(6, 0.1, 1.0, finished={"a": "stop"})]).start()
    run = read_idle(tmp_path / "run.jsonl")
    assert run.steps == 6 and [state.finished for _, state in run.states(after=5)] == [1]
    recorder.close()
