// What each step computed, below the rows: prefill tokens upwards, requests in decode downwards.
import { firstAbove } from "./lanes.js";
import { hatchPath } from "./shapes.js";
import { fitting, put, thousands } from "./text.js";

export const UP = 24, DOWN = 16; // pixels of the two parts
const BARS = ["prefill", "recompute", "padded", "decode", "held"];

/** Tokens and requests that fill the two parts, in all panels alike: see strip_scale in still_bars.py. */
export function stripScale(book) {
  const peaks = [], budgets = [0];
  let slots = 1;
  for (const { columns: c, budget } of book.panels) {
    let peak = 0;
    for (let i = 0; i < c.step.length; i++) {
      peak = Math.max(peak, c.prefill[i] + c.recompute[i] + c.padded[i]);
      slots = Math.max(slots, c.decode[i] + c.held[i]);
    }
    if (peak) peaks.push(peak);
    budgets.push(budget);
  }
  const most = Math.max(1, ...peaks), least = peaks.length ? Math.min(...peaks) : 1, budget = Math.max(...budgets);
  const full = Math.min(most, 2 * Math.max(least, Math.min(budget, most)));
  return { most: Math.max(1, full, budget < 1.6 * full ? 1.6 * budget : 0), slots };
}

/** Bars as [x, x1, prefill, recompute, padded, decode, held]: a bar a step, or, where there are more steps than pixels, a bar a pixel, as
 * high as the mean of the steps that begin in it. */
export function barsBetween(panel, scale) {
  const { columns, start, end } = panel, first = firstAbove(end, scale.begin), last = firstAbove(start, scale.end);
  const dense = last - first > scale.x1 - scale.x0, out = [];
  let bar = null, pixel = -1, n = 0;
  const finish = () => {
    if (bar) for (let k = 2; k < 7; k++) bar[k] /= n;
  };
  for (let i = first; i < last; i++) {
    const values = BARS.map((name) => columns[name][i]);
    if (!values.some(Boolean)) continue;
    const x = Math.max(scale.x0, scale.at(start[i])), x1 = Math.min(scale.x1, scale.at(end[i]));
    if (!dense) {
      out.push([x, x1, ...values]);
      continue;
    }
    if (Math.floor(x) !== pixel) {
      finish();
      pixel = Math.floor(x);
      n = 0;
      out.push((bar = [pixel, pixel + 1, 0, 0, 0, 0, 0]));
    }
    n += 1;
    bar[1] = Math.max(bar[1], x1);
    values.forEach((value, k) => { bar[k + 2] += value; });
  }
  if (dense) finish();
  return out;
}

export function drawBars(ctx, palette, panel, scale, full, y) {
  const { most, slots } = full, { x0, x1 } = scale, fresh = [], again = [], padded = [], decode = [], held = [], cut = [];
  ctx.fillStyle = palette.panel;
  ctx.fillRect(x0, y - UP, x1 - x0, UP + DOWN);
  const bars = barsBetween(panel, scale);
  for (const [x, end, p, r, q, d, h] of bars) {
    const w = Math.max(0.8, end - x - 0.35), all = p + r + q, unit = all ? (UP * Math.min(1, all / most)) / all : 0;
    if (p) fresh.push([x, y - unit * p, w, unit * p]);
    if (r) again.push([x, y - unit * (p + r), w, unit * r]);
    if (q) padded.push([x, y - unit * all, w, unit * q]);
    if (all > 1.001 * most && w > 2) cut.push([x, x + w, all, q]);
    if (d) decode.push([x, y + 0.5, w, (DOWN * d) / slots]);
    if (h) held.push([x, y + 0.5 + (DOWN * d) / slots, w, (DOWN * h) / slots]);
  }
  const fill = (list, colour, edge, width = 0.8) => {
    ctx.beginPath();
    for (const r of list) ctx.rect(...r);
    ctx.fillStyle = colour;
    if (colour) ctx.fill();
    ctx.strokeStyle = edge;
    ctx.lineWidth = width;
    if (edge) ctx.stroke();
  };
  hatchPath(ctx, [...padded, ...held], palette.edge);
  fill(padded, null, palette.edge, 0.6);
  fill(fresh, palette.prefill, bars.length < 300 ? palette.prefillEdge : null);
  fill(again, palette.prefill, null);
  hatchPath(ctx, again, palette.again);
  fill(again, null, palette.alert, 1);
  fill(decode, palette.decode, null);
  ctx.fillStyle = palette.ink2;
  ctx.fillRect(x0, y - 0.5, x1 - x0, 1);
  drawCut(ctx, palette, cut, bars, x1, y);
  if (panel.budget && panel.budget <= most) drawBudget(ctx, palette, panel.budget, x0, x1, y - (UP * panel.budget) / most);
  put(ctx, palette, "prefill", x0 - 10, y - UP / 2 + 3, { size: 10.5, fill: palette.muted, align: "right" });
  put(ctx, palette, "decode", x0 - 10, y + DOWN / 2 + 5, { size: 10.5, fill: palette.muted, align: "right" });
}

function drawBudget(ctx, palette, budget, x0, x1, y) {
  ctx.beginPath();
  ctx.setLineDash([4, 3]);
  ctx.moveTo(x0, y);
  ctx.lineTo(x1, y);
  ctx.strokeStyle = palette.prefillEdge;
  ctx.lineWidth = 1;
  ctx.stroke();
  ctx.setLineDash([]);
  put(ctx, palette, `budget ${thousands(budget)} tokens per step`, x1 - 2, y - 3, { size: 10.5, fill: palette.ink2, align: "right" });
}

/** A gap in bars that are higher than there is room, and beside it how many tokens they stand for. */
function drawCut(ctx, palette, cut, bars, end, y) {
  cut.forEach(([x, x1, total, padded]) => {
    ctx.beginPath();
    ctx.moveTo(x - 1, y - UP + 6);
    for (const [px, dy] of [[x1 + 1, 3], [x1 + 1, 5], [x - 1, 8]]) ctx.lineTo(px, y - UP + dy);
    ctx.fillStyle = palette.panel;
    ctx.fill();
    const words = [`${thousands(total)} tokens`, thousands(total)];
    if (padded) words.unshift(`${thousands(total)} tokens, ${Math.round((100 * padded) / total)} % padding`);
    const next = bars.find((bar) => bar[0] > x1 - 1 && bar[2] + bar[3] + bar[4] > 0)?.[0] ?? end;
    const text = fitting(ctx, palette, words, next - x1 - 8, { size: 10.5 });
    put(ctx, palette, text, x1 + 4, y - UP + 9, { size: 10.5, fill: palette.ink2 });
  });
}
