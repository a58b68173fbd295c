// Where everything stands, in CSS pixels, for a width and a pool. Nothing here depends on what the pool holds, so nothing jumps.
import { EDGE } from "./banner.js";

export const ROW = 22; // a request in the list
export const BOX = 55; // a block in the block table strip, with its gap
const PITCHES = [36, 27, 24, 21, 18, 16, 14, 12, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1];

/** Cell size, columns and rows for n blocks in a width: the largest cells that stay within a height. */
export function gridFor(n, width) {
  const height = n <= 256 ? 330 : n <= 8192 ? 400 : 440;
  for (const pitch of PITCHES) {
    const gap = pitch >= 36 ? 5 : pitch >= 24 ? 4 : pitch >= 16 ? 3 : pitch >= 12 ? 2 : pitch >= 8 ? 1 : 0;
    const room = Math.floor((width + gap) / pitch);
    const step = pitch < 8 ? 32 : room >= 24 ? 8 : 4;
    const cols = Math.max(1, Math.min(n, Math.floor(room / step) * step || room));
    const rows = Math.ceil(n / cols);
    if (rows * pitch <= (pitch === PITCHES[0] ? 300 : height) || pitch === 1) return { pitch, gap, size: pitch - gap, cols, rows, width: cols * pitch - gap, height: rows * pitch - gap };
  }
}

/** lines: how many lines the legend and the footer take at this width, and the y of the rule under the header, measured before. */
export function makeLayout(width, n, blockSize, lines) {
  const two = width >= 780;
  const rightWidth = two ? Math.min(344, Math.max(280, Math.round(width * 0.3134))) : width - 2 * EDGE;
  const gx = 54;
  const leftWidth = two ? width - EDGE - rightWidth - 34 - gx : width - EDGE - gx;
  const { rule } = lines;
  const legend = { x: gx, y: rule + 11, width: leftWidth, line: 24 };
  const grid = { x: gx, y: legend.y + lines.legend * legend.line + 11, ...gridFor(n, leftWidth) };
  const strip = { x: gx, y: grid.y + grid.height + 44, width: leftWidth, height: 34, room: leftWidth + 6 };
  const caption = { x: gx, y: strip.y + 42 };
  const leftEnd = caption.y + 22;
  const tokenLines = Math.min(4, Math.max(2, Math.ceil(blockSize / 8)));
  const cardHeight = 126 + 19 * tokenLines;
  const right = two ? { x: width - EDGE - rightWidth, y: rule + 8 } : { x: EDGE + 8, y: leftEnd + 16 };
  const room = two ? Math.max(8, Math.floor((leftEnd - cardHeight - 26 - right.y) / ROW)) : 7;
  const side = !two && width >= 700; // list and card side by side below the strip
  const listWidth = side ? Math.floor((width - 2 * EDGE - 34) / 2) : rightWidth - (two ? 0 : 8);
  const requests = { x: right.x, y: right.y, width: listWidth, rows: room };
  const listEnd = right.y + 24 + room * ROW;
  const card = side
    ? { x: right.x + listWidth + 18, y: right.y, width: width - EDGE - (right.x + listWidth + 18), height: cardHeight, tokenLines }
    : { x: right.x - 8, y: two ? Math.max(listEnd + 8, leftEnd - cardHeight) : listEnd + 8, width: (two ? rightWidth : listWidth) + 8, height: cardHeight, tokenLines };
  const middle = Math.max(leftEnd, card.y + card.height, side ? listEnd : 0);
  const bar = { x: 132, width: width - EDGE - 132 };
  const ledger = { ...bar, y: middle + 32 };
  const narrow = width < 660; // the buttons of the timeline take a row of their own above its legend
  const track = { ...bar, y: ledger.y + 88 + (narrow ? 24 : 0), height: 44 };
  const foot = { y: track.y + track.height + 44, line: 15 };
  return { width, two, narrow, rule, legend, grid, strip, caption, requests, card, ledger, track, foot, height: foot.y + (lines.footer - 1) * foot.line + 12 };
}

/** Upper left corner of a block's cell. */
export const cellAt = (grid, id) => [grid.x + (id % grid.cols) * grid.pitch, grid.y + Math.floor(id / grid.cols) * grid.pitch];

/** The block under a point, -1 outside. A gutter counts to the cell on its left. */
export function blockAt(grid, n, x, y) {
  const col = Math.floor((x - grid.x) / grid.pitch), row = Math.floor((y - grid.y) / grid.pitch);
  const id = row * grid.cols + col;
  return col < 0 || col >= grid.cols || row < 0 || row >= grid.rows || id >= n ? -1 : id;
}

/**
 * Which logical blocks the strip shows: all of them if they fit, else the first, the last and those around `focus`, with gaps.
 * Returns [{logical, x}] and {gap: how many are left out, x}.
 */
export function stripSlots(count, room, focus = -1) {
  const fit = Math.max(3, Math.floor(room / BOX));
  const all = Array.from({ length: count }, (_, i) => i);
  if (count <= fit) return all.map((logical) => ({ logical, x: logical * BOX }));
  const slots = fit - 1; // a gap mark takes less than half a box, two at most stand
  const hidden = focus >= 0 && focus < count;
  const shown = new Set(hidden ? [focus] : []);
  for (let k = 0; shown.size < slots && k < count; k++) {
    shown.add(k);
    if (shown.size < slots) shown.add(count - 1 - k);
  }
  const out = [];
  let x = 0, before = -1;
  for (const logical of [...shown].sort((a, b) => a - b)) {
    if (logical > before + 1) {
      out.push({ gap: logical - before - 1, x });
      x += BOX / 2;
    }
    out.push({ logical, x });
    x += BOX;
    before = logical;
  }
  return out;
}
