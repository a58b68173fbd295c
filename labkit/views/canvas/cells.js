// Cells of the block grid: what state and owner look like, at every size.
import { CACHED, FREE, NO_SLOT, NULL, SHARED, TAIL } from "./frame.js";
import { cellAt } from "./layout.js";
import { box, hatch } from "./shapes.js";
import { forgetFont, letterOf, setFont } from "./text.js";
import { channels, mix } from "./theme.js";

const NOBODY = 0xffffffff;
export const LETTERED = 14; // px: cells smaller than this carry a letter only where a run begins
export const PIXELS = 7; // px: cells smaller than this are drawn as pixels

/** What a cell shows: read from the pool, or made up for the legend. */
export function cellOf(pool, id) {
  const shared = pool.shared.get(id);
  const owner = pool.owner[id];
  return {
    state: pool.state[id], slot: pool.slot[id], fill: pool.filled[id] / pool.scene.block_size, letter: owner === NOBODY ? "" : letterOf(owner),
    refs: shared ? shared.refs : 1, bands: shared ? shared.slots : [], selected: pool.selectedSet.has(id), selectedSlot: pool.scene.selected?.slot ?? -1,
  };
}

function glyph(ctx, palette, text, x, y, s, fill, weight = 600, size = 11) {
  const short = text.slice(-2);
  setFont(ctx, palette, s >= 28 ? 13 : short.length > 1 || s < 20 ? 10.5 : size, weight, false);
  ctx.fillStyle = fill;
  ctx.textAlign = "center";
  ctx.fillText(short, x + s / 2, y + s / 2 + (s >= 28 ? 4.5 : 4));
  ctx.textAlign = "left";
}

function pinstripe(ctx, x, y, w, h, colour) {
  ctx.save();
  ctx.globalAlpha *= 0.55;
  ctx.fillStyle = colour;
  for (let k = 3; k < w - 1; k += 5) ctx.fillRect(x + k, y + 1, 1, h - 2);
  ctx.restore();
}

/** One cell with its upper left corner at (x, y) and `s` wide. `lettered` false leaves the letter out. */
export function drawCell(ctx, palette, cell, x, y, s, lettered = true) {
  const r = s >= LETTERED ? 2.5 : s >= 9 ? 1.5 : 0;
  const owner = cell.slot === NO_SLOT ? null : palette.owners[cell.slot % 6];
  ctx.lineWidth = 1;
  if (cell.state === NULL || cell.state === FREE) {
    box(ctx, x + 0.5, y + 0.5, s - 1, s - 1, r);
    ctx.fillStyle = cell.state === NULL ? palette.panel : palette.paper;
    ctx.fill();
    ctx.strokeStyle = cell.state === NULL ? palette.line : palette.edge;
    ctx.lineWidth = s >= LETTERED ? 0.9 : 0.6;
    ctx.stroke();
    if (cell.state === NULL && s >= 12) glyph(ctx, palette, "∅", x, y, s, palette.muted, 400);
  } else if (cell.state === CACHED) {
    hatch(ctx, x + 0.5, y + 0.5, s - 1, s - 1, mix(palette.edge, palette.paper, 0.85), s >= LETTERED ? 5 : 4, s >= LETTERED ? 1.5 : 1);
    box(ctx, x + 0.5, y + 0.5, s - 1, s - 1, r);
    ctx.strokeStyle = mix(palette.edge, palette.paper, 0.85);
    ctx.stroke();
    if (lettered && cell.letter && s >= LETTERED) {
      ctx.beginPath();
      ctx.arc(x + s / 2, y + s / 2, s * (cell.letter.length > 1 ? 0.36 : 0.29), 0, 2 * Math.PI);
      ctx.fillStyle = palette.paper;
      ctx.fill();
      glyph(ctx, palette, cell.letter.toLowerCase(), x, y, s, palette.ink2, 500);
    }
  } else if (cell.state === SHARED) drawShared(ctx, palette, cell, x, y, s, r);
  else if (cell.state === TAIL) drawTail(ctx, palette, cell, owner, x, y, s, r, lettered);
  else {
    box(ctx, x + 0.5, y + 0.5, s - 1, s - 1, r);
    ctx.fillStyle = cell.selected ? owner.fill : owner.soft;
    ctx.fill();
    if (cell.slot >= 6) pinstripe(ctx, x, y, s, s, owner.edge);
    ctx.strokeStyle = owner.edge;
    ctx.stroke();
    if (lettered) glyph(ctx, palette, cell.letter, x, y, s, cell.selected ? owner.on : palette.ink, cell.selected ? 700 : 600);
  }
}

function drawShared(ctx, palette, cell, x, y, s, r) {
  const bands = cell.bands.length, wide = s / Math.max(1, bands), top = s >= LETTERED ? s * 0.6 : s * 0.45;
  ctx.save();
  box(ctx, x + 0.5, y + 0.5, s - 1, s - 1, r);
  ctx.fillStyle = palette.paper;
  ctx.fill();
  ctx.clip();
  cell.bands.forEach((slot, i) => {
    const colour = palette.owners[slot % 6].fill;
    const quiet = cell.selected && slot !== cell.selectedSlot;
    ctx.fillStyle = quiet ? mix(colour, palette.paper, 0.75) : colour;
    ctx.fillRect(x + i * wide, y + top, wide + 0.2, s - top);
    if (slot >= 6) pinstripe(ctx, x + i * wide, y + top, wide, s - top, palette.ink);
    ctx.fillStyle = palette.paper;
    if (i && s >= 9) ctx.fillRect(x + i * wide - 0.5, y + top, 1, s - top);
  });
  ctx.restore();
  box(ctx, x + 0.75, y + 0.75, s - 1.5, s - 1.5, r);
  ctx.strokeStyle = palette.ink;
  ctx.lineWidth = s >= LETTERED ? 1.25 : 1;
  ctx.stroke();
  if (s < LETTERED) return;
  const text = `×${Math.min(cell.refs, 99)}${cell.refs > 99 ? "+" : ""}`;
  setFont(ctx, palette, s >= 28 ? 13 : s >= 20 && text.length < 3 ? 11 : 10.5, 700, false);
  ctx.fillStyle = palette.ink;
  ctx.textAlign = "center";
  ctx.fillText(text, x + s / 2, y + s * 0.6 - 2.2);
  ctx.textAlign = "left";
}

function drawTail(ctx, palette, cell, owner, x, y, s, r, lettered) {
  const high = (s - 2) * Math.min(1, cell.fill), fill = cell.selected ? owner.fill : owner.soft;
  ctx.fillStyle = palette.paper;
  ctx.fillRect(x + 1, y + 1, s - 2, s - 2);
  ctx.fillStyle = fill;
  ctx.fillRect(x + 1, y + s - 1 - high, s - 2, high);
  if (cell.slot >= 6) pinstripe(ctx, x + 1, y + s - 1 - high, s - 2, high, owner.edge);
  box(ctx, x + 0.75, y + 0.75, s - 1.5, s - 1.5, r);
  ctx.strokeStyle = owner.edge;
  ctx.lineWidth = s >= LETTERED ? 1.5 : 1;
  ctx.setLineDash(s >= LETTERED ? [2.5, 2] : [2, 1]);
  ctx.stroke();
  ctx.setLineDash([]);
  if (!lettered) return;
  glyph(ctx, palette, cell.letter, x, y, s, palette.ink, 700);
  if (!cell.selected) return;
  ctx.save();
  ctx.beginPath();
  ctx.rect(x + 1, y + s - 1 - high, s - 2, high);
  ctx.clip();
  glyph(ctx, palette, cell.letter, x, y, s, owner.on, 700);
  ctx.restore();
  forgetFont(ctx);
}

/** Cells `ids` (null: all) on the grid's own canvas, whose origin is the grid's corner less one gutter. */
export function paintGrid(ctx, palette, pool, grid, ids, opacity = null) {
  const n = pool.state.length, local = { ...grid, x: grid.gap, y: grid.gap };
  const lettered = grid.size >= LETTERED;
  const each = ids || { *[Symbol.iterator]() { for (let i = 0; i < n; i++) yield i; } };
  const again = lettered ? each : withRuns(pool, grid, each);
  for (const id of again) {
    const [x, y] = cellAt(local, id);
    ctx.clearRect(x - grid.gap / 2, y - grid.gap / 2, grid.pitch, grid.pitch);
    ctx.globalAlpha = opacity ? opacity(id) : 1;
    drawCell(ctx, palette, cellOf(pool, id), x, y, grid.size, lettered);
  }
  ctx.globalAlpha = 1;
  if (!lettered && grid.size >= 9) runLetters(ctx, palette, pool, local, again);
}

const run = (pool, id) => (pool.slot[id] === NO_SLOT || pool.state[id] === SHARED ? -1 : pool.owner[id]);

/** `ids` and all that stand in a run of one owner with them: their letter is drawn across cells. */
function withRuns(pool, grid, ids) {
  const out = new Set();
  for (const id of ids) {
    const row = Math.floor(id / grid.cols) * grid.cols;
    for (let k = Math.max(row, id - 3); k < Math.min(row + grid.cols, id + 4, pool.state.length); k++) out.add(k);
  }
  return out;
}

/** Under 14 px a letter stands on the first cell of a run of one owner, if the run is wide enough to hold it. */
function runLetters(ctx, palette, pool, grid, ids) {
  setFont(ctx, palette, 10.5, 700, false);
  ctx.textAlign = "left";
  for (const id of ids) {
    const owner = run(pool, id);
    if (owner < 0 || (id % grid.cols && run(pool, id - 1) === owner)) continue;
    let length = 1;
    while ((id + length) % grid.cols && run(pool, id + length) === owner && length < 4) length += 1;
    const letter = letterOf(owner).slice(-2);
    if (ctx.measureText(letter).width + 2 > length * grid.pitch - grid.gap) continue;
    const [x, y] = cellAt(grid, id);
    ctx.fillStyle = pool.selectedSet.has(id) ? palette.owners[pool.slot[id] % 6].on : palette.ink;
    ctx.fillText(letter, x + 1.5, y + grid.size / 2 + 3.8);
  }
}

/** Blocks `ids` (null: all) as pixels, `dots` a side, in an ImageData of the whole grid. */
export function pixelGrid(palette, pool, grid, dots, image, ids) {
  const { cols } = grid, wide = cols * dots, data = new Uint32Array(image.data.buffer);
  const word = (colour) => { const [r, g, b] = channels(colour); return ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0; };
  const paper = word(palette.paper), ink = word(palette.ink), panel = word(palette.line), edge = word(palette.edge);
  const free = word(mix(palette.line, palette.paper, 0.55));
  const period = dots < 4 ? 4 : 6; // of the hatch, across cells
  const soft = palette.owners.map((o) => word(o.soft)), full = palette.owners.map((o) => word(o.fill));
  const each = (id) => {
    const state = pool.state[id], x0 = (id % cols) * dots, y0 = Math.floor(id / cols) * dots;
    const slot = pool.slot[id] % 6, solid = pool.selectedSet.has(id) ? full[slot] : soft[slot];
    const empty = state === TAIL ? dots - Math.ceil((dots * pool.filled[id]) / pool.scene.block_size) : 0;
    for (let y = 0; y < dots; y++) {
      for (let x = 0; x < dots; x++) {
        let value = solid;
        if (state === FREE) value = dots > 2 && (x === dots - 1 || y === dots - 1) ? paper : free;
        else if (state === NULL) value = panel;
        else if (state === CACHED) value = (x0 + x + y0 + y) % period === 0 ? edge : paper;
        else if (state === SHARED && y < Math.max(1, dots / 3)) value = ink;
        else if (y < empty) value = paper;
        data[(y0 + y) * wide + x0 + x] = value;
      }
    }
  };
  if (ids) ids.forEach(each);
  else for (let id = 0; id < pool.state.length; id++) each(id);
}
