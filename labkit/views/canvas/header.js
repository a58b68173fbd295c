// The top of the map: name, counters, badge; the legend that is also the count of every state; the footer.
import { box, drawCell } from "./cells.js";
import { CACHED, FREE, NO_SLOT, NULL, SHARED, TAIL, USED } from "./frame.js";
import { EDGE } from "./layout.js";
import { percent, put, putRuns, runsWidth, textWidth, thousands, wrap } from "./text.js";

const CODES = { used: USED, tail: TAIL, shared: SHARED, cached: CACHED, free: FREE, null: NULL };

/** Each counter as runs; they flow into as many lines as the width needs. */
function counters(palette, scene) {
  const strong = { weight: 650, fill: palette.ink };
  const list = [
    [[`${thousands(scene.blocks)} blocks × ${scene.block_size} tokens`]],
    [[thousands(scene.running), strong], [" running"]],
    [[thousands(scene.waiting), strong], [" waiting"]],
    [[percent(scene.usage), strong], [" KV use"]],
    [[percent(scene.hit_rate), strong], [" prefix hits"]],
    [[thousands(scene.preempted), scene.preempted ? { weight: 650, fill: palette.alert } : strong], [" preempted so far"]],
  ];
  if (scene.dropped) list.push([[`${thousands(scene.dropped)} trace records dropped`, { weight: 650, fill: palette.alert }]]);
  return list;
}

const badgeRuns = (scene) => [[scene.badge[0], { weight: 600 }], [` – ${scene.badge[1]}`]];

function flow(items, widthOf, x, room, firstRoom, gap) {
  let line = 0, at = x;
  return items.map((item) => {
    const w = widthOf(item);
    if (at + w > x + (line ? room : firstRoom) && (at > x || (!line && firstRoom < room))) {
      line += 1;
      at = x;
    }
    const place = { item, x: at, line };
    at += w + gap;
    return place;
  });
}

function headerPlaces(ctx, palette, scene, width) {
  const name = textWidth(ctx, palette, "KV map", { size: 18, weight: 650 });
  const badge = runsWidth(ctx, palette, badgeRuns(scene)) + 34;
  const widthOf = (runs) => runsWidth(ctx, palette, runs) + 4;
  const x = EDGE + name + 10;
  const places = flow(counters(palette, scene), widthOf, x, width - EDGE - x, width - EDGE - badge - 14 - x, 14);
  return { places, badge };
}

export const headerLines = (ctx, palette, scene, width) => Math.max(...headerPlaces(ctx, palette, scene, width).places.map((p) => p.line)) + 1;

export function drawHeader(ctx, palette, scene, layout) {
  const { places, badge } = headerPlaces(ctx, palette, scene, layout.width);
  put(ctx, palette, "KV map", EDGE, 31, { size: 18, weight: 650 });
  for (const p of places) putRuns(ctx, palette, p.item, p.x, 31 + 20 * p.line, { fill: palette.ink2 });
  drawBadge(ctx, palette, scene, layout.width - EDGE - badge, badge);
  ctx.fillStyle = palette.line;
  ctx.fillRect(EDGE, layout.rule, layout.width - 2 * EDGE, 1);
}

function drawBadge(ctx, palette, scene, x, w) {
  const kind = scene.badge[0], y = 26;
  box(ctx, x + 0.6, y - 12, w - 1.2, 24, 12);
  ctx.strokeStyle = kind === "live" ? palette.good : palette.edge;
  ctx.lineWidth = 1.25;
  ctx.stroke();
  ctx.beginPath();
  if (kind === "live") {
    ctx.arc(x + 14, y, 4, 0, 2 * Math.PI);
    ctx.fillStyle = palette.good;
    ctx.fill();
  } else if (kind === "replay") {
    ctx.moveTo(x + 10, y - 4.5);
    ctx.lineTo(x + 18, y);
    ctx.lineTo(x + 10, y + 4.5);
    ctx.fillStyle = palette.ink2;
    ctx.fill();
  } else {
    ctx.strokeStyle = palette.alert;
    ctx.lineWidth = 1.5;
    ctx.strokeRect(x + 10, y - 4, 8, 8);
  }
  putRuns(ctx, palette, badgeRuns(scene), x + 24, y + 4);
}

const legendRuns = (palette, scene, [state, label]) => [[thousands(scene.counts[state]), { weight: 650 }], [` ${label}`, { fill: palette.ink2 }]];

function legendPlaces(ctx, palette, scene, width) {
  const items = palette.legend.filter(([state]) => state !== "null" || scene.null);
  const widthOf = (item) => 25 + runsWidth(ctx, palette, legendRuns(palette, scene, item));
  const spare = (width - items.reduce((sum, item) => sum + widthOf(item), 0)) / (items.length - 1);
  return flow(items, widthOf, 0, width, width, spare >= 8 ? Math.min(17, Math.floor(spare)) : 17);
}

/** Lines that the legend takes with its widest numbers, so that it does not jump while they grow. */
export function legendLines(ctx, palette, scene, width) {
  const widest = { ...scene, counts: Object.fromEntries(Object.keys(scene.counts).map((k) => [k, k === "null" ? scene.null : Math.ceil(scene.blocks * 0.9)])) };
  return Math.max(...legendPlaces(ctx, palette, widest, width).map((p) => p.line)) + 1;
}

export function drawLegend(ctx, palette, pool, layout) {
  const { x, y, width, line } = layout.legend, { scene } = pool;
  const rows = scene.rows.filter((r) => r.slot >= 0);
  const other = rows.find((r) => r.letter !== scene.selected?.letter) || rows[0] || { slot: 5, letter: "A" };
  const more = rows.filter((r) => r !== other).map((r) => r.slot);
  for (const p of legendPlaces(ctx, palette, scene, width)) {
    const [state] = p.item, top = y + p.line * line;
    const cell = { state: CODES[state], slot: other.slot, letter: other.letter, fill: 0.45, refs: 2, bands: [other.slot, more[0] ?? (other.slot + 1) % 6], selected: false };
    if (state === "cached") Object.assign(cell, { slot: NO_SLOT, letter: "a" });
    drawCell(ctx, palette, cell, x + p.x, top, 19);
    putRuns(ctx, palette, legendRuns(palette, scene, p.item), x + p.x + 25, top + 14);
  }
}

const footerRoom = (width) => width - 2 * EDGE - 70; // the table toggle stands at the right

export const footerLines = (ctx, palette, scene, width) => wrap(ctx, palette, scene.footer, footerRoom(width), { size: 10.5 }).length;

export function drawFooter(ctx, palette, scene, layout) {
  wrap(ctx, palette, scene.footer, footerRoom(layout.width), { size: 10.5 }).forEach((text, i) =>
    put(ctx, palette, text, EDGE, layout.foot.y + i * layout.foot.line, { size: 10.5, fill: palette.muted }));
}
