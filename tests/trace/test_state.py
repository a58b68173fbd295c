"""The folded pool against a slow model that keeps nothing but block tables."""
from __future__ import annotations

from collections import Counter

import hypothesis.strategies as st
from hypothesis import given, settings

from labkit.trace import Arrival, Header, PoolState, Snapshot, Step, decode, encode, letter
from labkit.trace.state import CACHED, FREE, NULL, SHARED, TAIL, USED


def header(block_size: int = 4, num_blocks: int = 12, null_blocks: int = 0) -> Header:
    return Header("glassbox", "live", {}, "tiny", {"block_size": block_size, "num_blocks": num_blocks, "null_blocks": null_blocks}, {})


class Pool:
    """A toy engine that emits legal steps: it owns tables, lengths and hashes as plain Python."""

    def __init__(self, block_size: int, num_blocks: int, null_blocks: int):
        self.size, self.null = block_size, null_blocks
        self.ids = range(null_blocks, num_blocks)
        self.tables: dict[str, list[int]] = {}
        self.length: dict[str, int] = {}
        self.waiting: dict[str, int] = {}
        self.hashes: dict[int, str] = {}
        self.count = self.steps = 0

    def references(self) -> Counter:
        return Counter(block for table in self.tables.values() for block in table)

    def step(self, draw) -> Step:
        self.steps += 1
        event = Step(self.steps, self.steps * 0.1, 1.0)
        if self.tables and draw(st.integers(0, 4)) == 0:
            victim = draw(st.sampled_from(sorted(self.tables)))
            self.waiting[victim] = self.length.pop(victim)
            del self.tables[victim]
            event.preempted.append(victim)
        for _ in range(draw(st.integers(0, 2))):
            name, self.count = f"r{self.count}", self.count + 1
            prompt = draw(st.integers(1, 3 * self.size))
            event.arrived[name] = Arrival(prompt, 8, event.t, list(range(prompt)))
            self.waiting[name] = prompt
        taken = set(self.references())
        for name in list(self.waiting):
            hits = [b for b in sorted(self.hashes)][: draw(st.integers(0, 2))]
            if len(hits) * self.size >= self.waiting[name] or name in event.preempted:
                continue
            free = [b for b in self.ids if b not in taken and b not in hits]
            tokens = self.waiting[name] - len(hits) * self.size
            need = -(-tokens // self.size)
            if need > len(free):
                continue
            new = free[:need]
            taken.update(new, hits)
            for block in new:
                self.hashes.pop(block, None)
            self.tables[name], self.length[name] = hits + new, self.waiting.pop(name)
            event.scheduled[name] = tokens
            if hits:
                event.shared[name] = hits
            event.given[name] = new
            for logical, block in enumerate(self.tables[name]):
                if block in new and (logical + 1) * self.size <= self.length[name]:
                    self.hashes[block] = f"h{self.steps}-{block}"
                    event.hashed.append((block, self.hashes[block], None))
        for name in sorted(self.tables):
            if draw(st.integers(0, 5)) == 0:
                del self.tables[name], self.length[name]
                event.finished[name] = "stop"
        return event

    def counts(self) -> dict[str, int]:
        references, counts = self.references(), Counter(null=self.null)
        tail = {table[-1] for name, table in self.tables.items() if self.length[name] % self.size}
        for block in self.ids:
            if references[block] == 0:
                counts["cached" if block in self.hashes else "free"] += 1
            elif references[block] > 1:
                counts["shared"] += 1
            else:
                counts["tail" if block in tail else "used"] += 1
        return {name: counts[name] for name in ("free", "cached", "used", "tail", "shared", "null")}


@settings(max_examples=150, deadline=None)
@given(st.data(), st.sampled_from([1, 2, 4]), st.sampled_from([0, 1]))
def test_counts_tables_and_ledger_equal_a_slow_model_after_every_step(data, block_size, null_blocks):
    pool, state = Pool(block_size, 14, null_blocks), PoolState(header(block_size, 14, null_blocks))
    for _ in range(data.draw(st.integers(1, 14))):
        event = pool.step(data.draw)
        state.apply(decode(encode(event)))
        assert state.counts() == pool.counts()
        assert {name: r.table for name, r in state.requests.items() if r.table} == pool.tables
        assert {name: r.computed for name, r in state.requests.items() if r.status == "running"} == pool.length
        assert sum(state.ledger().values()) == (14 - null_blocks) * block_size
        held = sum(1 for count in pool.references().values() if count)
        assert state.usage == held / (14 - null_blocks)
        slots = [r.slot for r in state.requests.values() if r.status == "running"]
        assert len(set(slots)) == len(slots) and -1 not in slots


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_reader_that_joins_at_a_snapshot_sees_what_one_from_the_start_sees(data):
    pool, early = Pool(4, 14, 1), PoolState(header(4, 14, 1))
    late = PoolState(header(4, 14, 1))
    join = data.draw(st.integers(0, 6))
    for i in range(10):
        event = pool.step(data.draw)
        early.apply(event)
        if i == join:
            late.apply(decode(encode(early.snapshot())))
        elif i > join:
            late.apply(event)
        if i >= join:
            assert late.state == early.state and late.filled == early.filled
            assert late.ledger() == early.ledger()
            assert {n: r.table for n, r in late.requests.items()} == {n: r.table for n, r in early.requests.items()}
            for block in range(14):
                a, b = early.block(block), late.block(block)
                assert (a.owners, a.hash, a.filled, a.state) == (b.owners, b.hash, b.filled, b.state)


def test_a_block_tells_its_tokens_owners_and_hash_chain_and_keeps_them_while_cached():
    state = PoolState(header())
    prompt = [10, 11, 12, 13, 14]
    state.apply(Step(1, 0.1, 1, arrived={"a": Arrival(5, 4, 0.0, prompt)}, scheduled={"a": 5}, given={"a": [3, 7]},
                     hashed=[(3, "h3", None)], sampled={"a": [99]}, running=1))
    state.apply(Step(2, 0.2, 1, arrived={"b": Arrival(5, 4, 0.1, prompt)}, scheduled={"a": 1, "b": 1}, shared={"b": [3]},
                     given={"b": [5]}, running=2))
    assert state.block(3).owners == [("a", 0), ("b", 0)] and state.block(3).state == SHARED
    assert state.block(7).token_ids == [14, 99] and state.block(7).state == TAIL
    assert state.hit_rate == 4 / 10
    state.apply(Step(3, 0.3, 1, finished={"a": "stop", "b": "abort"}))
    assert state.block(3).state == CACHED and state.block(3).token_ids == prompt[:4]
    assert state.holder("h3") == 3 and state.block(7).state == FREE
    state.apply(Step(4, 0.4, 1, arrived={"c": Arrival(2, 4, 0.3)}, scheduled={"c": 2}, given={"c": [3]}))
    assert state.holder("h3") is None and state.block(3).hash is None


def test_null_blocks_are_left_out_of_usage_and_ledger():
    state = PoolState(header(num_blocks=5, null_blocks=1))
    assert state.state[0] == NULL and state.counts()["free"] == 4
    state.apply(Step(1, 0, 1, arrived={"a": Arrival(8, 4, 0.0)}, scheduled={"a": 8}, given={"a": [1, 2]}))
    assert state.usage == 0.5 and state.state[1] == USED


def test_letters_go_on_after_z():
    assert [letter(i) for i in (0, 25, 26, 51, 52, 701, 702)] == ["A", "Z", "AA", "AZ", "BA", "ZZ", "AAA"]


def test_a_snapshot_survives_the_line_format():
    state = PoolState(header())
    arrival = Arrival(5, 4, 0.0, [1, 2, 3, 4, 5])
    state.apply(Step(1, 0, 1, arrived={"a": arrival}, scheduled={"a": 5}, given={"a": [0, 1]}, hashed=[(0, "x", None)]))
    assert isinstance(decode(encode(state.snapshot())), Snapshot)
    assert decode(encode(state.snapshot())) == state.snapshot()


def test_a_held_request_keeps_its_blocks_and_its_slot_until_it_is_released():
    state = PoolState(header(num_blocks=6))
    arrived = {"a": Arrival(3, 2, 0.0, [1, 2, 3]), "b": Arrival(2, 9, 0.0, [4, 5])}
    given = {"a": [0, 1], "b": [2, 3]}
    state.apply(Step(1, 0, 1, arrived=arrived, scheduled={"a": 3, "b": 2}, given=given, padding={"b": 1}, sampled={"a": [6], "b": [7]}))
    state.apply(Step(2, 0, 1, scheduled={"a": 1, "b": 1}, sampled={"a": [8], "b": [9]}, finished={"a": "length"}, held=["a"]))
    assert state.usage == 4 / 6 and state.finished == 1
    assert (state.requests["a"].phase, state.requests["a"].table, state.requests["b"].phase) == ("held", [0, 1], "decode")
    late = PoolState(header(num_blocks=6))
    late.apply(decode(encode(state.snapshot())))
    assert late.snapshot() == state.snapshot() and late.requests["a"].held
    for reader in (state, late):
        reader.apply(Step(3, 0, 1, scheduled={"b": 1}, padding={"a": 1}, sampled={"b": [1]}))
        assert reader.requests["a"].computed == 4
        reader.apply(Step(4, 0, 1, scheduled={"b": 1}, padding={"a": 1}, sampled={"b": [1]}, finished={"b": "length"}, released=["a"]))
        assert reader.usage == 0 and not reader.requests
    assert state.finished == 2


def test_a_pool_made_anew_has_its_new_size_for_every_reader_and_nothing_in_it():
    """As told by a run file: a reader from the start, one that joins by snapshot, and a file from before there was such a thing."""
    arrived = {"a": Arrival(9, 8, 0.0, list(range(9)))}
    steps = [
        Step(1, 0.1, 1.0, arrived=arrived, scheduled={"a": 9}, given={"a": [0, 1, 2]}, hashed=[(0, "h0", None), (1, "h1", "h0")]),
        Step(2, 0.2, 1.0, preempted=["a"], num_blocks=20, waiting=1),
        Step(3, 0.3, 1.0, scheduled={"a": 9}, given={"a": [17, 18, 19]}, hashed=[(17, "h0", None)], running=1),
    ]
    state = PoolState(header())
    for step in steps[:2]:
        state.apply(decode(encode(step)))
    assert state.num_blocks == 20 and state.first_num_blocks == 12
    assert state.counts() == {"free": 20, "cached": 0, "used": 0, "tail": 0, "shared": 0, "null": 0}
    assert state.holder("h0") is None and state.requests["a"].status == "waiting"
    state.apply(decode(encode(steps[2])))
    late = PoolState(header())
    late.apply(decode(encode(state.snapshot())))
    for reader in (state, late):
        assert reader.num_blocks == 20 and reader.requests["a"].table == [17, 18, 19] and reader.holder("h0") == 17
        assert reader.usage == 3 / 20 and sum(reader.ledger().values()) == 20 * 4
    old = encode(steps[0])
    assert "num_blocks" not in old and PoolState(header()).num_blocks == 12
    late.apply(decode('{"kind":"snapshot","step":9,"t":1.0}'))
    assert late.num_blocks == 12, "a snapshot that says nothing means as many as the header says"
