// The rows of the batch timeline: what happened to each request.
import { spoken } from "./clock.js";
import { DECODE, endOf, KINDS, PADDING, PREEMPTED, PREFILL, QUEUED, RECOMPUTE, STALLED } from "./lanes.js";
import { flow } from "./banner.js";
import { hatchPath } from "./shapes.js";
import { put, textWidth } from "./text.js";

/** Collects shapes of one look, because one path of many pieces is drawn faster than many paths. */
function makeBoxes() {
  return { arrivals: [], kinds: KINDS.map(() => []), crosses: [], well: [], ill: [] };
}

function addSegment(boxes, kind, x, x1, top, pitch) {
  if (kind === PREFILL || kind === RECOMPUTE) boxes.kinds[kind].push([x + 0.5, top + pitch / 12, Math.max(1.2, x1 - x - 0.8), (pitch * 10) / 12]);
  else if (kind === DECODE || kind === PADDING) boxes.kinds[kind].push([x, top + pitch / 4, x1 - x, pitch / 2]);
  else boxes.kinds[kind].push([x, top + pitch / 2, x1]);
  if (kind === PREEMPTED) boxes.crosses.push([x, top + pitch / 2, Math.min(3.5, pitch * 0.3)]);
}

const addEnd = (boxes, well, x, top, pitch) => (well ? boxes.well : boxes.ill).push([x - 1.5, top + pitch / 12, 3.4, (pitch * 10) / 12]);

function lines(ctx, list, colour, width, dash) {
  if (!list.length) return;
  ctx.beginPath();
  for (const [x, y, x1] of list) {
    ctx.moveTo(x, y);
    ctx.lineTo(x1, y);
  }
  ctx.setLineDash(dash);
  ctx.strokeStyle = colour;
  ctx.lineWidth = width;
  ctx.stroke();
  ctx.setLineDash([]);
}

function rects(ctx, list, fill, edge, width) {
  if (!list.length) return;
  ctx.beginPath();
  for (const r of list) ctx.rect(...r);
  if (fill) {
    ctx.fillStyle = fill;
    ctx.fill();
  }
  if (!edge) return;
  ctx.strokeStyle = edge;
  ctx.lineWidth = width;
  ctx.stroke();
}

function paintBoxes(ctx, palette, boxes, pitch) {
  const thin = pitch >= 5 ? 1 : 0.5, { kinds } = boxes;
  ctx.beginPath();
  for (const [x, top] of boxes.arrivals) {
    ctx.moveTo(x, top + pitch / 6);
    ctx.lineTo(x, top + (pitch * 5) / 6);
  }
  ctx.strokeStyle = palette.muted;
  ctx.lineWidth = 1.2 * thin;
  ctx.stroke();
  lines(ctx, kinds[QUEUED], palette.muted, 1.6 * thin, [1.5, 3]);
  lines(ctx, kinds[STALLED], palette.edge, 1.2 * thin, []);
  hatchPath(ctx, kinds[PADDING], palette.edge);
  rects(ctx, kinds[PADDING], null, palette.edge, 0.7 * thin);
  rects(ctx, kinds[DECODE], palette.decode);
  rects(ctx, kinds[PREFILL], palette.prefill, palette.prefillEdge, thin);
  rects(ctx, kinds[RECOMPUTE], palette.prefill);
  hatchPath(ctx, kinds[RECOMPUTE], palette.again);
  rects(ctx, kinds[RECOMPUTE], null, palette.alert, 1.6 * thin);
  lines(ctx, kinds[PREEMPTED], palette.alert, 1.8 * thin, [4, 3]);
  ctx.beginPath();
  for (const [x, y, d] of boxes.crosses) {
    ctx.moveTo(x - d, y - d);
    ctx.lineTo(x + d, y + d);
    ctx.moveTo(x - d, y + d);
    ctx.lineTo(x + d, y - d);
  }
  ctx.strokeStyle = palette.alert;
  ctx.lineWidth = 2.2 * thin;
  ctx.stroke();
  rects(ctx, boxes.well, palette.ink);
  rects(ctx, boxes.ill, palette.paper, palette.alert, 1.5);
}

/** `ordinals` from top to bottom, the first at `y`. `chosen`: the ordinal of the row that is picked, -1 for none. */
export function drawRows(ctx, palette, panel, ordinals, scale, y, pitch, chosen) {
  const boxes = makeBoxes(), every = Math.max(1, Math.ceil(11 / pitch)), { begin, end } = scale, clip = (t) => scale.at(Math.min(Math.max(t, begin), end));
  ordinals.forEach((ordinal, row) => {
    const r = panel.requests.get(ordinal), top = y + row * pitch;
    if (!r) return;
    if (ordinal === chosen) {
      ctx.fillStyle = palette.panel;
      ctx.fillRect(scale.x0, top, scale.x1 - scale.x0, pitch);
    }
    if (row % every === 0 || ordinal === chosen) put(ctx, palette, r.letter, scale.x0 - 10, top + pitch / 2 + 4, { size: 10.5, weight: ordinal === chosen ? 750 : 650, align: "right", fill: ordinal === chosen ? palette.ink : palette.ink2 });
    if (r.arrival >= begin && r.arrival <= end) boxes.arrivals.push([scale.at(r.arrival), top]);
    for (const s of r.segments) {
      const t1 = endOf(panel, s);
      if (t1 >= begin && s.t0 <= end) addSegment(boxes, s.kind, clip(s.t0), clip(t1), top, pitch);
    }
    if (r.finish >= begin && r.finish <= end) addEnd(boxes, r.well, scale.at(r.finish), top, pitch);
  });
  paintBoxes(ctx, palette, boxes, pitch);
}

/** Of the rare marks only those that are there; shorter words where the long ones need a second line. */
function legendPlaces(ctx, palette, book, width) {
  const stalled = book.panels.some((panel) => panel.segments.some((s) => s.kind === STALLED));
  const ill = book.panels.some((panel) => [...panel.requests.values()].some((r) => r.reason && !r.well));
  const items = palette.segments.filter(([kind]) => ({ stalled, failed: ill })[kind] ?? true);
  const place = (which) => flow(items.map((item) => [item[0], item[which]]), ([kind, words]) => markWidth(kind) + textWidth(ctx, palette, words, { size: 11.5 }), 0, width, width, 14);
  const long = place(1);
  return long.at(-1).line ? place(2) : long;
}

const markWidth = (kind) => (kind === "finished" || kind === "failed" ? 12 : 30);
export const legendRows = (ctx, palette, book, width) => Math.max(0, ...legendPlaces(ctx, palette, book, width).map((p) => p.line)) + 1;

export function drawRowLegend(ctx, palette, book, { x, y, width, line }) {
  const boxes = makeBoxes();
  for (const { item: [kind, words], x: dx, line: row } of legendPlaces(ctx, palette, book, width)) {
    const left = x + dx, top = y + row * line;
    if (kind === "preempted") {
      addSegment(boxes, PREEMPTED, left + 3.5, left + 16, top, 12);
      addSegment(boxes, RECOMPUTE, left + 15, left + 24, top, 12);
    } else if (kind === "finished" || kind === "failed") addEnd(boxes, kind === "finished", left + 4, top, 12);
    else addSegment(boxes, KINDS.indexOf(kind), left, left + 24, top, 12);
    put(ctx, palette, words, left + markWidth(kind), top + 10, { size: 11.5, fill: palette.ink2 });
  }
  paintBoxes(ctx, palette, boxes, 12);
}

/** The line at which the last request ended. */
export function drawDone(ctx, palette, scale, t, top, bottom) {
  const words = `all done ${spoken(t)}`, x = scale.at(t), options = { size: 11, weight: 600 }, w = textWidth(ctx, palette, words, options);
  if (x < scale.x0 || x > scale.x1 + 1) return;
  const late = x + 5 + w > scale.x1 + 4;
  ctx.fillStyle = palette.ink;
  ctx.fillRect(x - 0.6, top, 1.2, bottom - top);
  ctx.save();
  ctx.globalAlpha = 0.85;
  ctx.fillStyle = palette.paper;
  ctx.fillRect(late ? x - 8 - w : x + 2, top, w + 6, 13);
  ctx.restore();
  put(ctx, palette, words, late ? x - 5 : x + 5, top + 10, { ...options, align: late ? "right" : "left" });
}
