"""Where everything stands in a still figure: the live layout (canvas/layout.js) at its widest."""
from __future__ import annotations

from dataclasses import dataclass

from labkit.views.scene import Scene

ROW, BOX = 22, 55
GRID_X, RIGHT = 54, 732
PITCHES = (36, 27, 24, 21, 18, 16, 14, 12, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1)


@dataclass(slots=True)
class Layout:
    """Pixels; y downwards. `size` is a cell without its gutter `gap`."""

    pitch: int
    gap: int
    cols: int
    rows: int
    strip_y: int
    request_rows: int
    card_y: int
    card_height: int
    token_lines: int
    ledger_y: int
    track_y: int
    foot: int
    height: int
    grid_x: int = GRID_X
    grid_y: int = 92
    left_width: int = RIGHT - 34 - GRID_X

    @property
    def size(self) -> int:
        return self.pitch - self.gap

    @property
    def grid_height(self) -> int:
        return self.rows * self.pitch - self.gap

    @property
    def grid_width(self) -> int:
        return self.cols * self.pitch - self.gap

    def cell(self, block: int) -> tuple[int, int]:
        """Upper left corner."""
        return self.grid_x + block % self.cols * self.pitch, self.grid_y + block // self.cols * self.pitch


def make_layout(blocks: int, block_size: int) -> Layout:
    width = RIGHT - 34 - GRID_X
    highest = 330 if blocks <= 256 else 400 if blocks <= 8192 else 440
    for pitch in PITCHES:
        gap = 5 if pitch >= 36 else 4 if pitch >= 24 else 3 if pitch >= 16 else 2 if pitch >= 12 else 1 if pitch >= 8 else 0
        room = (width + gap) // pitch
        step = 32 if pitch < 8 else 8 if room >= 24 else 4
        cols = max(1, min(blocks, room // step * step or room))
        rows = -(-blocks // cols)
        if rows * pitch <= (300 if pitch == PITCHES[0] else highest) or pitch == 1:
            break
    strip = 92 + rows * pitch - gap + 44
    left_end = strip + 64
    lines = min(4, max(2, -(-block_size // 8)))
    card = 126 + 19 * lines
    request_rows = max(8, (left_end - card - 26 - 54) // ROW)
    card_y = max(54 + 24 + request_rows * ROW + 8, left_end - card)
    ledger = max(left_end, card_y + card) + 32
    track = ledger + 88
    return Layout(pitch, gap, cols, rows, strip, request_rows, card_y, card, lines, ledger, track, track + 88, track + 100)


def strip_slots(scene: Scene, layout: Layout) -> list[tuple[int | None, int, float]]:
    """(logical block, 0, x) of the blocks that the strip shows, (None, how many are left out, x) between them."""
    count, fit = len(scene.table), max(3, (layout.left_width + 6) // BOX)
    if count <= fit:
        return [(logical, 0, logical * BOX) for logical in range(count)]
    focus = scene.card.block if scene.card else -1
    shown = {scene.table.index(focus)} if focus in scene.table else set()
    ends = iter(i for k in range(count) for i in (k, count - 1 - k))
    while len(shown) < fit - 1:
        shown.add(next(ends))
    out: list[tuple[int | None, int, float]] = []
    x, before = 0.0, -1
    for logical in sorted(shown):
        if logical > before + 1:
            out.append((None, logical - before - 1, x))
            x += BOX / 2
        out.append((logical, 0, x))
        x, before = x + BOX, logical
    return out
