// The waste ledger's pictures: memory as stacked areas over time, time as a stacked bar, both as numbers.
import { spoken } from "./clock.js";
import { firstAbove, SHARES, SLOTS } from "./lanes.js";
import { hatch } from "./shapes.js";
import { fitting, percent, put, textWidth, thousands } from "./text.js";

export const SLOT_NAMES = { useful: "useful", tail: "empty tail", reserved: "reserved", cached: "cached", free: "free" };
export const AREA = 128, BAR = 20, LIST = 17; // pixels: height of the areas and of the bar, a line of numbers

/** Fill, edge and hatch of a part of memory or time: no two differ by colour alone. */
const looks = (c) => ({
  useful: [c.bar], tail: [c.alert], reserved: [c.reserved, c.alert], cached: [null, null, c.edge], free: [null, c.edge],
  prefill: [c.prefill, c.prefillEdge], decode: [c.decode], recompute: [c.prefill, c.alert, c.again], padding: [null, c.edge, c.edge], idle: [null, c.edge],
});

function drawPart(ctx, palette, name, x, y, w, h) {
  const [fill, edge, lines] = looks(palette)[name];
  ctx.fillStyle = fill || palette.paper;
  ctx.fillRect(x, y, w, h);
  if (lines) hatch(ctx, x, y, w, h, lines, 5, 1.3);
  if (!edge) return;
  ctx.strokeStyle = edge;
  ctx.lineWidth = 0.9;
  ctx.strokeRect(x + 0.5, y + 0.5, Math.max(0, w - 1), h - 1);
}

/** Four digits as they are, more in thousands or millions. */
export const compact = (n) => (n < 10000 ? thousands(n) : n < 999500 ? `${+(n / 1e3).toPrecision(3)} k` : `${+(n / 1e6).toPrecision(3)} M`);

/** Stretches [x, x1, index of the step that they follow]: the last one in each half pixel. */
export function stretches(panel, scale) {
  const { end } = panel, first = Math.max(0, firstAbove(end, scale.begin) - 1), last = firstAbove(end, scale.end), out = [];
  const at = (t) => Math.min(Math.max(scale.at(t), scale.x0), scale.x1);
  for (let i = first; i < last; i++) {
    const x = at(end[i]), x1 = Math.max(x, at(i + 1 < end.length ? end[i + 1] : panel.now)), before = out.at(-1);
    if (before && Math.floor(2 * before[0]) === Math.floor(2 * x)) before.splice(1, 2, x1, i);
    else out.push([x, x1, i]);
  }
  return out;
}

/** Slots over time; `most` of them fill the height. */
export function drawAreas(ctx, palette, panel, scale, most, y) {
  const base = y + AREA, parts = stretches(panel, scale), floor = new Float64Array(parts.length), small = { size: 10.5, fill: palette.muted, align: "right" };
  put(ctx, palette, "memory", scale.x0 - 10, y + 10, small);
  put(ctx, palette, compact(most), scale.x0 - 10, y + 23, small);
  put(ctx, palette, "0", scale.x0 - 10, base, small);
  ctx.fillStyle = palette.line;
  ctx.fillRect(scale.x0, y - 0.5, scale.x1 - scale.x0, 1);
  for (const name of SLOTS) {
    const column = panel.columns[name], [fill, edge, lines] = looks(palette)[name];
    const top = parts.map(([, , i], k) => floor[k] + ((column[i] ?? 0) * AREA) / most);
    if (parts.length && parts.some((_, k) => top[k] - floor[k] > 0.05)) {
      const trace = (level, back) => (back ? [...parts.keys()].reverse() : [...parts.keys()]).forEach((k) => {
        const [x, x1] = parts[k];
        for (const px of back ? [x1, x] : [x, x1]) ctx.lineTo(px, base - level[k]);
      });
      ctx.beginPath();
      trace(top, false);
      trace(floor, true);
      ctx.closePath();
      if (fill) {
        ctx.fillStyle = fill;
        ctx.fill();
      }
      if (lines) {
        ctx.save();
        ctx.clip();
        hatch(ctx, scale.x0, y, scale.x1 - scale.x0, AREA, lines, 5, 1.1);
        ctx.restore();
      }
      if (name !== "free") {
        ctx.beginPath();
        trace(top, false);
        ctx.strokeStyle = edge || palette.ink2;
        ctx.lineWidth = 0.9;
        ctx.stroke();
      }
    }
    top.forEach((value, k) => { floor[k] = value; });
  }
  ctx.fillStyle = palette.ink2;
  ctx.fillRect(scale.x0, base - 0.5, scale.x1 - scale.x0, 1);
}

/** A bar as long as the run took, on the axis of the panels, divided as its time was. */
export function drawTime(ctx, palette, panel, m, scale, y) {
  const total = SHARES.reduce((sum, name) => sum + (m.seconds[name] ?? 0), 0), label = { size: 11, weight: 600 };
  put(ctx, palette, "time", scale.x0 - 10, y + 14, { size: 10.5, fill: palette.muted, align: "right" });
  if (!total) return;
  let x = scale.x0;
  const rate = (scale.x1 - scale.x0) / (scale.end - scale.begin);
  ctx.save();
  ctx.beginPath();
  ctx.rect(scale.x0, y, scale.x1 - scale.x0, BAR);
  ctx.clip();
  for (const name of SHARES) {
    const w = m.seconds[name] * rate, share = percent(m.seconds[name] / total);
    if (w <= 0.05) continue;
    drawPart(ctx, palette, name, x, y, w, BAR);
    const text = fitting(ctx, palette, [`${name} ${spoken(m.seconds[name])} · ${share}`, `${name} ${share}`, share], w - 12, label);
    const on = { decode: palette.onDecode, prefill: "#10151A", recompute: "#10151A" }[name] ?? palette.ink;
    if (text && looks(palette)[name][2]) {
      ctx.fillStyle = name === "recompute" ? palette.prefill : palette.paper;
      ctx.fillRect(x + 4, y + 4, textWidth(ctx, palette, text, label) + 6, BAR - 8);
    }
    put(ctx, palette, text, x + 7, y + 14, { ...label, fill: on });
    x += w;
  }
  ctx.restore();
  const words = spoken(total);
  if (x + 8 + textWidth(ctx, palette, words, { size: 11 }) < scale.x1 + 4) put(ctx, palette, words, x + 8, y + 14, { size: 11, fill: palette.ink2 });
}

/** Memory now and on average, at (x, y); time in shares, at `time`. */
export function drawNumbers(ctx, palette, m, { x, width, y }, time) {
  const list = (title, heads, names, row, at) => {
    const columns = [at.x + width - 54, at.x + width];
    put(ctx, palette, title, at.x, at.y, { size: 11.5, weight: 600 });
    heads.forEach((head, k) => put(ctx, palette, head, columns[k], at.y, { size: 11, fill: palette.muted, align: "right" }));
    names.forEach((name, i) => {
      const line = at.y + LIST * (i + 1), [now, mean] = row(name);
      drawPart(ctx, palette, name, at.x, line - 9, 12, 10);
      put(ctx, palette, SLOT_NAMES[name] ?? name, at.x + 18, line, { fill: palette.ink2 });
      put(ctx, palette, now, columns[0], line, { align: "right" });
      put(ctx, palette, mean, columns[1], line, { weight: 600, align: "right" });
    });
  };
  const total = SLOTS.reduce((sum, name) => sum + m.slots[name], 0) || 1, spent = SHARES.reduce((sum, name) => sum + (m.seconds[name] ?? 0), 0);
  list("memory", ["now", "mean"], SLOTS, (name) => [percent(m.slots[name] / total), percent(m.mean[name])], { x, y });
  list("time", ["", "share"], SHARES, (name) => [spoken(m.seconds[name] ?? 0), spent ? percent(m.seconds[name] / spent) : "–"], time);
}
