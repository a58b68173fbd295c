"""The event schema: what one engine step did, told as deltas.

Every source (glass box, vLLM probe) emits the same three records, each one line of JSON in a run file and on a live socket:
a `Header` once, a `Step` for each engine step, a `Snapshot` now and then so that a reader can join late or after a loss.
Times are seconds since `Header.clock_origin` on the monotonic clock, which all processes of one host share.
"""
from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from typing import Any

try:  # vLLM's environment has it, and the probe's encoding costs a tenth
    from msgspec.json import encode as _dump
except ImportError:

    def _dump(record: dict[str, Any]) -> bytes:
        return json.dumps(record, separators=(",", ":")).encode()


SCHEMA = 1
BADGES = ("live", "replay", "stand-in")


@dataclass(slots=True)
class Header:
    """Where a run comes from. `configuration` holds at least block_size and num_blocks (null block included) and
    null_blocks (how many block ids, counted from 0, the engine never gives out: vLLM 1, glass box 0)."""

    source: str  # "glassbox" or "vllm"
    badge: str  # "live" when an engine writes it; a reader that replays a file shows "replay"
    versions: dict[str, str]  # {"labkit": ..., "torch": ..., "vllm": ...}
    model: str
    configuration: dict[str, Any]
    hardware: dict[str, Any]
    seed: int | None = None
    started: str = ""  # wall clock, ISO 8601 with offset
    clock_origin: int = 0  # perf_counter_ns at t = 0
    name: str = ""  # what a badge or a file list calls this run
    schema: int = SCHEMA


@dataclass(slots=True)
class Arrival:
    """A request that entered the waiting queue. `token_ids` is the prompt."""

    prompt: int  # tokens
    max_tokens: int
    t: float  # seconds
    token_ids: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Step:
    """One engine step. A record that schedules nothing tells what happened between steps (arrivals, aborts).

    Order in which a reader applies it: preempted, arrived; then, in the order of `scheduled`, each request's shared and given
    blocks (it may share one that was given to another earlier in this step); then scheduled, hashed, sampled, finished.
    A preempted or finished request gives its whole block table back, but for `held` ones, which do so when `released`, last of all; a
    given block loses whatever hash it had. Between the two a held request stands in `padding` only. `num_blocks` is applied last of all:
    nobody holds a block then, and nothing is cached any more.
    """

    step: int
    t: float  # seconds, end of the step
    ms: float  # duration of the step, milliseconds
    arrived: dict[str, Arrival] = field(default_factory=dict)
    scheduled: dict[str, int] = field(default_factory=dict)  # request -> tokens computed in this step, in scheduling order
    shared: dict[str, list[int]] = field(default_factory=dict)  # request -> block ids found in the prefix cache
    given: dict[str, list[int]] = field(default_factory=dict)  # request -> block ids newly allocated, appended
    hashed: list[tuple[int, str, str | None]] = field(default_factory=list)  # (block id, hash, parent hash): now cached
    sampled: dict[str, list[int]] = field(default_factory=dict)  # request -> new token ids
    preempted: list[str] = field(default_factory=list)
    finished: dict[str, str] = field(default_factory=dict)  # request -> "stop", "length", "abort", "refused"
    waiting: int = 0  # queue depth after the step
    running: int = 0
    dropped: int = 0  # records lost so far because the recorder's queue was full
    padding: dict[str, int] = field(default_factory=dict)  # request -> tokens computed for nothing beside the scheduled ones
    held: list[str] = field(default_factory=list)  # of those finished: they keep their blocks until `released`
    released: list[str] = field(default_factory=list)
    num_blocks: int = 0  # of the pool, which was made anew, larger or smaller (a running engine was quantized); 0: as it was


@dataclass(slots=True)
class RequestState:
    """One request inside a `Snapshot`."""

    prompt: int
    max_tokens: int
    computed: int  # tokens whose KV is in the cache
    table: list[int]  # block ids, logical order
    token_ids: list[int]  # prompt, then output
    status: str  # "waiting", "running" or "held"
    t: float  # arrival, seconds
    preemptions: int = 0
    shared: int = 0  # blocks of the table that came from the prefix cache at admission


@dataclass(slots=True)
class Snapshot:
    """Everything alive at the end of `step`. `cached` lists every block that has a hash: (block id, hash, parent hash)."""

    step: int
    t: float
    requests: dict[str, RequestState] = field(default_factory=dict)
    cached: list[tuple[int, str, str | None]] = field(default_factory=list)
    waiting: int = 0
    running: int = 0
    dropped: int = 0
    num_blocks: int = 0  # of the pool; 0: as many as the header says


Event = Header | Step | Snapshot
_KINDS = {"header": Header, "step": Step, "snapshot": Snapshot}
_NESTED = {("step", "arrived"): Arrival, ("snapshot", "requests"): RequestState}
_MEMBERS = {  # of each record: its kind, and its fields with whether they are written even when they are empty
    cls: (kind, [(f.name, kind == "header" or f.name in ("step", "t", "ms")) for f in fields(cls)]) for kind, cls in _KINDS.items()
}


class TraceError(ValueError):
    """A line that is not an event of this schema."""


def encode(event: Event) -> str:
    """One line of JSON without its newline. Empty fields are left out."""
    kind, members = _MEMBERS[type(event)]
    record: dict[str, Any] = {"kind": kind}
    for name, always in members:
        value = getattr(event, name)
        if value or always:
            record[name] = value if (kind, name) not in _NESTED else {key: _plain(item) for key, item in value.items()}
    return _dump(record).decode()


def decode(line: str | bytes) -> Event:
    """The event of one line. Raises `TraceError` for anything else, naming what is wrong."""
    try:
        record = json.loads(line)
        kind = record.pop("kind")
        if kind == "header" and record.get("schema", SCHEMA) > SCHEMA:
            raise TraceError(f"run file of schema {record['schema']}, this labkit reads up to {SCHEMA}: update labkit")
        for (owner, name), cls in _NESTED.items():
            if kind == owner and name in record:
                record[name] = {key: cls(**item) for key, item in record[name].items()}
        for name in ("hashed", "cached"):
            if name in record:
                record[name] = [tuple(item) for item in record[name]]
        return _KINDS[kind](**record)
    except TraceError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        text = line if isinstance(line, str) else line.decode(errors="replace")
        raise TraceError(f"not a trace event ({error}): {text[:120]!r}") from error


def _plain(record: Any) -> dict[str, Any]:
    return {f.name: getattr(record, f.name) for f in fields(record)}
