// The top of every view: its name, counters that flow into as many lines as the width needs, the badge, a rule.
import { box } from "./shapes.js";
import { put, putRuns, runsWidth, textWidth, wrap } from "./text.js";

export const EDGE = 24; // margin left and right
const LINE = 20;

const badgeRuns = (badge) => [[badge[0], { weight: 600 }], [` – ${badge[1]}`]];

/** Where `items` stand from x on in lines of `room`, the first of `firstRoom`: [{item, x, line}]. */
export function flow(items, widthOf, x, room, firstRoom, gap) {
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

function places(ctx, palette, { title, counters, badge }, width) {
  const name = textWidth(ctx, palette, title, { size: 18, weight: 650 });
  const badgeWidth = runsWidth(ctx, palette, badgeRuns(badge)) + 34;
  const widthOf = (runs) => runsWidth(ctx, palette, runs) + 4;
  const x = EDGE + name + 10;
  return { places: flow(counters, widthOf, x, width - EDGE - x, width - EDGE - badgeWidth - 14 - x, 14), badgeWidth };
}

/** banner: {title, counters: [runs], badge: [kind, words]}. The y of the rule below it. */
export const bannerRule = (ctx, palette, banner, width) => 46 + LINE * Math.max(0, ...places(ctx, palette, banner, width).places.map((p) => p.line));

export function drawBanner(ctx, palette, banner, { width, rule }) {
  const all = places(ctx, palette, banner, width);
  put(ctx, palette, banner.title, EDGE, 31, { size: 18, weight: 650 });
  for (const p of all.places) putRuns(ctx, palette, p.item, p.x, 31 + LINE * p.line, { fill: palette.ink2 });
  drawBadge(ctx, palette, banner.badge, width - EDGE - all.badgeWidth, all.badgeWidth);
  ctx.fillStyle = palette.line;
  ctx.fillRect(EDGE, rule, width - 2 * EDGE, 1);
}

function drawBadge(ctx, palette, badge, x, w) {
  const kind = badge[0], y = 26;
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
  putRuns(ctx, palette, badgeRuns(badge), x + 24, y + 4);
}

const footerRoom = (width) => width - 2 * EDGE - 70; // the table toggle stands at the right

export const footerLines = (ctx, palette, text, width) => wrap(ctx, palette, text, footerRoom(width), { size: 10.5 }).length;

export function drawFooter(ctx, palette, text, { width, foot }) {
  wrap(ctx, palette, text, footerRoom(width), { size: 10.5 }).forEach((words, i) => put(ctx, palette, words, EDGE, foot.y + i * foot.line, { size: 10.5, fill: palette.muted }));
}
