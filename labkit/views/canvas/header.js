// The top of the map: its counters; the legend that is also the count of every state.
import { bannerRule, drawBanner, flow } from "./banner.js";
import { drawCell } from "./cells.js";
import { CACHED, FREE, NO_SLOT, NULL, SHARED, TAIL, USED } from "./frame.js";
import { percent, putRuns, runsWidth, thousands } from "./text.js";

const CODES = { used: USED, tail: TAIL, shared: SHARED, cached: CACHED, free: FREE, null: NULL };

/** Each counter as runs; they flow into as many lines as the width needs. */
function counters(palette, scene) {
  const strong = { weight: 650, fill: palette.ink };
  const list = [
    [[`${scene.began === scene.blocks ? "" : `${thousands(scene.began)} → `}${thousands(scene.blocks)} blocks × ${scene.block_size} tokens`]],
    [[thousands(scene.running), strong], [" running"]],
    [[thousands(scene.waiting), strong], [" waiting"]],
    [[percent(scene.usage), strong], [" KV use"]],
    [[percent(scene.hit_rate), strong], [" prefix hits"]],
    [[thousands(scene.preempted), scene.preempted ? { weight: 650, fill: palette.alert } : strong], [" preempted so far"]],
  ];
  if (scene.dropped) list.push([[`${thousands(scene.dropped)} trace records dropped`, { weight: 650, fill: palette.alert }]]);
  return list;
}

const bannerOf = (palette, scene) => ({ title: "KV map", counters: counters(palette, scene), badge: scene.badge });

export const headerRule = (ctx, palette, scene, width) => bannerRule(ctx, palette, bannerOf(palette, scene), width);
export const drawHeader = (ctx, palette, scene, layout) => drawBanner(ctx, palette, bannerOf(palette, scene), layout);

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
