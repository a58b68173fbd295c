// The step slider: the pool over the whole run, the marks of what happened, the play head.
import { EDGE } from "./banner.js";
import { box, hatch } from "./shapes.js";
import { put, textWidth, thousands } from "./text.js";

const SHORTEST = 60; // positions that the track spans at least, so that a young run grows into it

/** How positions lie on the track. */
export function trackScale(pool, layout) {
  const { first, last } = pool.head, { x, width } = layout.track, span = Math.max(last - first, SHORTEST);
  return { at: (p) => x + (width * (p - first)) / span, position: (px) => Math.min(Math.max(first + Math.round(((px - x) / width) * span), first), Math.max(last, first)) };
}

export function mark(ctx, palette, kind, x, y) {
  ctx.beginPath();
  ctx.lineWidth = 1.6;
  ctx.strokeStyle = palette.ink;
  ctx.fillStyle = palette.paper;
  if (kind === "admit") {
    ctx.moveTo(x - 4.2, y + 3.5);
    ctx.lineTo(x + 4.2, y + 3.5);
    ctx.lineTo(x, y - 4.5);
    ctx.fillStyle = palette.ink;
    ctx.fill();
  } else if (kind === "share") {
    ctx.moveTo(x, y - 5);
    ctx.lineTo(x + 4.6, y);
    ctx.lineTo(x, y + 5);
    ctx.lineTo(x - 4.6, y);
    ctx.closePath();
    ctx.fill();
    ctx.stroke();
  } else if (kind === "finish") {
    ctx.rect(x - 3.6, y - 3.6, 7.2, 7.2);
    ctx.strokeStyle = palette.ink2;
    ctx.fill();
    ctx.stroke();
  } else {
    for (const d of [-1, 1]) {
      ctx.moveTo(x - 4, y - 4 * d);
      ctx.lineTo(x + 4, y + 4 * d);
    }
    ctx.strokeStyle = palette.alert;
    ctx.lineWidth = 2.4;
    ctx.stroke();
  }
}

/** The mark legend; also where the two jump buttons begin. */
export function drawMarkLegend(ctx, palette, layout) {
  const y = layout.track.y - 24;
  const kinds = ["admit", "share", "preempt", "finish"], gap = layout.narrow ? 8 : 16, small = { size: 11, fill: palette.ink2 };
  const all = kinds.reduce((sum, kind) => sum + 14 + textWidth(ctx, palette, kind, small) + gap, 0);
  let x = Math.min(layout.track.x, layout.width - EDGE + gap - all);
  for (const kind of kinds) {
    mark(ctx, palette, kind, x + 5, y - 4);
    x += 14 + put(ctx, palette, kind, x + 14, y, small) + gap;
  }
  return x;
}

/** Blocks that can be given out at a position. */
const roomAt = (pool, position) => pool.head.pools.findLast(([from]) => from <= position)[1] - pool.scene.null;

/** The most that could be given out in the run: the height of the track. */
const mostRoom = (pool) => Math.max(...pool.head.pools.map(([, blocks]) => blocks)) - pool.scene.null;

/** Where the pool was smaller than it has been at its largest, what it did not have is shaded, and each change of size is named there. */
function drawPools(ctx, palette, pool, layout, scale) {
  const { x, y, height } = layout.track, { pools, last } = pool.head, most = mostRoom(pool), small = { size: 10.5, fill: palette.ink2 };
  const tops = pools.map(([, blocks]) => y + height * (1 - (blocks - pool.scene.null) / most));
  pools.forEach(([from], i) => {
    if (tops[i] <= y) return;
    const left = Math.max(scale.at(from), x), right = scale.at(pools[i + 1]?.[0] ?? last), k = i + 1 < pools.length ? i + 1 : i, before = k > i;
    ctx.fillStyle = palette.panel;
    ctx.fillRect(left, y + 1, right - left, tops[i] - y - 1);
    ctx.fillStyle = palette.edge;
    ctx.fillRect(left, tops[i] - 0.5, right - left, 1);
    if (k === 0 || tops[i] - y <= 13) return;
    const text = `${thousands(pools[k - 1][1])} → ${thousands(pools[k][1])} blocks`;
    if (textWidth(ctx, palette, text, small) <= right - left - 10) put(ctx, palette, text, before ? right - 5 : left + 5, y + 12, { ...small, align: before ? "right" : "left" });
  });
}

function drawCurve(ctx, palette, pool, layout, scale) {
  const { y, height, width } = layout.track, total = mostRoom(pool), base = y + height;
  const stride = Math.max(1, Math.floor(pool.steps.length / (2 * width)));
  const points = [];
  for (let i = 0; i < pool.steps.length; i += stride) points.push(i);
  if (points.at(-1) !== pool.steps.length - 1) points.push(pool.steps.length - 1);
  const px = (i) => scale.at(pool.first + i), used = (i) => base - (height * pool.inuse[i]) / total;
  const top = (i) => base - (height * (pool.inuse[i] + pool.cached[i])) / total;
  const trace = (f, back) => (back ? [...points].reverse() : points).forEach((i) => ctx.lineTo(px(i), f(i)));
  ctx.beginPath();
  trace(top, false);
  trace(used, true);
  ctx.save();
  ctx.clip();
  hatch(ctx, layout.track.x, y, width, height, palette.edge, 5, 1.1);
  ctx.restore();
  ctx.beginPath();
  ctx.moveTo(px(points[0]), base);
  trace(used, false);
  ctx.lineTo(px(points.at(-1)), base);
  ctx.fillStyle = palette.area;
  ctx.fill();
  ctx.beginPath();
  trace(used, false);
  ctx.strokeStyle = palette.ink2;
  ctx.lineWidth = 1.2;
  ctx.stroke();
}

/** Each band's name stands where the band is thickest, on a coarse raster so that it seldom moves, and only where it fits. */
function bandNames(ctx, palette, pool, layout, scale, here) {
  const { x: from, y, height } = layout.track, total = mostRoom(pool), raster = 12, base = y + height, taken = [];
  const past = here - from > 150; // names stand on the part that is not washed out, if there is enough of it
  const [left, right] = past ? [from, here] : [here, scale.at(pool.head.last)];
  const begin = past ? 0 : Math.floor(scale.position(here) - pool.first), n = past ? scale.position(here) - pool.first : pool.steps.length - begin;
  const lines = pool.marks.filter((m) => m[1] === "preempt").map((m) => scale.at(m[0]));
  const thick = { "in use": (i) => pool.inuse[i], cached: (i) => pool.cached[i], free: (i) => roomAt(pool, pool.first + i) - pool.inuse[i] - pool.cached[i] };
  const middle = { "in use": (i) => pool.inuse[i] / 2, cached: (i) => pool.inuse[i] + pool.cached[i] / 2, free: (i) => (roomAt(pool, pool.first + i) + pool.inuse[i] + pool.cached[i]) / 2 };
  for (const name of ["in use", "cached", "free"]) {
    const options = { size: 11, weight: 600, fill: name === "in use" && past ? palette.onArea : palette.ink2, align: "center" };
    const w = textWidth(ctx, palette, name, options) + 8;
    let best = -1;
    for (let k = 1; k < raster; k++) {
      const i = Math.min(pool.steps.length - 1, begin + Math.floor((k * n) / raster)), x = scale.at(pool.first + i);
      const fits = (thick[name](i) * height) / total >= 14 && x - w / 2 > left && x + w / 2 < right - 6 && taken.every((t) => Math.abs(t - x) > w + 24) && lines.every((l) => Math.abs(l - x) > w / 2);
      if (fits && (best < 0 || thick[name](i) > thick[name](best))) best = i;
    }
    if (best < 0) continue;
    const x = scale.at(pool.first + best), mid = base - (height * middle[name](best)) / total;
    taken.push(x);
    if (name === "cached") {
      ctx.fillStyle = palette.paper;
      box(ctx, x - w / 2, mid - 6.5, w, 13, 2);
      ctx.fill();
    }
    put(ctx, palette, name, x, mid + 4, options);
  }
}

function drawMarks(ctx, palette, pool, layout, scale) {
  const { y, height } = layout.track, row = y - 9;
  const preempts = pool.marks.filter((m) => m[1] === "preempt");
  const taken = preempts.map(([p, , letter]) => [scale.at(p) - 14 - textWidth(ctx, palette, letter, { size: 11, weight: 700 }), scale.at(p) + 11]);
  let edge = -Infinity;
  for (const [position, kind] of pool.marks) {
    if (kind === "preempt") continue;
    const x = scale.at(position);
    let at = Math.max(x, edge + 9);
    for (const [from, to] of taken) if (at > from && at < to) at = to;
    if (at - x > 24 || at > layout.track.x + layout.track.width - 4) continue; // too crowded: the keyboard still stops there
    mark(ctx, palette, kind, at, row);
    edge = at;
  }
  let named = -Infinity;
  for (const [position, , letter] of preempts) {
    const x = scale.at(position);
    ctx.beginPath();
    ctx.setLineDash([2, 2]);
    ctx.moveTo(x, y);
    ctx.lineTo(x, y + height);
    ctx.strokeStyle = palette.alert;
    ctx.lineWidth = 1.3;
    ctx.stroke();
    ctx.setLineDash([]);
    const w = textWidth(ctx, palette, letter, { size: 11, weight: 700 });
    const named_ = x - 8 - w > named;
    ctx.fillStyle = palette.paper;
    ctx.fillRect(named_ ? x - 10 - w : x - 6, row - 7, named_ ? 16 + w : 12, 14);
    mark(ctx, palette, "preempt", x, row);
    if (named_) put(ctx, palette, letter, x - 8, row + 4, { size: 11, weight: 700, fill: palette.alert, align: "right" });
    named = x + 6;
  }
}

function tickSteps(first, last) {
  const raw = Math.max(1, (last - first) / 5), power = 10 ** Math.floor(Math.log10(raw));
  const step = Math.max(1, [1, 2, 5, 10].map((k) => k * power).find((k) => k >= raw));
  const ticks = [];
  for (let s = Math.ceil(first / step) * step; s <= last; s += step) ticks.push(s);
  return ticks;
}

/** `position`: where the play head stands, which is ahead of the pool while it is dragged. */
export function drawTimeline(ctx, palette, pool, layout, position) {
  const { x, y, width, height } = layout.track, { head } = pool, base = y + height;
  put(ctx, palette, "Step", EDGE, y - 12, { weight: 600 });
  put(ctx, palette, { paused: "play", playing: "playing", live: "live" }[head.mode], 66, y + 19, { size: 11, weight: 600 });
  ctx.strokeStyle = palette.line;
  ctx.lineWidth = 1;
  ctx.strokeRect(x + 0.5, y + 0.5, width - 1, height);
  if (!pool.steps.length) {
    put(ctx, palette, "nothing yet: send a request", x + 12, y + 26, { fill: palette.muted });
    return;
  }
  const scale = trackScale(pool, layout), here = scale.at(position);
  drawPools(ctx, palette, pool, layout, scale);
  drawCurve(ctx, palette, pool, layout, scale);
  ctx.save();
  ctx.globalAlpha = 0.62;
  ctx.fillStyle = palette.paper;
  ctx.fillRect(here, y + 1, Math.max(0, scale.at(head.last) - here), height - 1);
  ctx.restore();
  bandNames(ctx, palette, pool, layout, scale, here);
  drawMarks(ctx, palette, pool, layout, scale);
  const step = pool.steps[Math.min(Math.max(position - pool.first, 0), pool.steps.length - 1)];
  const label = `step ${thousands(step)}`, options = { size: 11, weight: 650 }, half = textWidth(ctx, palette, label, options) / 2 + 9;
  const pill = Math.min(Math.max(here, x + half - 12), x + width - half);
  let free = -Infinity;
  for (const s of tickSteps(pool.steps[0], pool.steps.at(-1))) {
    const at = scale.at(pool.first + firstAtLeast(pool.steps, s)), w = textWidth(ctx, palette, thousands(s), { size: 10.5 }) / 2;
    ctx.fillStyle = palette.edge;
    ctx.fillRect(at - 0.5, base, 1, 4);
    const left = Math.max(at - w, x);
    if (left < free || (left < pill + half + 4 && left + 2 * w > pill - half - 4) || left + 2 * w > x + width + 4) continue;
    put(ctx, palette, thousands(s), left, base + 18, { size: 10.5, fill: palette.muted });
    free = left + 2 * w + 6;
  }
  ctx.fillStyle = palette.ink;
  ctx.fillRect(here - 1, y - 15, 2, height + 16);
  ctx.beginPath();
  ctx.arc(here, base, 6.5, 0, 2 * Math.PI);
  ctx.fill();
  ctx.strokeStyle = palette.paper;
  ctx.lineWidth = 2;
  ctx.stroke();
  box(ctx, pill - half, base + 8, 2 * half, 17, 8.5);
  ctx.fillStyle = palette.ink;
  ctx.fill();
  put(ctx, palette, label, pill, base + 20.5, { ...options, fill: palette.paper, align: "center" });
}

export function firstAtLeast(sorted, value) {
  let low = 0, high = sorted.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] < value) low = middle + 1;
    else high = middle;
  }
  return low;
}
