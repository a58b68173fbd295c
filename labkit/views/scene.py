"""`Scene`: everything that the KV map says in words and numbers at one moment. The live view and the still figure both draw it."""
from __future__ import annotations

from dataclasses import dataclass, field

from labkit.trace import Header, PoolState, RequestView, letter
from labkit.trace.state import SHARED, STATES
from labkit.views.tokens import Vocabulary
from labkit.views.words import percent, thousands

ROWS = 64  # requests that a scene lists; the rest is counted
SOURCES = {"vllm": "vLLM", "glassbox": "glass box", "triton": "Triton", "tgi": "TGI"}


@dataclass(slots=True)
class Row:
    """One request in the list. `tail` is the tokens in its last block; `needs` the blocks that a waiting request asks for."""

    letter: str
    slot: int
    phase: str  # waiting, prefill or decode
    tokens: int
    blocks: int
    shared: int
    tail: int
    needs: int
    preemptions: int


@dataclass(slots=True)
class Card:
    """One block, close up. Owners are (letter, slot, logical index)."""

    block: int
    state: str
    filled: int
    begin: int  # first token position of the block in its owner, -1 when nobody owns it
    last_owner: str
    tokens: list[str]
    owners: list[tuple[str, int, int]]
    age: int  # steps since it was given
    hash: str
    parent: tuple[str, int]  # hash, block that holds it; ("", -1) for none
    child: tuple[str, int]


@dataclass(slots=True)
class Contiguous:
    """What the same requests would take if each reserved `reserve` slots at admission."""

    reserve: int
    requests: list[tuple[str, int]]  # letter and slots written, of those that fit, in order of arrival
    left: int  # slots that no further request can have
    running: int


@dataclass(slots=True)
class Scene:
    step: int
    blocks: int
    began: int  # blocks that the pool had at the start of the run; others since a running engine was quantized
    null: int
    block_size: int
    counts: dict[str, int]
    usage: float
    hit_rate: float
    running: int
    waiting: int
    preempted: int
    dropped: int
    badge: tuple[str, str]
    ledger: dict[str, int]
    contiguous: Contiguous
    rows: list[Row]
    hidden: tuple[int, int]  # running and waiting requests that are not in `rows`
    selected: Row | None
    table: list[int]
    card: Card | None
    footer: str
    alt: str = field(default="")


def badge(header: Header) -> tuple[str, str]:
    """Kind and words of the badge."""
    source = SOURCES.get(header.source, header.source)
    if header.badge == "live":
        version = header.versions.get(header.source) or (header.versions.get("labkit", "") if header.source == "glassbox" else "")
        version = ".".join(version.split(".")[:2])
        return "live", f"{source} {version}".strip()
    if header.badge == "stand-in":
        return "stand-in", header.name or source
    return "replay", ", ".join(part for part in (header.name or source, header.started[:10]) if part)


def compose(state: PoolState, vocabulary: Vocabulary, selected: str | None = None, focus: int | None = None) -> Scene:
    """The scene of `state`, with request id `selected` picked and block `focus` looked at closely."""
    header = state.header
    running = sorted((r for r in state.requests.values() if r.status == "running"), key=lambda r: r.slot)
    waiting = [r for r in state.requests.values() if r.status != "running"]
    shown = [*running[:ROWS], *waiting[:max(0, ROWS - len(running))]]
    request = state.requests.get(selected) if selected else None
    scene = Scene(
        step=state.step, blocks=state.num_blocks, began=state.first_num_blocks, null=state.null_blocks, block_size=state.block_size,
        counts=state.counts(),
        usage=state.usage, hit_rate=state.hit_rate, running=len(running), waiting=len(waiting), preempted=state.preempted,
        dropped=state.dropped, badge=badge(header), ledger=state.ledger(), contiguous=contiguous(state, running),
        rows=[row(state, r) for r in shown],
        hidden=(max(0, len(running) - ROWS), len(waiting) - sum(r.status != "running" for r in shown)),
        selected=row(state, request) if request else None, table=request.table if request else [],
        card=None if focus is None or not 0 <= focus < state.num_blocks else card(state, vocabulary, focus),
        footer=footer(state))
    scene.alt = alt(scene)
    return scene


def row(state: PoolState, r: RequestView) -> Row:
    size = state.block_size
    shared = sum(state.state[block] == SHARED for block in r.table)
    tokens = r.computed if r.status == "running" else len(r.token_ids) or r.prompt
    return Row(r.letter, r.slot, r.phase, tokens, len(r.table), shared, state.filled[r.table[-1]] if r.table else 0,
               0 if r.status == "running" else -(-tokens // size), r.preemptions)


def card(state: PoolState, vocabulary: Vocabulary, block: int) -> Card:
    view = state.block(block)
    owners = [(state.requests[name].letter, state.requests[name].slot, logical) for name, logical in view.owners]
    child = _child(state, view.owners, view.hash)
    ordinal = view.last_owner
    return Card(block, STATES[view.state], view.filled, owners[0][2] * state.block_size if owners else -1,
                letter(ordinal) if ordinal < len(state.ordinals) else "", [vocabulary.text(t) for t in view.token_ids], owners,
                state.step - view.born, view.hash or "", (view.parent or "", _or(state.holder(view.parent))), child)


def _child(state: PoolState, owners: list[tuple[str, int]], hash_: str | None) -> tuple[str, int]:
    """The block after this one: in its owner's table, or among the cached."""
    for name, logical in owners:
        table = state.requests[name].table
        if logical + 1 < len(table):
            return state.block(table[logical + 1]).hash or "", table[logical + 1]
    child = state.child(hash_)
    return ("", -1) if child is None else (state.block(child).hash or "", child)


def _or(block: int | None) -> int:
    return -1 if block is None else block


def contiguous(state: PoolState, running: list[RequestView]) -> Contiguous:
    """Reserving the model's whole context for each request, first come first served, as servers did before paging."""
    slots = (state.num_blocks - state.null_blocks) * state.block_size
    reserve = int(state.header.configuration.get("max_model_len") or max((r.prompt + r.max_tokens for r in running), default=0))
    fit = slots // reserve if reserve else 0
    first = sorted(running, key=lambda r: r.t)[:fit]
    return Contiguous(reserve, [(r.letter, r.computed) for r in first], slots - reserve * len(first), len(running))


def footer(state: PoolState) -> str:
    words = "Colour and letter = owner; lower case = last owner; saturated = selected request."
    if state.null_blocks:
        what = "Block 0 is" if state.null_blocks == 1 else f"Blocks 0 to {state.null_blocks - 1} are"
        words += f" {what} never given out (null), left out of all totals."
    if state.num_blocks > state.first_num_blocks:
        words += f" Behind the line: {thousands(state.num_blocks - state.first_num_blocks)} blocks of bytes that quantizing freed."
    total = state.num_blocks - state.null_blocks
    return f"{words} KV use = blocks held by requests / {thousands(total)} blocks."


def pool_words(before: int, after: int) -> str:
    """How large the pool is, and what it was."""
    return f"{thousands(after)} blocks" if before == after else f"{thousands(before)} → {thousands(after)} blocks"


def alt(scene: Scene) -> str:
    """The picture in one sentence of numbers."""
    c, total = scene.counts, scene.blocks - scene.null
    used = c["used"] + c["tail"] + c["shared"]
    text = (f"KV map, {scene.badge[0]}, {scene.badge[1]}, step {scene.step}: {used} of {total} blocks in use ({percent(scene.usage)}), "
            f"{c['shared']} shared, {c['cached']} cached, {c['free']} free; {scene.running} requests running, {scene.waiting} waiting, "
            f"{scene.preempted} preempted so far.")
    if scene.blocks != scene.began:
        text += f" The pool had {scene.began} blocks at the start and has {scene.blocks} now."
    if scene.selected:
        text += f" Request {scene.selected.letter} is selected: {scene.selected.tokens} tokens in {scene.selected.blocks} blocks."
    if scene.dropped:
        text += f" {scene.dropped} trace records were dropped."
    return text
