from __future__ import annotations

import json
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit.bench.traces import record
from labkit.trace import PoolState, Run, Step
from labkit.trace.state import SHARED, TAIL, USED
from labkit.views.cursor import Cursor
from labkit.views.frame import Packer
from labkit.views.history import History
from labkit.views.scene import compose
from labkit.views.tokens import Vocabulary


class Reader:
    """Folds frames by the words of frame.py's docstring, with nothing but struct and json."""

    def __init__(self) -> None:
        self.blocks: dict[str, list[int]] = {}
        self.shared: dict[int, tuple[int, list[int]]] = {}
        self.curve: dict[str, list[int]] = {"steps": [], "inuse": [], "cached": []}
        self.marks: list = []
        self.table: list[int] = []
        self.seq = 0

    def read(self, frame: bytes) -> dict:
        length = struct.unpack_from("<I", frame)[0]
        head = json.loads(frame[4:4 + length])
        sections, at = {}, 4 + length
        assert at % 4 == 0
        for name, size, count in head["sections"]:
            sections[name] = list(struct.unpack_from(f"<{count}{'?BH?I'[size]}", frame, at))
            at += -(-size * count // 4) * 4
        assert at == len(frame)
        assert head["base"] in (0, self.seq)
        self.seq = head["seq"]
        if head["base"] == 0:
            self.blocks = {name: sections[name] for name in ("state", "slot", "filled", "owner")}
            self.curve = {name: [] for name in self.curve}
            self.marks = []
        else:
            for i, block in enumerate(sections["ids"]):
                for name, column in self.blocks.items():
                    column[block] = sections[name][i]
        if "shared" in sections:
            triples = [sections["bands"][i:i + 3] for i in range(0, len(sections["bands"]), 3)]
            owners = zip(sections["shared"], sections["refs"], triples, strict=True)
            self.shared = {block: (refs, [slot for slot in slots if slot != 255]) for block, refs, slots in owners}
        for name, column in self.curve.items():
            column += sections[name]
        self.marks += head["marks"]
        self.table = sections["table"]
        return head


def check(reader: Reader, state: PoolState) -> None:
    assert reader.blocks["state"] == list(state.state)
    assert reader.blocks["filled"] == list(state.filled)
    assert reader.blocks["owner"] == list(state.owner)
    for block in range(state.num_blocks):
        owners = [state.requests[name].slot for name, _ in state.owners(block)]
        held = state.state[block] in (USED, TAIL, SHARED)
        assert reader.blocks["slot"][block] == (owners[0] if held else 255)
        if state.state[block] == SHARED:
            assert reader.shared[block] == (len(owners), owners[:3])
    assert set(reader.shared) == {b for b in range(state.num_blocks) if state.state[b] == SHARED}


def frames(run: Run, every: int, seeks: list[int], lost: set[int]):
    """Frame after frame of a run that is watched live, then searched; numbers in `lost` are followed by a complete frame."""
    history, cursor, packer, words = History(run.header), Cursor(), Packer(), Vocabulary("tiny")

    def frame() -> tuple[bytes, PoolState]:
        cursor.advance(history, 0.0, ended=False)
        state = history.state_at(cursor.position)
        chosen = next((name for name, r in state.requests.items() if r.table), None)
        return packer.pack(compose(state, words, chosen, 3), state, history, cursor, "live"), state

    for count, event in enumerate(run.events):
        history.append(event)
        if count % every == 0:
            yield (*frame(), history)
        if count in lost:
            packer.reset()
    for position in seeks:
        cursor.seek(position, history)
        yield (*frame(), history)


POOLS = st.dictionaries(st.integers(1, 120), st.integers(24, 60), max_size=2)


@settings(max_examples=60)
@given(st.integers(0, 500), st.integers(1, 9), st.lists(st.integers(0, 130), max_size=6), st.sets(st.integers(0, 100), max_size=3), POOLS)
def test_frames_folded_one_after_another_tell_the_pool_the_curve_and_the_marks(seed, every, seeks, lost, pools):
    reader = Reader()
    for frame, state, history in frames(record(seed, pools=pools), every, seeks, lost):
        head = reader.read(frame)
        check(reader, state)
        assert reader.curve == {"steps": list(history.steps), "inuse": list(history.used), "cached": list(history.cached)}
        assert reader.marks == [[m.position, m.kind, m.letter] for m in history.marks]
        scene = head["scene"]
        assert len(reader.blocks["state"]) == scene["blocks"] == state.num_blocks and scene["began"] == 24
        assert head["pools"] == [list(pool) for pool in history.pools]
        assert scene["counts"] == state.counts() and scene["ledger"] == state.ledger()
        chosen = next((r for r in state.requests.values() if r.table), None)
        assert reader.table == (chosen.table if chosen else [])
        assert scene["card"]["owners"] == [[state.requests[n].letter, state.requests[n].slot, i] for n, i in state.owners(3)]


def test_a_frame_of_a_quiet_pool_is_small_however_large_the_pool():
    run = record(1, blocks=4096, steps=60)
    sizes = [len(frame) for frame, _, _ in frames(run, 1, [], set())]
    assert sizes[0] > 4096 * 8
    assert max(sizes[1:]) < 8192


@pytest.mark.parametrize("block", [0, 23])
def test_a_card_tells_owners_logical_index_references_age_and_hash_chain(block):
    run = record(9, blocks=24, rate=0.6)
    history = History(run.header)
    for event in run.events:
        history.append(event)
    for position in range(0, len(history), 5):
        state = history.state_at(position)
        view, card = state.block(block), compose(state, Vocabulary("tiny"), None, block).card
        assert card.filled == state.filled[block] == len(card.tokens) or view.state == 0
        assert card.age == state.step - view.born
        for letter, _, logical in card.owners:
            table = next(r.table for r in state.requests.values() if r.letter == letter)
            assert table[logical] == block
        if card.parent[1] >= 0:
            assert state.block(card.parent[1]).hash == view.parent
        if card.child[1] >= 0 and card.child[0] and card.hash:
            assert state.block(card.child[1]).parent == card.hash


def test_a_pool_that_grows_or_shrinks_makes_the_next_frame_complete():
    run = record(3)
    history, packer, reader, words = History(run.header), Packer(), Reader(), Vocabulary("tiny")
    for event in run.events:
        history.append(event)

    def frame() -> dict:
        state = history.state_at(history.last)
        return reader.read(packer.pack(compose(state, words, None, None), state, history, Cursor(), "live"))

    frame()
    live = history.state_at(history.last)
    assert frame()["base"] > 0
    for num_blocks in (live.num_blocks + 40, 30):
        everybody = list(live.requests)
        history.append(Step(live.step + 1, live.t + 1, 1.0, preempted=everybody if num_blocks > 30 else [], num_blocks=num_blocks))
        live = history.state_at(history.last)
        head = frame()
        assert head["base"] == 0 and head["scene"]["blocks"] == num_blocks == len(reader.blocks["state"])
        assert len(reader.curve["steps"]) == len(history)
