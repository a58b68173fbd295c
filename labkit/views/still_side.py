"""The right column of a still figure: requests, and the card of one block."""
from __future__ import annotations

from labkit.trace import PoolState
from labkit.views.pen import Pen, text_width
from labkit.views.picture import EDGE, WIDTH
from labkit.views.scene import Card, Row, Scene
from labkit.views.still_cells import CODES, Cell, draw
from labkit.views.still_layout import RIGHT, ROW, Layout
from labkit.views.words import thousands

TOP = 54


def chip(pen: Pen, letter: str, slot: int, x: float, y: float, size: float, full: bool = False) -> None:
    """A request's letter in its colour; dashed and plain before it has one."""
    owner = pen.colours["owners"][slot % 6] if slot >= 0 else None
    pen.box(x + 0.5, y + 0.5, size - 1, size - 1, 2.5, fill=owner["fill" if full else "soft"] if owner else None,
            edge=owner["edge"] if owner else pen.colours["edge"], dash=None if owner else (2, 2))
    fill = pen.colours["ink2"] if not owner else owner["on"] if full else pen.colours["ink"]
    pen.text(letter[-2:], x + size / 2, y + size / 2 + 4, size=11 if len(letter) == 1 else 10.5, weight=700, align="center", fill=fill)


def requests(pen: Pen, scene: Scene, layout: Layout) -> None:
    c = pen.colours
    pen.text("Requests", RIGHT, TOP + 12, weight=600)
    for name, at in (("tokens", 166), ("blocks", 214), ("shared", 262), ("tail", 344)):
        pen.text(name, RIGHT + at, TOP + 12, size=11, fill=c["muted"], align="right")
    rows, more = _visible(scene, layout)
    for i, r in enumerate(rows):
        _row(pen, r, scene, TOP + 20 + i * ROW)
    if more:
        pen.text(f"and {thousands(more)} more", RIGHT + 26, TOP + 35 + len(rows) * ROW, size=11, fill=c["muted"])
    if not rows:
        pen.text("none yet", RIGHT, TOP + 35, fill=c["muted"])


def _visible(scene: Scene, layout: Layout) -> tuple[list[Row], int]:
    every = len(scene.rows) + sum(scene.hidden)
    if every <= layout.request_rows:
        return scene.rows, 0
    rows = scene.rows[:layout.request_rows - 1]
    if scene.selected and all(r.letter != scene.selected.letter for r in rows):
        rows[-1] = scene.selected
    return rows, every - len(rows)


def _row(pen: Pen, r: Row, scene: Scene, top: float) -> None:
    c, chosen = pen.colours, scene.selected is not None and r.letter == scene.selected.letter
    weight = 600 if chosen else 400
    if chosen:
        pen.box(RIGHT - 6, top, 350, ROW - 1, 4, fill=c["panel"])
    chip(pen, r.letter, r.slot, RIGHT, top + 2.5, 16, chosen)
    quiet = r.phase == "waiting"
    w = pen.text(r.phase, RIGHT + 26, top + 15, weight=weight, fill=c["muted" if quiet else "ink2"])
    if r.preemptions:
        pen.text(f"×{r.preemptions}", RIGHT + 30 + w, top + 15, size=11, weight=600, fill=c["alert"])
    pen.text(thousands(r.tokens), RIGHT + 166, top + 15, weight=weight, fill=c["muted" if quiet else "ink"], align="right")
    if quiet:
        pen.text(f"needs {thousands(r.needs)} blocks", RIGHT + 344, top + 15, size=11, fill=c["muted"], align="right")
        return
    pen.text(thousands(r.blocks), RIGHT + 214, top + 15, weight=weight, align="right")
    pen.text(thousands(r.shared) if r.shared else "–", RIGHT + 262, top + 15, weight=weight, align="right")
    pen.rect(RIGHT + 280, top + 8, 26 * r.tail / scene.block_size, 6, fill=c["owners"][r.slot % 6]["edge"])
    pen.rect(RIGHT + 280, top + 8, 26, 6, edge=c["edge"], width=0.8)
    pen.text(f"{r.tail}/{scene.block_size}", RIGHT + 344, top + 15, size=11, fill=c["ink2"], align="right")


def card(pen: Pen, scene: Scene, state: PoolState, layout: Layout) -> None:
    c, card, x, y = pen.colours, scene.card, RIGHT - 8, layout.card_y
    pen.box(x, y, WIDTH - EDGE - x, layout.card_height, 6, fill=c["panel"])
    left, right = x + 12, WIDTH - EDGE - 10
    if card is None:
        pen.text("no block is looked at", left, y + 21, size=12.5, weight=600, fill=c["ink2"])
        return
    slots = [slot for _, slot, _ in card.owners]
    chosen = scene.selected is not None and card.block in scene.table
    letter = card.owners[0][0] if card.owners else card.last_owner
    cell = Cell(CODES[card.state], slots[0] if slots else -1, letter, card.filled / scene.block_size, len(slots), slots[:3], chosen,
                scene.selected.slot if scene.selected else -1)
    draw(pen, cell, left, y + 6, 20)
    pen.box(left - 2, y + 4, 24, 24, 4, edge=c["ink"], width=1.75)
    title = [(f"block {card.block}", {"weight": 600}), (f" · {headline(card, scene.block_size)}", {"fill": c["ink2"]})]
    pen.runs(title, left + 31, y + 21, size=12.5)
    _tokens(pen, card, left, y + 37, right, layout.token_lines)
    line = y + layout.card_height - 61
    _owners(pen, scene, card, left, line, right)
    _chain(pen, card, left, line + 17)


def headline(card: Card, size: int) -> str:
    """What a block is, in a few words."""
    if card.state == "null":
        return "null block, never given out"
    if card.state == "free":
        return "free"
    if card.filled == 0:
        return "given, nothing written yet"
    tokens = f"tokens {card.begin}–{card.begin + card.filled - 1}" if card.begin >= 0 else f"{card.filled} tokens"
    if card.state == "tail":
        return f"{tokens} · {card.filled} of {size} filled"
    return f"cached · {tokens}" if card.state == "cached" else tokens


def _tokens(pen: Pen, card: Card, x: float, y: float, right: float, lines: int) -> None:
    c, at, line = pen.colours, x, 0
    for i, token in enumerate(card.tokens):
        w, rest = text_width(token, 11, 400, True) + 8, len(card.tokens) - i
        if at + w > right and at > x:
            at, line = x, line + 1
        if line >= lines or (line == lines - 1 and rest > 1 and at + w + 34 > right):
            pen.text(f"+{rest}", at + 2, y + min(line, lines - 1) * 19 + 10, size=11, fill=c["muted"])
            return
        top = y + line * 19
        pen.box(at + 0.5, top - 1.5, w - 1, 15, 2.5, fill=c["paper"], edge=c["line"])
        pen.text(token, at + w / 2, top + 10, size=11, mono=True, align="center")
        at += w + 3


def _owners(pen: Pen, scene: Scene, card: Card, x: float, y: float, right: float) -> None:
    c = pen.colours
    pen.text("owners", x, y, size=11, fill=c["muted"])
    facts = [("refs ", {"fill": c["muted"]}), (str(len(card.owners)), {"weight": 600})]
    if card.state not in ("free", "null"):
        facts += [("age", {"fill": c["muted"], "dx": 14}), (f" {thousands(card.age)} step{'' if card.age == 1 else 's'}", {"weight": 600})]
    begin = right - pen.runs(facts, right, y, size=11, align="right")
    at = x + 58
    for i, (letter, slot, logical) in enumerate(card.owners):
        words = f"[{logical}]"
        wide = 29 + text_width(words, 11)
        if at + wide > begin - (30 if i < len(card.owners) - 1 else 4):
            pen.text(f"+{len(card.owners) - i}", at, y, size=11, fill=c["ink2"])
            break
        chip(pen, letter, slot, at, y - 11.5, 15, scene.selected is not None and letter == scene.selected.letter)
        pen.text(words, at + 19, y, size=11, fill=c["ink2"])
        at += wide
    if not card.owners:
        pen.text(f"none (last: {card.last_owner})" if card.last_owner else "none", at, y, size=11, fill=c["ink2"])


def _chain(pen: Pen, card: Card, x: float, y: float) -> None:
    c = pen.colours
    pen.text("hash", x, y + 8.5, size=11, fill=c["muted"])
    if not card.hash:
        words = "none" if card.state in ("free", "null") else "none yet: only a full block is cached"
        pen.text(words, x + 58, y + 8.5, size=11, fill=c["ink2"])
        return
    above = "parent · gone" if card.parent[1] < 0 else f"parent · {card.parent[1]}"
    parent = (card.parent[0], above) if card.parent[0] else ("–", "no parent")
    child = (card.child[0] or "not yet", f"child · {card.child[1]}") if card.child[1] >= 0 else ("–", "no child")
    for i, (hash_, words) in enumerate((parent, (card.hash, "this block"), child)):
        left, me, w = x + 58 + i * 96, i == 1, 76
        pen.box(left + 0.5, y - 4.5, w - 1, 18, 9, fill=c["ink" if me else "paper"], edge=c["ink" if me else "edge"])
        pen.text(hash_[:8], left + w / 2, y + 8.5, size=10.5, mono=True, align="center", fill=c["paper" if me else "ink"])
        pen.text(words, left + w / 2, y + 27, size=10.5, align="center", fill=c["muted"])
        if i < 2:
            pen.line([(left + w + 2, y + 4.5), (left + w + 17, y + 4.5)], c["ink2"])
            pen.line([(left + w + 14, y + 1.5), (left + w + 18, y + 4.5), (left + w + 14, y + 7.5)], c["ink2"])
