"""Cells of the block grid in a still figure: the encodings of canvas/cells.js."""
from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from labkit.trace import PoolState, letter
from labkit.trace.state import CACHED, FREE, NULL, SHARED, STATES, TAIL
from labkit.views.pen import Pen, mix
from labkit.views.scene import Scene
from labkit.views.still_layout import Layout

CODES = {name: code for code, name in enumerate(STATES)}
LETTERED, PIXELS = 14, 7  # px: as in canvas/cells.js


@dataclass(slots=True)
class Cell:
    """What one cell shows. `slot` is -1 where nobody owns the block, `fill` 0 to 1."""

    state: int
    slot: int = -1
    letter: str = ""
    fill: float = 1.0
    refs: int = 1
    bands: list[int] = field(default_factory=list)
    selected: bool = False
    selected_slot: int = -1


def grid(pen: Pen, scene: Scene, state: PoolState, layout: Layout) -> None:
    every = max(1, -(-15 // layout.pitch))
    for row in range(0, layout.rows, every):
        pen.text(str(row * layout.cols), layout.grid_x - 9, layout.grid_y + row * layout.pitch + min(layout.size, 15) / 2 + 4, size=10.5,
                 fill=pen.colours["muted"], align="right")
    if 0 < scene.began < scene.blocks:
        _line(pen, scene, layout)
    if layout.size < LETTERED:
        _pixels(pen, scene, state, layout)
        return
    slots = {r.ordinal: r.slot for r in state.requests.values()}
    chosen, names = set(scene.table), list(state.ordinals)
    for block in range(scene.blocks):
        code, ordinal, x_y = state.state[block], state.owner[block], layout.cell(block)
        owners = state.owners(block)
        cell = Cell(code, slots.get(ordinal, -1) if owners else -1, letter(ordinal) if ordinal < len(names) else "",
                    state.filled[block] / scene.block_size, len(owners), [state.requests[name].slot for name, _ in owners[:3]],
                    block in chosen, scene.selected.slot if scene.selected else -1)
        draw(pen, cell, *x_y, layout.size)


def _line(pen: Pen, scene: Scene, layout: Layout) -> None:
    """The line behind which the blocks are that the pool has grown by."""
    left, right = layout.grid_x - layout.gap / 2, layout.grid_x + layout.grid_width + layout.gap / 2
    x, y = (corner - layout.gap / 2 for corner in layout.cell(scene.began))
    points = [(left, y + layout.pitch), (x, y + layout.pitch), (x, y), (right, y)] if scene.began % layout.cols else [(left, y), (right, y)]
    pen.line(points, pen.colours["ink"], 2)


def ring(pen: Pen, layout: Layout, block: int) -> None:
    x, y = layout.cell(block)
    size = max(layout.size, 4)
    pen.box(x - 1.5, y - 1.5, size + 3, size + 3, 4.5 if layout.size >= LETTERED else 2, edge=pen.colours["ink"], width=2)


def draw(pen: Pen, cell: Cell, x: float, y: float, s: float) -> None:
    c = pen.colours
    owner = c["owners"][cell.slot % 6] if cell.slot >= 0 else None
    if cell.state in (NULL, FREE):
        null = cell.state == NULL
        pen.box(x + 0.5, y + 0.5, s - 1, s - 1, 2.5, fill=c["panel" if null else "paper"], edge=c["line" if null else "edge"], width=0.9)
        if null:
            _glyph(pen, "∅", x, y, s, c["muted"], 400)
    elif cell.state == CACHED:
        edge = mix(c["edge"], c["paper"], 0.85)
        pen.hatch(x + 0.5, y + 0.5, s - 1, s - 1, edge, width=1.5)
        pen.box(x + 0.5, y + 0.5, s - 1, s - 1, 2.5, edge=edge)
        pen.circle(x + s / 2, y + s / 2, s * (0.36 if len(cell.letter) > 1 else 0.29), fill=c["paper"])
        _glyph(pen, cell.letter.lower(), x, y, s, c["ink2"], 500)
    elif cell.state == SHARED:
        _shared(pen, cell, x, y, s)
    elif cell.state == TAIL:
        high = (s - 2) * min(1.0, cell.fill)
        pen.rect(x + 1, y + 1, s - 2, s - 2, fill=c["paper"])
        pen.rect(x + 1, y + s - 1 - high, s - 2, high, fill=owner["fill" if cell.selected else "soft"])
        pen.box(x + 0.75, y + 0.75, s - 1.5, s - 1.5, 2.5, edge=owner["edge"], width=1.5, dash=(2.5, 2))
        _glyph(pen, cell.letter, x, y, s, owner["on"] if cell.selected and cell.fill > 0.6 else c["ink"], 700)
    else:
        pen.box(x + 0.5, y + 0.5, s - 1, s - 1, 2.5, fill=owner["fill" if cell.selected else "soft"], edge=owner["edge"])
        if cell.slot >= 6:
            for k in range(3, int(s) - 1, 5):
                pen.rect(x + k, y + 1, 1, s - 2, fill=owner["edge"], alpha=0.55)
        _glyph(pen, cell.letter, x, y, s, owner["on"] if cell.selected else c["ink"], 700 if cell.selected else 600)


def _shared(pen: Pen, cell: Cell, x: float, y: float, s: float) -> None:
    c, wide = pen.colours, s / max(1, len(cell.bands))
    frame = pen.box(x + 0.75, y + 0.75, s - 1.5, s - 1.5, 2.5, fill=c["paper"], edge=c["ink"], width=1.25)
    for i, slot in enumerate(cell.bands):
        fill = c["owners"][slot % 6]["fill"]
        quiet = cell.selected and slot != cell.selected_slot
        pen.rect(x + i * wide, y + s * 0.6, wide + 0.2, s * 0.4, fill=mix(fill, c["paper"], 0.75) if quiet else fill, clip=frame)
        if i:
            pen.rect(x + i * wide - 0.5, y + s * 0.6, 1, s * 0.4, fill=c["paper"], clip=frame)
    pen.box(x + 0.75, y + 0.75, s - 1.5, s - 1.5, 2.5, edge=c["ink"], width=1.25)
    refs = f"×{cell.refs}" if cell.refs < 100 else "×99+"
    size = 13 if s >= 28 else 11 if s >= 20 and cell.refs < 10 else 10.5
    pen.text(refs, x + s / 2, y + s * 0.6 - 2.2, size=size, weight=700, align="center")


def _glyph(pen: Pen, text: str, x: float, y: float, s: float, fill: str, weight: int) -> None:
    short = text[-2:]
    size = 13 if s >= 28 else 10.5 if len(short) > 1 or s < 20 else 11
    pen.text(short, x + s / 2, y + s / 2 + (4.5 if s >= 28 else 4), size=size, weight=weight, fill=fill, align="center")


def _pixels(pen: Pen, scene: Scene, state: PoolState, layout: Layout) -> None:
    """Small cells as one image, 4 image pixels to a layout pixel's width at most."""
    c, dots = pen.colours, max(2, layout.pitch * 2)
    rgb = lambda colour: [int(colour[i:i + 2], 16) for i in (1, 3, 5)]  # noqa: E731
    image = np.full((layout.rows * dots, layout.cols * dots, 3), rgb(c["paper"]), "u1")
    slots, chosen = {r.ordinal: r.slot for r in state.requests.values()}, set(scene.table)
    step, inner = (6 if dots < 8 else 10), dots - (2 if layout.pitch > 2 else 0)
    yy, xx = np.indices(image.shape[:2])
    stripes = (xx + yy) % step < max(1, step // 5)
    for block in range(scene.blocks):
        x, y, code = block % layout.cols * dots, block // layout.cols * dots, state.state[block]
        part = image[y:y + inner, x:x + inner]
        if code == FREE:
            part[:] = rgb(mix(c["line"], c["paper"], 0.55))
        elif code == NULL:
            part[:] = rgb(c["line"])
        elif code == CACHED:
            part[stripes[y:y + inner, x:x + inner]] = rgb(c["edge"])
        else:
            owner = c["owners"][slots[state.owner[block]] % 6]
            full = int(round(inner * min(1.0, state.filled[block] / scene.block_size))) if code == TAIL else inner
            part[inner - full:] = rgb(owner["fill" if block in chosen else "soft"])
            if code == SHARED:
                part[:max(1, inner // 3)] = rgb(c["ink"])
    x, y = layout.grid_x, layout.grid_y
    extent = (x, x + layout.cols * layout.pitch, y + layout.rows * layout.pitch, y)
    pen.axes.imshow(image, extent=extent, interpolation="nearest", aspect="auto", zorder=0.5)
