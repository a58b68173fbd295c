from __future__ import annotations

import json
import struct

import pytest

from labkit.bench.traces import record
from labkit.trace import Run
from labkit.views.lane_frame import NONE, REASONS, TICK, LanePacker
from labkit.views.lanes import Lanes
from labkit.views.race_scene import Panel, Words
from tests.views.races import chunked, race

WORDS = Words("Batch timeline", "", ("live", "a test"), "footer", [])


class Reader:
    """Folds frames by the words of lane_frame.py's docstring, with nothing but struct and json."""

    def __init__(self) -> None:
        self.seq, self.panels = 0, []

    def read(self, frame: bytes) -> dict:
        length = struct.unpack_from("<I", frame)[0]
        head, sections, at = json.loads(frame[4:4 + length]), {}, 4 + length
        for name, size, count in head["sections"]:
            sections[name] = list(struct.unpack_from(f"<{count}{'?BH?I'[size]}", frame, at))
            at += -(-size * count // 4) * 4
        assert at == len(frame) and head["base"] in (0, self.seq)
        self.seq = head["seq"]
        if head["base"] == 0:
            self.panels = [({}, {}, []) for _ in head["now"]]
        for i, (requests, segments, steps) in enumerate(self.panels):
            def records(*names, i=i):
                return zip(*(sections.get(f"{i}.{name}", []) for name in names), strict=True)
            times = ("arrival", "first", "latest", "finish")
            requests |= {r[0]: r for r in records("ordinal", "prompt", *times, "outputs", "preempted", "reason")}
            segments |= {s[0]: s for s in records("index", "lane", "kind", "t0", "t1", "at", "last", "tokens", "blocks")}
            steps += records("start", "end", "step", "prefill", "recompute", "padded", "decode", "held", "sampled")
        return head


def expected(lanes: Lanes) -> tuple[dict, dict, list]:
    def ticks(seconds: float | None) -> int:
        return NONE if seconds is None else round((seconds - lanes.origin) / TICK)

    requests = {lane.ordinal: (lane.ordinal, lane.prompt, ticks(lane.arrival), ticks(lane.first), lane.finished and ticks(lane.latest),
                               ticks(lane.finished), lane.finished and lane.outputs, lane.preemptions, REASONS.index(lane.reason))
                for lane in lanes.lanes.values()}
    segments = {s.index: (s.index, s.ordinal, s.kind, ticks(s.t0), ticks(None if s.open else s.t1), s.step, None if s.open else s.last,
                          None if s.open else s.tokens, None if s.open else s.blocks) for s in lanes.segments}
    columns = [lanes.columns[name] for name in ("step", "prefill", "recompute", "padded", "decode", "held", "sampled")]
    return requests, segments, list(zip(map(ticks, lanes.starts), map(ticks, lanes.ends), *columns, strict=True))


def same(told: tuple, true: tuple) -> bool:
    """None: not told while it goes on. Times may be rounded either way."""
    return all(b is None or abs(a - b) <= 1 for a, b in zip(told, true, strict=True))


def check(reader: Reader, panels: list[Panel]) -> None:
    for (requests, segments, steps), panel in zip(reader.panels, panels, strict=True):
        true = expected(panel.lanes)
        for told, right in zip((requests, segments), true[:2], strict=True):
            assert told.keys() == right.keys() and all(same(told[key], right[key]) for key in right)
        assert len(steps) == len(true[2]) and all(map(same, steps, true[2]))


@pytest.mark.parametrize("stride", [1, 3, 17])
def test_frames_folded_one_after_another_tell_every_request_segment_and_step(stride):
    runs = {"static": race()["static"], "random": record(7, rate=0.6), "tight": chunked(blocks=45, budget=64)}
    ordinals: dict[str, int] = {}
    panels = [Panel(name, "", Lanes(run.header, ordinals)) for name, run in runs.items()]
    packer, reader, sizes = LanePacker(), Reader(), []
    for k in range(max(len(run.events) for run in runs.values())):
        for panel, run in zip(panels, runs.values(), strict=True):
            for event in run.events[k:k + 1]:
                panel.lanes.append(event)
        if k % stride == 0:
            frame = packer.pack(panels, WORDS, status="live")
            reader.read(frame)
            sizes.append(len(frame))
            check(reader, panels)
        if k == 50:
            packer.reset()
    reader.read(packer.pack(panels, WORDS, status="live"))
    check(reader, panels)


def test_a_frame_holds_what_is_new_however_many_requests_are_at_work():
    run = chunked([(0, 20, 400)] * 200, blocks=6000, seqs=200, budget=8192)
    panel, packer = Panel("one", "", Lanes(run.header)), LanePacker()
    for event in run.events[:50]:
        panel.lanes.append(event)
    whole = len(packer.pack([panel], WORDS))
    sizes = []
    for event in run.events[50:150]:
        panel.lanes.append(event)
        sizes.append(len(packer.pack([panel], WORDS)))
    assert panel.lanes.alive == 200 and whole > 5000
    assert max(sizes) - min(sizes) < 100 and max(sizes) < 1500, "200 requests that go on cost nothing"


def test_a_run_that_lost_its_beginning_is_told_anew():
    run = record(5, rate=0.5, steps=300)
    panel, packer, reader = Panel("one", "", Lanes(run.header, limit=80)), LanePacker(), Reader()
    bases = []
    for event in run.events:
        panel.lanes.append(event)
        bases.append(reader.read(packer.pack([panel], WORDS))["base"])
        check(reader, [panel])
    assert bases.count(0) == 1 + panel.lanes.generation


def test_memory_is_told_where_it_is_asked_for_and_requests_are_not():
    run: Run = race()["chunked"]
    panel, packer = Panel("one", "", Lanes(run.header)), LanePacker(rows=False, memory=True)
    for event in run.events:
        panel.lanes.append(event)
    frame = packer.pack([panel], WORDS)
    head = json.loads(frame[4:4 + struct.unpack_from("<I", frame)[0]])
    names = {name.removeprefix("0.") for name, _, _ in head["sections"]}
    assert {"useful", "tail", "reserved", "cached", "free"} < names and not {"ordinal", "index"} & names
