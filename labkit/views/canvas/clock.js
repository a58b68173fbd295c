// The time axis: its part that is shown, its ticks, and the words for moments and durations.
import { put, textWidth, thousands } from "./text.js";
import { box } from "./shapes.js";

const UNITS = { ms: 1e3, s: 1, min: 1 / 60 };

/** [number, unit] of a duration in seconds, at most three or four digits: words.py says the same. */
export function duration(seconds) {
  if (seconds === 0) return ["0", "ms"];
  if (seconds < 9.9995) return [seconds < 0.09995 ? (1e3 * seconds).toFixed(1) : thousands(1e3 * seconds), "ms"];
  if (seconds < 599.5) return [seconds < 99.95 ? seconds.toFixed(1) : thousands(seconds), "s"];
  return [seconds < 5997 ? (seconds / 60).toFixed(1) : thousands(seconds / 60), "min"];
}

export const spoken = (seconds) => duration(seconds).join(" ");

/** The end of an axis that shows this much. While a run grows it moves on in steps, so that the picture seldom changes its scale. */
export function niceEnd(seconds, growing) {
  if (seconds <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(seconds));
  if (!growing) return Math.ceil(seconds / (power / 10) - 1e-9) * (power / 10);
  return power * [1, 1.25, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10].find((k) => k * power >= seconds * 1.02 || k === 10);
}

/** Seconds from `begin` to `end` on pixels from `x0` to `x1`. */
export function makeScale(x0, x1, begin, end) {
  const rate = (x1 - x0) / (end - begin);
  return { x0, x1, begin, end, at: (t) => x0 + (t - begin) * rate, time: (x) => begin + (x - x0) / rate };
}

export function ticks({ begin, end, x0, x1 }, room = 88) {
  const raw = ((end - begin) * room) / (x1 - x0), power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((k) => k * power).find((s) => s >= raw * 0.999);
  const out = [];
  for (let k = Math.ceil(begin / step - 1e-6); k * step <= end * (1 + 1e-9); k++) out.push(k * step);
  return { step, marks: out };
}

export function drawGrid(ctx, palette, scale, top, bottom) {
  ctx.fillStyle = palette.line;
  for (const t of ticks(scale).marks) ctx.fillRect(Math.round(scale.at(t)) - 0.5, top, 1, bottom - top);
}

/** A moment in a pill below the axis: filled where the view stands, outlined where a pointer is. Returns the room it takes. */
function pill(ctx, palette, scale, t, y, filled) {
  const words = spoken(Math.max(0, t)), options = { size: 10.5, weight: 650 }, half = textWidth(ctx, palette, words, options) / 2 + 8;
  const x = Math.min(Math.max(scale.at(t), scale.x0 + half - 30), scale.x1 - half + 24);
  box(ctx, x - half, y - 12, 2 * half, 16, 8);
  ctx.fillStyle = filled ? palette.ink : palette.paper;
  ctx.fill();
  ctx.lineWidth = 1;
  ctx.strokeStyle = palette.ink;
  if (!filled) ctx.stroke();
  put(ctx, palette, words, x, y, { ...options, align: "center", fill: filled ? palette.paper : palette.ink });
  return [x - half - 4, x + half + 4];
}

/** Ticks with their baseline at `y`; `pills`: [{t, filled}]. */
export function drawAxis(ctx, palette, scale, y, pills) {
  const { step, marks } = ticks(scale), unit = scale.end < 3 || scale.end >= 600 ? duration(scale.end)[1] : "s", small = { size: 10.5, fill: palette.muted };
  const digits = step * UNITS[unit] >= 1 - 1e-9 ? 0 : Math.ceil(-Math.log10(step * UNITS[unit]) - 1e-9);
  const taken = pills.map((p) => pill(ctx, palette, scale, p.t, y, p.filled));
  let free = -Infinity;
  marks.forEach((t, i) => {
    const number = digits ? (t * UNITS[unit]).toFixed(digits) : thousands(t * UNITS[unit]);
    const words = i === marks.length - 1 ? `${number} ${unit}` : number, half = textWidth(ctx, palette, words, small) / 2, x = scale.at(t);
    if (x - half < free || taken.some(([from, to]) => x + half > from && x - half < to)) return;
    put(ctx, palette, words, x, y, { ...small, align: "center" });
    free = x + half + 8;
  });
}

/** Washes out what comes after `t`, and draws the line of the moment. */
export function drawMoment(ctx, palette, scale, t, top, bottom) {
  const x = Math.min(Math.max(scale.at(t), scale.x0), scale.x1);
  ctx.save();
  ctx.globalAlpha = 0.62;
  ctx.fillStyle = palette.paper;
  ctx.fillRect(x, top, scale.x1 - x + 1, bottom - top);
  ctx.restore();
  if (scale.at(t) >= scale.x0 && scale.at(t) <= scale.x1) dottedLine(ctx, palette.ink, x, top, bottom);
}

export function dottedLine(ctx, colour, x, top, bottom) {
  ctx.beginPath();
  ctx.setLineDash([1.5, 2.5]);
  ctx.moveTo(x, top);
  ctx.lineTo(x, bottom);
  ctx.strokeStyle = colour;
  ctx.lineWidth = 1;
  ctx.stroke();
  ctx.setLineDash([]);
}
