// The waste ledger: where the token slots of the pool are, against one contiguous reservation a request.
import { EDGE } from "./banner.js";
import { hatch } from "./shapes.js";
import { fitting, percent, put, textWidth, thousands } from "./text.js";

export function drawLedger(ctx, palette, pool, layout) {
  const { x, y, width } = layout.ledger, { ledger, contiguous } = pool.scene;
  const total = ledger.useful + ledger.tail + ledger.cached + ledger.free, scale = width / total;
  put(ctx, palette, "Waste ledger", EDGE, y + 14, { weight: 600 });
  put(ctx, palette, "if contiguous", EDGE, y + 41, { fill: palette.ink2 });
  if (contiguous.running) put(ctx, palette, `${contiguous.requests.length} of ${contiguous.running} would run`, EDGE, y + 55, { size: 10.5, fill: palette.muted });
  const label = { size: 11.5, weight: 600 };
  const words = (name, n, unit) => [`${name} ${thousands(n)}${unit} · ${percent(n / total)}`, `${name} ${thousands(n)}`, `${name} ${percent(n / total)}`, percent(n / total)];
  let at = x;
  const segment = (n, paint) => {
    const w = n * scale, from = at;
    at += w;
    if (w > 0) paint(from, w);
  };
  segment(ledger.useful, (from, w) => {
    ctx.fillStyle = palette.bar;
    ctx.fillRect(from, y, w, 20);
    put(ctx, palette, fitting(ctx, palette, words("useful", ledger.useful, " slots"), w - 14, label), from + 8, y + 14, { ...label, fill: "#FFFFFF" });
  });
  segment(ledger.tail, (from, w) => {
    ctx.fillStyle = palette.alert;
    ctx.fillRect(from, y, Math.max(1, w), 20);
    ctx.fillRect(from + w / 2 - 0.5, y - 3, 1, 3);
    const text = `empty tail slots ${thousands(ledger.tail)} · ${percent(ledger.tail / total)}`, half = textWidth(ctx, palette, text, { size: 11, weight: 600 }) / 2;
    put(ctx, palette, text, Math.min(Math.max(from + w / 2, x + half), x + width - half), y - 6, { size: 11, weight: 600, fill: palette.alert, align: "center" });
  });
  segment(ledger.cached, (from, w) => {
    hatch(ctx, from, y, w, 20, palette.edge, 5, 1.5);
    const text = fitting(ctx, palette, words("cached", ledger.cached, ""), w - 18, label);
    if (!text) return;
    ctx.fillStyle = palette.paper;
    ctx.fillRect(from + 5, y + 3, textWidth(ctx, palette, text, label) + 10, 14);
    put(ctx, palette, text, from + 10, y + 14, label);
  });
  segment(ledger.free, (from, w) => put(ctx, palette, fitting(ctx, palette, words("free", ledger.free, ""), w - 14, label), from + 8, y + 14, label));
  ctx.strokeStyle = palette.edge;
  ctx.lineWidth = 0.9;
  ctx.strokeRect(x + 0.5, y + 0.5, width - 1, 19);
  drawContiguous(ctx, palette, contiguous, total, { x, y: y + 30, width, scale });
}

function drawContiguous(ctx, palette, c, total, { x, y, width, scale }) {
  let at = x;
  const small = { size: 11 }, inside = (variants, from, w, options) => put(ctx, palette, fitting(ctx, palette, variants, w - 14, options), from + 8, y + 10.5, options);
  for (const [letter, written] of c.requests) {
    const own = written * scale, rest = (c.reserve - written) * scale, unwritten = c.reserve - written;
    ctx.fillStyle = palette.bar;
    ctx.fillRect(at, y, own, 13);
    inside([`${letter} ${thousands(written)}`, letter], at, own, { size: 11, weight: 600, fill: "#FFFFFF" });
    ctx.globalAlpha = 0.25;
    ctx.fillStyle = palette.alert;
    ctx.fillRect(at + own, y, rest, 13);
    ctx.globalAlpha = 1;
    const never = `never written: ${thousands(unwritten)} slots`;
    inside([`reserved for ${letter} up to ${thousands(c.reserve)}, ${never}`, `reserved, ${never}`, never, thousands(unwritten)], at + own, rest, small);
    at += own + rest;
    ctx.fillStyle = palette.paper;
    ctx.fillRect(at - 1, y, 1, 13);
  }
  ctx.strokeStyle = palette.edge;
  ctx.lineWidth = 0.9;
  ctx.strokeRect(x + 0.5, y + 0.5, width - 1, 12);
  if (c.left) inside(leftWords(c), at, x + width - at, small);
}

function leftWords(c) {
  const fit = c.requests.length, left = `${thousands(c.left)} left`;
  if (!c.running) return [`${thousands(c.left)} slots: one reservation of ${thousands(c.reserve)} for each request`, left];
  if (fit === c.running) return [left];
  if (!fit) return [`${left}: a single reservation takes ${thousands(c.reserve)}`, left];
  const next = ["", "a second", "a third", "a fourth", "a fifth"][fit] || "another";
  return [`${left}: too few for ${next} request`, left];
}
