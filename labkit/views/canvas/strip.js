// The selected request's block table: logical blocks in a strip, and the links from where they physically lie.
import { SHARED, TAIL } from "./frame.js";
import { BOX, cellAt, stripSlots } from "./layout.js";
import { box } from "./shapes.js";
import { fitting, put, putRuns, runsWidth, thousands } from "./text.js";

/** The strip's slots for what the pool shows now; `focus` is a physical block or -1. */
export function slotsOf(pool, layout, focus) {
  return stripSlots(pool.table.length, layout.strip.room, focus < 0 ? -1 : pool.table.indexOf(focus));
}

export function drawLinks(ctx, palette, pool, layout, focus) {
  const { grid, strip } = layout, { selected } = pool.scene;
  if (!selected) return;
  const owner = palette.owners[selected.slot % 6];
  const bottom = grid.y + grid.height, top = strip.y, perColumn = new Map();
  const slots = slotsOf(pool, layout, focus).filter((s) => s.gap === undefined);
  const ordered = [...slots].sort((a, b) => (pool.table[a.logical] === focus) - (pool.table[b.logical] === focus));
  for (const { logical, x } of ordered) {
    const id = pool.table[logical], strong = id === focus;
    if (grid.gap < 3 && !strong) continue; // no gutter to run in
    const [cx, cy] = cellAt(grid, id), column = id % grid.cols;
    const nth = perColumn.get(column) || 0;
    perColumn.set(column, nth + 1);
    const gutter = cx + grid.size + grid.gap / 2 + (nth ? Math.min(grid.gap / 2 - 0.6, nth * 0.6) : 0);
    const to = strip.x + x + (BOX - 6) / 2, colour = strong ? palette.ink : owner.edge;
    ctx.beginPath();
    ctx.moveTo(cx + grid.size - Math.min(3, grid.size / 3), cy + grid.size);
    ctx.quadraticCurveTo(gutter, cy + grid.size, gutter, cy + grid.size + Math.min(5, bottom + 3 - cy - grid.size));
    ctx.lineTo(gutter, bottom + 3);
    ctx.bezierCurveTo(gutter, bottom + 26, to, top - 28, to, top - 5);
    ctx.strokeStyle = colour;
    ctx.lineWidth = strong ? 1.8 : 1.25;
    ctx.stroke();
    ctx.beginPath();
    ctx.moveTo(to - 3.2, top - 6);
    ctx.lineTo(to + 3.2, top - 6);
    ctx.lineTo(to, top - 1);
    ctx.fillStyle = colour;
    ctx.fill();
  }
}

export function drawStrip(ctx, palette, pool, layout, focus) {
  const { strip, caption } = layout, { scene } = pool, { selected } = scene;
  if (!selected) {
    const text = scene.rows.length ? "no request is selected: click a block or a request, or type its letter, to read its block table" : "block tables appear here as soon as a request runs";
    box(ctx, strip.x + 0.5, strip.y + 0.5, strip.width - 1, strip.height - 1, 6);
    ctx.fillStyle = palette.panel;
    ctx.fill();
    put(ctx, palette, text, strip.x + 12, strip.y + 21, { fill: palette.muted });
    return;
  }
  const owner = palette.owners[Math.max(0, selected.slot) % 6], w = BOX - 6, h = strip.height, size = scene.block_size;
  put(ctx, palette, "log.", strip.x - 9, strip.y + 14, { size: 10.5, fill: palette.muted, align: "right" });
  put(ctx, palette, "phys.", strip.x - 9, strip.y + 28, { size: 10.5, fill: palette.muted, align: "right" });
  for (const { logical, gap, x } of slotsOf(pool, layout, focus)) {
    const left = strip.x + x, y = strip.y;
    if (gap !== undefined) {
      put(ctx, palette, "···", left + BOX / 4 - 3, y + 14, { size: 12, weight: 700, fill: palette.ink2, align: "center" });
      put(ctx, palette, `+${gap}`, left + BOX / 4 - 3, y + 28, { size: 10.5, fill: palette.muted, align: "center" });
      continue;
    }
    const id = pool.table[logical], state = pool.state[id], strong = id === focus;
    const high = h * Math.min(1, pool.filled[id] / size);
    ctx.save();
    box(ctx, left, y, w, h, 3);
    ctx.fillStyle = palette.paper;
    ctx.fill();
    ctx.clip();
    ctx.fillStyle = owner.soft;
    ctx.fillRect(left, y + h - high, w, high);
    ctx.restore();
    box(ctx, left + 0.5, y + 0.5, w - 1, h - 1, 3);
    ctx.strokeStyle = strong || state === SHARED ? palette.ink : owner.edge;
    ctx.lineWidth = strong ? 2 : state === SHARED ? 1.5 : 1;
    if (state === TAIL) ctx.setLineDash([2.5, 2]);
    ctx.stroke();
    ctx.setLineDash([]);
    const refs = state === SHARED ? ` ×${pool.shared.get(id)?.refs ?? 2}` : "";
    putRuns(ctx, palette, [[String(logical), { weight: 700 }], [refs]], left + w / 2, y + 14, { size: 11, align: "center" });
    put(ctx, palette, fitting(ctx, palette, [`→ ${id}`, String(id)], w - 4, { size: 11 }), left + w / 2, y + 28, { size: 11, align: "center" });
  }
  drawChip(ctx, palette, selected.letter, selected.slot, caption.x, caption.y, 16, true);
  putRuns(ctx, palette, captionRuns(ctx, palette, selected, size, strip.width - 23), caption.x + 23, caption.y + 12.5);
}

function captionRuns(ctx, palette, s, size, room) {
  const parts = [`${thousands(s.tokens)} tokens in ${s.blocks} block${s.blocks === 1 ? "" : "s"}`];
  if (s.shared) parts.push(`${s.shared} shared`);
  if (s.blocks) parts.push(`tail holds ${s.tail} of ${size}`);
  if (s.phase === "waiting") parts.push(`waiting for ${s.needs} blocks`);
  if (s.preemptions) parts.push(`preempted ${s.preemptions === 1 ? "once" : `${s.preemptions} times`}`);
  const runs = () => [[`block table of ${s.letter}`, { weight: 600 }], [parts.map((p) => ` · ${p}`).join(""), { fill: palette.ink2 }]];
  while (parts.length && runsWidth(ctx, palette, runs()) > room) parts.pop();
  return runs();
}

/** A request's letter in its colour. A request that never ran has no slot yet: dashed and plain. */
export function drawChip(ctx, palette, letter, slot, x, y, size, full) {
  const owner = slot < 0 ? null : palette.owners[slot % 6];
  box(ctx, x + 0.5, y + 0.5, size - 1, size - 1, 2.5);
  if (owner) {
    ctx.fillStyle = full ? owner.fill : owner.soft;
    ctx.fill();
  } else ctx.setLineDash([2, 2]);
  ctx.strokeStyle = owner ? owner.edge : palette.edge;
  ctx.lineWidth = 1;
  ctx.stroke();
  ctx.setLineDash([]);
  const short = letter.slice(-2);
  put(ctx, palette, short, x + size / 2, y + size / 2 + 4, { size: short.length > 1 ? 10.5 : 11, weight: 700, align: "center", fill: !owner ? palette.ink2 : full ? owner.on : palette.ink });
}
