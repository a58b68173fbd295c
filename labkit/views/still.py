"""`Still`: the KV map as a matplotlib figure, with the layout, colours and words of the live one."""
from __future__ import annotations

from matplotlib.path import Path as Outline

from labkit.trace import PoolState
from labkit.trace.state import SHARED, TAIL
from labkit.views import still_cells, still_run, still_side
from labkit.views.history import History
from labkit.views.pen import Pen
from labkit.views.picture import EDGE, Picture, banner
from labkit.views.scene import Scene, pool_words
from labkit.views.still_layout import BOX, Layout, make_layout, strip_slots
from labkit.views.words import percent, thousands


class Still(Picture):
    """The map at one position of a run."""

    def __init__(self, scene: Scene, state: PoolState, history: History, position: int, theme: str = "light"):
        layout = make_layout(scene.blocks, scene.block_size)
        super().__init__(layout.height, scene.alt, theme)
        pen, colours = self.pen, self.pen.colours
        banner(pen, "KV map", _counters(pen, scene), scene.badge)
        _legend(pen, scene, layout)
        _links(pen, scene, layout)
        still_cells.grid(pen, scene, state, layout)
        _strip(pen, scene, state, layout)
        still_side.requests(pen, scene, layout)
        still_side.card(pen, scene, state, layout)
        still_run.ledger(pen, scene, layout)
        still_run.timeline(pen, scene, history, position, layout)
        pen.text(scene.footer, EDGE, layout.foot, size=10.5, fill=colours["muted"])
        if scene.card:
            still_cells.ring(pen, layout, scene.card.block)


def _counters(pen: Pen, scene: Scene) -> list:
    c = pen.colours
    strong = {"weight": 600, "fill": c["ink"]}
    runs = [(f"{pool_words(scene.began, scene.blocks)} × {scene.block_size} tokens", {})]
    for number, words in ((thousands(scene.running), "running"), (thousands(scene.waiting), "waiting"), (percent(scene.usage), "KV use"),
                          (percent(scene.hit_rate), "prefix hits"), (thousands(scene.preempted), "preempted so far")):
        alarm = {"fill": c["alert"]} if words.startswith("preempted") and scene.preempted else {}
        runs += [(number, {**strong, **alarm, "dx": 16}), (f" {words}", {})]
    if scene.dropped:
        runs.append((f"{thousands(scene.dropped)} trace records dropped", {"weight": 600, "fill": c["alert"], "dx": 16}))
    return runs


def _legend(pen: Pen, scene: Scene, layout: Layout) -> None:
    x, y = layout.grid_x, 57
    rows = [r for r in scene.rows if r.slot >= 0]
    other = next((r for r in rows if scene.selected is None or r.letter != scene.selected.letter), rows[0] if rows else None)
    slot, name = (other.slot, other.letter) if other else (5, "A")
    second = next((r.slot for r in rows if r is not other), (slot + 1) % 6)
    for state, words in pen.colours["legend"]:
        if state == "null" and not scene.null:
            continue
        cell = still_cells.Cell(still_cells.CODES[state], slot, "a" if state == "cached" else name, fill=0.45, refs=2, bands=[slot, second])
        still_cells.draw(pen, cell, x, y, 19)
        runs = [(thousands(scene.counts[state]), {"weight": 600}), (f" {words}", {"fill": pen.colours["ink2"]})]
        x += 25 + pen.runs(runs, x + 25, 71) + 13


def _links(pen: Pen, scene: Scene, layout: Layout) -> None:
    if not scene.selected:
        return
    owner, c = pen.colours["owners"][max(0, scene.selected.slot) % 6], pen.colours
    bottom, top, per_column = layout.grid_y + layout.grid_height, layout.strip_y, {}
    focus = scene.card.block if scene.card else -1
    slots = [(logical, x) for logical, _, x in strip_slots(scene, layout) if logical is not None]
    for logical, x in sorted(slots, key=lambda s: scene.table[s[0]] == focus):
        block = scene.table[logical]
        strong = block == focus
        if layout.gap < 3 and not strong:
            continue
        cx, cy = layout.cell(block)
        nth = per_column[block % layout.cols] = per_column.get(block % layout.cols, -1) + 1
        gutter = cx + layout.size + layout.gap / 2 + (min(layout.gap / 2 - 0.6, nth * 0.6) if nth else 0)
        to, foot = layout.grid_x + x + (BOX - 6) / 2, cy + layout.size
        colour = c["ink"] if strong else owner["edge"]
        vertices = [(cx + layout.size - min(3, layout.size / 3), foot), (gutter, foot), (gutter, min(foot + 5, bottom + 3)),
                    (gutter, bottom + 3), (gutter, bottom + 26), (to, top - 28), (to, top - 5)]
        codes = [Outline.MOVETO, Outline.CURVE3, Outline.CURVE3, Outline.LINETO, Outline.CURVE4, Outline.CURVE4, Outline.CURVE4]
        pen.curve(vertices, codes, colour, 1.8 if strong else 1.25)
        pen.polygon([(to - 3.2, top - 6), (to + 3.2, top - 6), (to, top - 1)], fill=colour)


def _strip(pen: Pen, scene: Scene, state: PoolState, layout: Layout) -> None:
    c, s, x0, y, w, h = pen.colours, scene.selected, layout.grid_x, layout.strip_y, BOX - 6, 34
    if s is None:
        pen.box(x0, y, layout.left_width, h, 6, fill=c["panel"])
        words = "no request is selected" if scene.rows else "block tables appear here as soon as a request runs"
        pen.text(words, x0 + 12, y + 21, fill=c["muted"])
        return
    owner, focus = c["owners"][max(0, s.slot) % 6], scene.card.block if scene.card else -1
    pen.text("log.", x0 - 9, y + 14, size=10.5, fill=c["muted"], align="right")
    pen.text("phys.", x0 - 9, y + 28, size=10.5, fill=c["muted"], align="right")
    for logical, gap, x in strip_slots(scene, layout):
        left = x0 + x
        if logical is None:
            pen.text("···", left + BOX / 4 - 3, y + 14, weight=700, fill=c["ink2"], align="center")
            pen.text(f"+{gap}", left + BOX / 4 - 3, y + 28, size=10.5, fill=c["muted"], align="center")
            continue
        block = scene.table[logical]
        code, strong, high = state.state[block], block == focus, h * min(1.0, state.filled[block] / scene.block_size)
        frame = pen.box(left, y, w, h, 3, fill=c["paper"])
        pen.rect(left, y + h - high, w, high, fill=owner["soft"], clip=frame)
        pen.box(left + 0.5, y + 0.5, w - 1, h - 1, 3, edge=c["ink"] if strong or code == SHARED else owner["edge"],
                width=2 if strong else 1.5 if code == SHARED else 1, dash=(2.5, 2) if code == TAIL else None)
        refs = f" ×{len(state.owners(block))}" if code == SHARED else ""
        pen.runs([(str(logical), {"weight": 700}), (refs, {})], left + w / 2, y + 14, size=11, align="center")
        pen.text(pen.fitting([f"→ {block}", str(block)], w - 4, 11), left + w / 2, y + 28, size=11, align="center")
    still_side.chip(pen, s.letter, s.slot, x0, y + 42, 16, full=True)
    parts = [f"{thousands(s.tokens)} tokens in {s.blocks} block{'' if s.blocks == 1 else 's'}"]
    parts += [f"{s.shared} shared"] if s.shared else []
    parts += [f"tail holds {s.tail} of {scene.block_size}"] if s.blocks else []
    pen.runs([(f"block table of {s.letter}", {"weight": 600}), (" · " + " · ".join(parts), {"fill": c["ink2"]})], x0 + 23, y + 54.5)
