"""`Packer`: one moment of a run as one binary message to the browser.

Layout: u32 length of the head, the head (JSON, UTF-8, padded with spaces to a multiple of 4), then the sections that the head
lists as [name, element bytes, count], each padded to 4 bytes, all little-endian.

A frame holds what changed since the last one: `ids` names the blocks that `state` (u1), `slot` (u1, 255 for none), `filled` (u2)
and `owner` (u4, ordinal) speak of. A complete frame has no `ids`: it speaks of all blocks. `base` in the head is the number of the
frame that it builds on (0: complete), so that a reader that missed one asks for a complete frame. `pools` in the head says how large
the pool was: [position, blocks from there on].
"""
from __future__ import annotations

import json
from bisect import bisect_left
from dataclasses import fields

import numpy as np

from labkit.trace import PoolState
from labkit.trace.state import SHARED, TAIL, USED
from labkit.views.cursor import Cursor
from labkit.views.history import History
from labkit.views.scene import Scene

NO_SLOT = 255
BANDS = 3  # owners that a shared block shows at its foot


class Packer:
    """Packs frames for one widget; remembers what the last one said. Not thread-safe."""

    def __init__(self) -> None:
        self.sequence = 0
        self.reset()

    def reset(self) -> None:
        """Make the next frame complete."""
        self._blocks: dict[str, np.ndarray] | None = None
        self._shared = b""
        self._told = 0  # positions of the curve that the reader has

    @property
    def complete(self) -> bool:
        """Whether the next frame is."""
        return self._blocks is None

    def pack(self, scene: Scene, state: PoolState, history: History, cursor: Cursor, status: str) -> bytes:
        """status: empty, live, ended, lost or replay. The frame is complete where the pool has another size than in the last one."""
        if self._blocks is not None and len(self._blocks["state"]) != state.num_blocks:
            self.reset()
        head: dict = {"seq": self.sequence + 1, "base": self.sequence if self._blocks is not None else 0, "scene": scene, "status": status,
                      "mode": cursor.mode, "speed": cursor.speed, "position": cursor.position, "first": history.first, "last": history.last,
                      "pools": history.pools}
        sections = self._changes(state)
        sections["table"] = np.asarray(scene.table, "<u4")
        sections |= self._bands(state)
        sections |= self._curve(history, head)
        self.sequence += 1
        return join(head, sections)

    def _changes(self, state: PoolState) -> dict[str, np.ndarray]:
        blocks = columns(state)
        if self._blocks is None:
            changed, out = None, dict(blocks)
        else:
            differs = np.zeros(state.num_blocks, bool)
            for name, column in blocks.items():
                differs |= column != self._blocks[name]
            changed = np.flatnonzero(differs)
            out = {"ids": changed.astype("<u4"), **{name: column[changed] for name, column in blocks.items()}}
        self._blocks = blocks
        return out

    def _bands(self, state: PoolState) -> dict[str, np.ndarray]:
        """Reference counts and first owners of the shared blocks, when they are not what they were."""
        ids = np.flatnonzero(np.frombuffer(state.state, "u1") == SHARED)
        refs, slots = np.zeros(len(ids), "<u2"), np.full((len(ids), BANDS), NO_SLOT, "u1")
        for i, block in enumerate(ids):
            owners = state.owners(int(block))
            refs[i] = len(owners)
            for k, (name, _) in enumerate(owners[:BANDS]):
                slots[i, k] = state.requests[name].slot
        said = ids.tobytes() + refs.tobytes() + slots.tobytes()
        if said == self._shared and self._blocks is not None and self._told:
            return {}
        self._shared = said
        return {"shared": ids.astype("<u4"), "refs": refs, "bands": slots.reshape(-1)}

    def _curve(self, history: History, head: dict) -> dict[str, np.ndarray]:
        begin = max(self._told, history.first)
        at = begin - history.first
        head["from"], head["total"] = begin, len(history)
        new = bisect_left(history.marks, begin, key=lambda mark: mark.position)
        head["marks"] = [[m.position, m.kind, m.letter] for m in history.marks[new:]]
        self._told = history.last + 1
        return {"steps": np.asarray(history.steps[at:], "<u4"), "inuse": np.asarray(history.used[at:], "<u4"),
                "cached": np.asarray(history.cached[at:], "<u4")}


def columns(state: PoolState) -> dict[str, np.ndarray]:
    """What a cell shows of every block, by physical id."""
    code = np.frombuffer(state.state, "u1").copy()
    owner = np.array(state.owner, "<u4")
    by_ordinal = np.full(len(state.ordinals) + 1, NO_SLOT, "u1")
    for request in state.requests.values():
        if request.slot >= 0:
            by_ordinal[request.ordinal] = min(request.slot, NO_SLOT - 1)
    held = (code == USED) | (code == TAIL) | (code == SHARED)
    slot = np.full(len(code), NO_SLOT, "u1")
    slot[held] = by_ordinal[np.minimum(owner[held], len(state.ordinals))]
    return {"state": code, "slot": slot, "filled": np.array(state.filled, "<u2"), "owner": owner}


def join(head: dict, sections: dict[str, np.ndarray]) -> bytes:
    head["sections"] = [[name, column.itemsize, len(column)] for name, column in sections.items()]
    text = json.dumps(head, default=_plain, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 4)
    parts = [len(text).to_bytes(4, "little"), text]
    for column in sections.values():
        data = column.tobytes()
        parts += [data, bytes(-len(data) % 4)]
    return b"".join(parts)


def _plain(record: object) -> dict:
    return {f.name: getattr(record, f.name) for f in fields(record) if f.name != "table"}
