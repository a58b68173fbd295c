"""`Lanes`: a run as rows of requests and columns of steps, folded from trace events: what the batch timeline and the ledger draw."""
from __future__ import annotations

from array import array

from labkit.trace import Event, Header, PoolState, RequestState, Snapshot, Step
from labkit.views.lane import DECODE, PADDING, PREEMPTED, PREFILL, QUEUED, RECOMPUTE, STALLED, Lane, Segment

COUNTS = ("step", "prefill", "recompute", "decode", "padded", "held", "sampled", "waiting", "running",  # tokens; requests after the step
          "useful", "tail", "reserved", "cached", "free")  # token slots of the pool after the step


class Lanes:
    """Append events in order; read `lanes`, `segments`, `starts`, `ends` and `columns` between them. Not thread-safe.

    `columns[name][i]` is what `COUNTS` says of the step from `starts[i]` to `ends[i]` (seconds). Steps that overlap, as an engine that
    schedules ahead has them, are told apart: each begins when the one before it ends. `padded` are tokens that fill a prompt up to the
    longest of its batch, `held` those computed for requests that have ended or have nothing to compute.
    A run of more than `limit` steps loses its beginning, and `generation` counts up: indices into `segments` have changed.
    """

    def __init__(self, header: Header, ordinals: dict[str, int] | None = None, limit: int = 50_000):
        """ordinals: names the requests, by order; several runs of one workload share one, so that letters mean the same."""
        self.header, self.limit = header, limit
        self.pool = PoolState(header)
        self.slots = sum(self.pool.ledger().values())  # token slots that requests can have, of the pool at its largest
        self.ordinals = {} if ordinals is None else ordinals
        self.lanes: dict[str, Lane] = {}
        self.segments: list[Segment] = []
        self.starts, self.ends = array("d"), array("d")
        self.columns = {name: array("I") for name in COUNTS}
        self.changed: set[int] = set()  # indices of segments that are new or different since a reader emptied this
        self.touched: set[str] = set()  # the same for requests
        self.origin: float | None = None  # the first arrival, or the first event where that is not known
        self.now = 0.0
        self.trimmed = self.generation = 0
        self._alive: dict[str, Lane] = {}
        self._running: dict[str, Lane] = {}  # with an open run
        self._busy = 0  # steps that computed something
        self._empty = 0  # blocks of running requests that hold no token yet
        self._kept = self._kept_tokens = 0  # blocks that only requests hold that have ended, and what they are filled with

    def append(self, event: Event) -> None:
        if isinstance(event, Step):
            self._step(event)
        elif isinstance(event, Snapshot):
            gap = event.step != self.pool.step or not self.ends
            self.pool.apply(event)
            if gap:
                self._snapshot(event)

    @property
    def alive(self) -> int:
        """Requests that have arrived and not ended."""
        return len(self._alive)

    @property
    def done(self) -> float | None:
        """When the last request ended; None while one is alive."""
        ends = [lane.finished for lane in self.lanes.values()]
        return max(ends) if ends and not self._alive else None

    # steps -----------------------------------------------------------------------------------------------------------
    def _step(self, e: Step) -> None:
        if self.origin is None:
            self.origin = min([e.t - e.ms / 1e3, *(a.t for a in e.arrived.values())])
            self.now = self.origin
        begin, end = max(e.t - e.ms / 1e3, self.now), max(e.t, self.now)
        for name in e.preempted:
            if lane := self._alive.get(name):
                self._preempt(lane, begin, e.step)
        for name, a in e.arrived.items():
            self._arrive(name, a.prompt, a.max_tokens, a.t, e.step)
        tokens = dict.fromkeys(("prefill", "recompute", "decode", "padded", "held"), 0)
        if e.scheduled or e.padding:
            self._busy += 1
        for name, n in e.scheduled.items():
            lane = self._alive.get(name)
            if lane is None:
                tokens["held"] += n if name in self.lanes else 0  # scheduled ahead, and ended meanwhile
                continue
            blocks = len(e.shared.get(name, ())), len(e.given.get(name, ()))
            self._compute(lane, n, blocks, e.padding.get(name, 0), begin, end, e.step, tokens)
        for name, n in e.padding.items():
            if name not in e.scheduled:
                tokens["held"] += n
                if lane := self.lanes.get(name):
                    self._go_on(lane, PADDING, n, begin, end, e.step)
        for lane in [lane for lane in self._running.values() if lane.busy != self._busy] if e.scheduled or e.padding else ():
            self._close_run(lane)
        for name, sampled in e.sampled.items():
            if (lane := self._alive.get(name)) and sampled:
                if lane.first is None and not lane.joined:
                    lane.first = end
                    self.touched.add(name)
                lane.latest = end
                lane.outputs += len(sampled)
        for name, reason in e.finished.items():
            if lane := self._alive.get(name):
                self._end(lane, end, reason)
        self.pool.apply(e)
        if e.held or e.released:
            self._keep()
        self._note(e, begin, end, tokens)

    def _arrive(self, name: str, prompt: int, max_tokens: int, t: float, step: int, joined: bool = False) -> Lane:
        lane = Lane(name, self.ordinals.setdefault(name, len(self.ordinals)), prompt, max_tokens, t, joined)
        self.lanes[name] = self._alive[name] = lane
        lane.wait = self._add(lane, Segment(lane.ordinal, QUEUED, t, t, step, step, open=True))
        self.touched.add(name)
        return lane

    def _preempt(self, lane: Lane, begin: float, step: int) -> None:
        self._close_run(lane)
        lane.highest = max(lane.highest, lane.computed)
        lane.computed = lane.blocks = 0
        lane.preemptions += 1
        lane.wait = self._add(lane, Segment(lane.ordinal, PREEMPTED, begin, begin, step, step, open=True))
        self._recount(lane)
        self.touched.add(lane.id)

    def _compute(self, lane: Lane, n: int, blocks: tuple[int, int], padding: int, begin: float, end: float, step: int,
                 tokens: dict[str, int]) -> None:
        """`n` tokens of a request, and `padding` beside them; `blocks` found in the prefix cache and newly given."""
        if lane.wait is not None:
            self._close(lane.wait, max(begin, lane.wait.t0), step)
            lane.wait = None
        elif 0 <= lane.busy < self._busy - 1 and lane.segments:
            before = lane.segments[-1]
            self._add(lane, Segment(lane.ordinal, STALLED, before.t1, begin, before.last + 1, step - 1, blocks=lane.blocks))
        lane.blocks += sum(blocks)
        lane.computed += blocks[0] * self.pool.block_size
        again = min(n, max(0, lane.highest - lane.computed))
        if again or lane.computed < lane.prompt:
            cut = begin + (end - begin) * n / (n + padding)
            self._close_run(lane)
            self._add(lane, Segment(lane.ordinal, RECOMPUTE if again else PREFILL, begin, cut, step, step, n, lane.blocks))
            if padding:
                self._add(lane, Segment(lane.ordinal, PADDING, cut, end, step, step, padding, lane.blocks))
            tokens["recompute"] += again
            tokens["prefill"] += n - again
            tokens["padded"] += padding
            lane.busy = self._busy
        else:
            self._go_on(lane, DECODE, n, begin, end, step)
            tokens["decode"] += n
            tokens["held"] += padding
        lane.computed += n
        self._recount(lane)

    def _go_on(self, lane: Lane, kind: int, n: int, begin: float, end: float, step: int) -> None:
        """One more step of decode or padding, right behind the last one or apart from it."""
        run = lane.run
        if run is None or run.kind != kind or lane.busy != self._busy - 1:
            self._close_run(lane)
            run = lane.run = self._add(lane, Segment(lane.ordinal, kind, begin, end, step, step, open=True))
            self._running[lane.id] = lane
        run.t1, run.last, run.blocks = end, step, lane.blocks
        run.tokens += n
        lane.busy = self._busy

    def _end(self, lane: Lane, t: float, reason: str) -> None:
        self._close_run(lane)
        if lane.wait is not None:
            self._close(lane.wait, max(t, lane.wait.t0), lane.wait.last)
            lane.wait = None
        lane.finished, lane.reason = max(t, lane.arrival), reason
        lane.blocks = 0
        self._recount(lane)
        del self._alive[lane.id]
        self.touched.add(lane.id)

    def _note(self, e: Step, begin: float, end: float, tokens: dict[str, int]) -> None:
        size, ledger = self.pool.block_size, self.pool.ledger()
        self.slots = max(self.slots, sum(ledger.values()))
        taken = ledger["useful"] + ledger["tail"]
        ledger["useful"] -= self._kept_tokens
        ledger["reserved"] = (self._empty + self._kept) * size
        ledger["tail"] = taken - ledger["useful"] - ledger["reserved"]
        tokens |= ledger | {"step": e.step, "sampled": sum(map(len, e.sampled.values())), "waiting": e.waiting, "running": e.running}
        self.starts.append(begin)
        self.ends.append(end)
        for name in COUNTS:
            self.columns[name].append(max(0, tokens[name]))
        self.now = end
        if len(self.ends) > self.limit:
            self._trim()

    # parts -----------------------------------------------------------------------------------------------------------
    def _snapshot(self, e: Snapshot) -> None:
        """Join a run under way, or bridge a gap: what happened before, or in between, is not known."""
        self.origin = e.t if self.origin is None else self.origin
        self.now = max(self.now, e.t)
        alive = {name: r for name, r in e.requests.items() if r.status != "held"}
        for name in [name for name in self._alive if name not in alive]:
            self._end(self._alive[name], e.t, "lost")
        self._keep()
        for name, r in alive.items():
            lane = self._alive.get(name) or self._arrive(name, r.prompt, r.max_tokens, r.t, e.step, joined=True)
            self._rejoin(lane, r, e)

    def _rejoin(self, lane: Lane, r: RequestState, e: Snapshot) -> None:
        outputs = len(r.token_ids) - r.prompt if r.token_ids else lane.outputs
        lane.joined = lane.first is None and outputs > 0
        lane.outputs, lane.preemptions, lane.blocks = outputs, r.preemptions, len(r.table)
        lane.computed, lane.highest = r.computed, max(lane.highest, r.computed)
        self._close_run(lane)
        if r.status == "running" and lane.wait is not None:
            self._close(lane.wait, max(e.t, lane.wait.t0), e.step)
            lane.wait = None
        elif r.status != "running" and lane.wait is None:
            lane.wait = self._add(lane, Segment(lane.ordinal, PREEMPTED, e.t, e.t, e.step, e.step, open=True))
        lane.busy = -1
        self._recount(lane)
        self.touched.add(lane.id)

    def _add(self, lane: Lane, segment: Segment) -> Segment:
        segment.index = len(self.segments)
        self.segments.append(segment)
        lane.segments.append(segment)
        self.changed.add(segment.index)
        return segment

    def _close(self, segment: Segment, t1: float, last: int) -> None:
        segment.t1, segment.last, segment.open = t1, last, False
        self.changed.add(segment.index)

    def _close_run(self, lane: Lane) -> None:
        if lane.run is not None:
            self._close(lane.run, lane.run.t1, lane.run.last)
            lane.run = None
            del self._running[lane.id]

    def _recount(self, lane: Lane) -> None:
        empty = max(0, lane.blocks - -(-lane.computed // self.pool.block_size))
        self._empty += empty - lane.empty
        lane.empty = empty

    def _keep(self) -> None:
        pool = self.pool
        over = {name for name, request in pool.requests.items() if request.held}
        kept = {block for name in over for block in pool.requests[name].table if all(owner in over for owner, _ in pool.owners(block))}
        self._kept, self._kept_tokens = len(kept), sum(pool.filled[block] for block in kept)

    def _trim(self) -> None:
        """Forget the oldest tenth of the steps, and the requests that ended in them."""
        cut = max(1, self.limit // 10)
        del self.starts[:cut], self.ends[:cut]
        for column in self.columns.values():
            del column[:cut]
        begin = self.starts[0]
        self.lanes = {name: lane for name, lane in self.lanes.items() if lane.finished is None or lane.segments[-1].t1 >= begin}
        self.segments = []
        for lane in self.lanes.values():
            lane.segments = [s for s in lane.segments if s.open or s.t1 >= begin]
            for segment in lane.segments:
                segment.index = len(self.segments)
                self.segments.append(segment)
        self.changed, self.touched = set(), set()
        self.trimmed += cut
        self.generation += 1
