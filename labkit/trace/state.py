"""`PoolState`: the block pool and its requests, folded from trace events. No engine, no tensors, standard library only."""
from __future__ import annotations

from array import array
from collections.abc import Iterable
from copy import copy
from dataclasses import dataclass, field, replace

from labkit.trace.events import Event, Header, RequestState, Snapshot, Step, TraceError

FREE, CACHED, USED, TAIL, SHARED, NULL = range(6)
STATES = ("free", "cached", "used", "tail", "shared", "null")
NOBODY = 0xFFFFFFFF  # the owner of a block that no request of this trace ever held


def letter(ordinal: int) -> str:
    """A to Z, AA to ZZ, AAA...: the name of the nth request of a run, counted from 0."""
    name = ""
    while ordinal >= 0:
        name = chr(ord("A") + ordinal % 26) + name
        ordinal = ordinal // 26 - 1
    return name


@dataclass(slots=True)
class RequestView:
    """A request that is waiting or running."""

    id: str
    ordinal: int
    prompt: int  # tokens
    max_tokens: int
    t: float  # arrival, seconds
    token_ids: list[int]
    slot: int = -1  # colour slot, lowest free one at admission; -1 while waiting for the first time
    computed: int = 0  # tokens whose KV is in the cache
    table: list[int] = field(default_factory=list)
    status: str = "waiting"
    preemptions: int = 0
    shared: int = 0  # blocks found in the prefix cache at the last admission
    last_scheduled: int = 0  # tokens computed in the last step that scheduled it
    held: bool = False  # it has ended, and keeps blocks and slot until its batch ends

    @property
    def letter(self) -> str:
        return letter(self.ordinal)

    @property
    def phase(self) -> str:
        """waiting, prefill, decode or held."""
        if self.status == "waiting" or self.held:
            return "held" if self.held else "waiting"
        return "prefill" if self.computed < self.prompt else "decode"


@dataclass(slots=True)
class BlockView:
    """One physical block, as of the state's step."""

    id: int
    state: int  # FREE .. NULL
    owners: list[tuple[str, int]]  # (request id, logical index), in order of arrival
    filled: int  # tokens
    token_ids: list[int]
    hash: str | None
    parent: str | None  # hash of the block before it
    last_owner: int  # ordinal, NOBODY if none
    born: int  # step in which it was last given


class PoolState:
    """Apply events in order; read blocks, requests and counters between them.

    `state`, `filled`, `owner` are flat arrays by physical block id (codes FREE..NULL, tokens, ordinal of the first owner
    or of the last one once the block is released), so that a view can pack a frame without touching a Python object a block.
    """

    def __init__(self, header: Header):
        configuration = header.configuration
        try:
            self.block_size, self.num_blocks = int(configuration["block_size"]), int(configuration["num_blocks"])
        except KeyError as missing:
            raise TraceError(f"the run's header has no {missing} in its configuration") from None
        self.header = header
        self.first_num_blocks = self.num_blocks  # the pool may change its size later
        self.null_blocks = int(configuration.get("null_blocks", 0))
        self.ordinals: dict[str, int] = {}  # every request ever seen, in order of arrival
        self.preempted = self.finished = self.asked_tokens = self.hit_tokens = self.sampled_tokens = 0
        self._clear()

    def _clear(self) -> None:
        self.step, self.t, self.ms = 0, 0.0, 0.0
        self.waiting = self.running = self.dropped = 0
        self.requests: dict[str, RequestView] = {}
        self._slots: list[str | None] = []
        self._clear_blocks()

    def _clear_blocks(self) -> None:
        """A pool of `num_blocks` in which nobody holds a block and nothing is cached."""
        n = self.num_blocks
        self.state = bytearray([NULL] * self.null_blocks + [FREE] * (n - self.null_blocks))
        self.filled = array("H", bytes(2 * n))
        self.owner = array("I", [NOBODY]) * n
        self.born = array("I", bytes(4 * n))
        self.useful = 0  # slots of blocks in use that hold a token
        self._counts = [0] * len(STATES)
        self._counts[NULL], self._counts[FREE] = self.null_blocks, n - self.null_blocks
        self._owners: dict[int, tuple[tuple[str, int], ...]] = {}  # tuples: copies of this state share them
        self._hash: dict[int, tuple[str, str | None]] = {}
        self._by_hash: dict[str, int] = {}
        self._tokens: dict[int, list[int]] = {}  # what a hashed block holds, kept after its owner is gone

    # reading ---------------------------------------------------------------------------------------------------------
    @property
    def usage(self) -> float:
        """Blocks held by requests over blocks that can be held, as vllm:kv_cache_usage_perc counts it."""
        return (self._counts[USED] + self._counts[TAIL] + self._counts[SHARED]) / max(1, self.num_blocks - self.null_blocks)

    @property
    def hit_rate(self) -> float:
        """Prompt tokens found in the prefix cache over prompt tokens asked for."""
        return self.hit_tokens / self.asked_tokens if self.asked_tokens else 0.0

    def counts(self) -> dict[str, int]:
        """Blocks by state; they add up to num_blocks."""
        return dict(zip(STATES, self._counts, strict=True))

    def ledger(self) -> dict[str, int]:
        """Token slots: useful + tail + cached + free = (num_blocks - null_blocks) * block_size."""
        held = self._counts[USED] + self._counts[TAIL] + self._counts[SHARED]
        return {"useful": self.useful, "tail": held * self.block_size - self.useful,
                "cached": self._counts[CACHED] * self.block_size, "free": self._counts[FREE] * self.block_size}

    def block(self, block: int) -> BlockView:
        owners = self._owners.get(block, ())
        tokens = self._tokens.get(block)
        if tokens is None and owners:
            request, logical = self.requests[owners[0][0]], owners[0][1]
            tokens = request.token_ids[logical * self.block_size:][:self.filled[block]]
        hash_, parent = self._hash.get(block, (None, None))
        return BlockView(block, self.state[block], list(owners), self.filled[block], list(tokens or []), hash_, parent,
                         self.owner[block], self.born[block])

    def owners(self, block: int) -> tuple[tuple[str, int], ...]:
        """Who holds the block now: (request id, logical index), in order of arrival."""
        return self._owners.get(block, ())

    def child(self, hash_: str | None) -> int | None:
        """A block that the prefix cache holds and whose parent is `hash_`; the lowest id where there are several."""
        return min((block for block, (_, parent) in self._hash.items() if parent == hash_), default=None) if hash_ else None

    def holder(self, hash_: str | None) -> int | None:
        """The block that the prefix cache holds under this hash."""
        return self._by_hash.get(hash_) if hash_ else None

    def copy(self) -> PoolState:
        """An independent state at the same step: a keyframe to fold on from."""
        twin = object.__new__(PoolState)
        for name, value in vars(self).items():
            setattr(twin, name, copy(value) if isinstance(value, (bytearray, array, list, dict)) else value)
        twin.requests = {name: replace(r, table=list(r.table), token_ids=list(r.token_ids)) for name, r in self.requests.items()}
        return twin

    # folding ---------------------------------------------------------------------------------------------------------
    def apply(self, event: Event) -> None:
        """Fold one event. A `Header` after the first is ignored, a `Snapshot` replaces everything but names and totals."""
        if isinstance(event, Step):
            self._apply_step(event)
        elif isinstance(event, Snapshot):
            self._apply_snapshot(event)

    def _apply_step(self, e: Step) -> None:
        self.step, self.t, self.ms = e.step, e.t, e.ms
        self.waiting, self.running, self.dropped = e.waiting, e.running, e.dropped
        for name in e.preempted:
            if request := self.requests.get(name):
                self._release(request)
                request.status, request.computed, request.shared = "waiting", 0, 0
                request.preemptions += 1
                self.preempted += 1
        for name, a in e.arrived.items():
            self.requests[name] = RequestView(name, self._ordinal(name), a.prompt, a.max_tokens, a.t, list(a.token_ids))
        for name in e.scheduled:
            if (request := self.requests.get(name)) and request.status == "waiting":
                self._admit(request, len(e.shared.get(name, ())))
        for name in e.scheduled:  # in scheduling order: a request may share a block given to another earlier in this step
            if request := self.requests.get(name):
                self._extend(request, e.shared.get(name, ()), e.given.get(name, ()))
        for name, n in e.scheduled.items():
            if request := self.requests.get(name):
                self._fill(request, request.computed + n)
                request.last_scheduled = n
        for block, hash_, parent in e.hashed:
            self._remember(block, hash_, parent)
        for name, tokens in e.sampled.items():
            self.sampled_tokens += len(tokens)
            if request := self.requests.get(name):
                request.token_ids.extend(tokens)
        for name in e.finished:
            if request := self.requests.get(name):
                request.held = True
                self.finished += 1
        for name in {*e.finished, *e.released}.difference(e.held):
            if request := self.requests.pop(name, None):
                self._release(request)
                self._vacate(request)
        if e.num_blocks:
            self.num_blocks = e.num_blocks
            self._clear_blocks()

    def _apply_snapshot(self, e: Snapshot) -> None:
        slots = {name: request.slot for name, request in self.requests.items()}
        self.num_blocks = e.num_blocks or self.first_num_blocks
        self._clear()
        self.step, self.t = e.step, e.t
        self.waiting, self.running, self.dropped = e.waiting, e.running, e.dropped
        for name, r in e.requests.items():
            held = r.status == "held"
            request = RequestView(name, self._ordinal(name), r.prompt, r.max_tokens, r.t, list(r.token_ids), slot=slots.get(name, -1),
                                  status="running" if held else r.status, preemptions=r.preemptions, shared=r.shared, held=held)
            self.requests[name] = request
            if request.slot >= 0:
                self._slots.extend([None] * (request.slot + 1 - len(self._slots)))
                self._slots[request.slot] = name
        for name, r in e.requests.items():
            request = self.requests[name]
            if request.status == "running" and request.slot < 0:
                self._take_slot(request)
            for block in r.table:
                self._attach(request, block)
            self._fill(request, r.computed)
        for block, hash_, parent in e.cached:
            if not self._owners.get(block):
                self.filled[block] = self.block_size
            self._remember(block, hash_, parent)

    def snapshot(self) -> Snapshot:
        """What a reader needs to go on from here."""
        requests = {name: RequestState(r.prompt, r.max_tokens, r.computed, list(r.table), list(r.token_ids),
                                       "held" if r.held else r.status, r.t, r.preemptions, r.shared) for name, r in self.requests.items()}
        cached = [(block, hash_, parent) for block, (hash_, parent) in self._hash.items()]
        return Snapshot(self.step, self.t, requests, cached, self.waiting, self.running, self.dropped, self.num_blocks)

    # parts -----------------------------------------------------------------------------------------------------------
    def _ordinal(self, name: str) -> int:
        return self.ordinals.setdefault(name, len(self.ordinals))

    def _admit(self, request: RequestView, shared: int) -> None:
        request.status, request.shared = "running", shared
        self.asked_tokens += len(request.token_ids) or request.prompt
        self.hit_tokens += shared * self.block_size
        if request.slot < 0:
            self._take_slot(request)

    def _extend(self, request: RequestView, shared: Iterable[int], given: Iterable[int]) -> None:
        for block in shared:
            self._attach(request, block)
            request.computed += self.block_size
        for block in given:
            self._forget(block)
            self.filled[block] = 0
            self.born[block] = self.step
            self._attach(request, block)

    def _take_slot(self, request: RequestView) -> None:
        if None not in self._slots:
            self._slots.append(None)
        request.slot = self._slots.index(None)
        self._slots[request.slot] = request.id

    def _vacate(self, request: RequestView) -> None:
        if request.slot >= 0:
            self._slots[request.slot] = None

    def _attach(self, request: RequestView, block: int) -> None:
        owners = self._owners.get(block, ())
        if not owners:
            self.useful += self.filled[block]
        owners = tuple(sorted((*owners, (request.id, len(request.table))), key=lambda owner: self.ordinals[owner[0]]))
        self._owners[block] = owners
        self.owner[block] = self.ordinals[owners[0][0]]
        request.table.append(block)
        self._classify(block)

    def _release(self, request: RequestView) -> None:
        for block in request.table:
            owners = tuple(owner for owner in self._owners[block] if owner[0] != request.id)
            if owners:
                self._owners[block] = owners
                self.owner[block] = self.ordinals[owners[0][0]]
            else:
                del self._owners[block]
                self.useful -= self.filled[block]
                self.owner[block] = request.ordinal
                if block not in self._hash:
                    self.filled[block] = 0
            self._classify(block)
        request.table = []

    def _fill(self, request: RequestView, computed: int) -> None:
        size = self.block_size
        for logical in range(request.computed // size, min(len(request.table), -(-computed // size))):
            block, tokens = request.table[logical], min(size, computed - logical * size)
            self.useful += tokens - self.filled[block]
            self.filled[block] = tokens
            self._classify(block)
        request.computed = computed

    def _remember(self, block: int, hash_: str, parent: str | None) -> None:
        self._hash[block] = (hash_, parent)
        self._by_hash[hash_] = block
        if owners := self._owners.get(block):
            name, logical = owners[0]
            self._tokens[block] = self.requests[name].token_ids[logical * self.block_size:(logical + 1) * self.block_size]
        self._classify(block)

    def _forget(self, block: int) -> None:
        if block in self._hash:
            hash_, _ = self._hash.pop(block)
            if self._by_hash.get(hash_) == block:
                del self._by_hash[hash_]
        self._tokens.pop(block, None)

    def _classify(self, block: int) -> None:
        owners = self._owners.get(block)
        if not owners:
            code = CACHED if block in self._hash else FREE
        elif len(owners) > 1:
            code = SHARED
        else:
            code = USED if self.filled[block] >= self.block_size else TAIL
        old = self.state[block]
        if old != code:
            self._counts[old] -= 1
            self._counts[code] += 1
            self.state[block] = code
