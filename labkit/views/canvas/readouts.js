// TTFT, TPOT, throughput and padding of a panel: numbers, and every request as a dot.
import { duration } from "./clock.js";
import { median } from "./lanes.js";
import { hatchPath } from "./shapes.js";
import { fitting, percent, put, putRuns, thousands } from "./text.js";

/** Ends of the scales that all panels share: they hold whatever moment is shown. */
export function limitsOf(book) {
  const all = book.panels.flatMap((panel) => [...panel.requests.values()]), finite = (name) => all.map((r) => r[name]).filter((v) => v < Infinity);
  const rates = book.panels.map((p) => (p.now > 0 ? p.sums.sampled.at(-1) / p.now : 0));
  const most = (values, least) => values.reduce((a, b) => Math.max(a, b), 0) || least;
  return { ttft: most(finite("ttft"), 1), tpot: 1.05 * most(finite("tpot"), 1), throughput: most(rates, 1) };
}

function number(ctx, palette, label, [value, unit], x, right, y) {
  put(ctx, palette, label, x, y, { fill: palette.ink2 });
  putRuns(ctx, palette, [[value, { weight: 650, size: 16 }], [unit && ` ${unit}`, { fill: palette.ink2 }]], right, y, { align: "right" });
}

function dots(ctx, palette, label, values, limit, phase, x, right, y) {
  const wide = right - x, line = y + 14, middle = median(values), r = values.length <= 60 ? 3.6 : 2.4;
  number(ctx, palette, label, middle === null ? ["–", ""] : duration(middle), x, right, y);
  ctx.fillStyle = palette.edge;
  ctx.fillRect(x, line - 0.4, wide, 0.8);
  const at = (value) => x + 4 + (wide - 8) * Math.min(1, value / limit);
  ctx.fillStyle = palette[phase];
  ctx.strokeStyle = palette[`${phase}Edge`];
  ctx.lineWidth = 1;
  ctx.save();
  ctx.globalAlpha = values.length <= 60 ? 0.75 : 0.5;
  for (const value of values) {
    ctx.beginPath();
    if (phase === "prefill") ctx.arc(at(value), line, r, 0, 2 * Math.PI);
    else ctx.rect(at(value) - 0.83 * r, line - 0.83 * r, 1.67 * r, 1.67 * r);
    ctx.fill();
    ctx.stroke();
  }
  ctx.restore();
  ctx.fillStyle = palette.ink;
  if (middle !== null) ctx.fillRect(at(middle) - 1, line - 8, 2, 16);
}

const DRAW = [
  (ctx, palette, m, limits, x, right, y) => dots(ctx, palette, "TTFT", m.ttft, limits.ttft, "prefill", x, right, y),
  (ctx, palette, m, limits, x, right, y) => dots(ctx, palette, "TPOT", m.tpot, limits.tpot, "decode", x, right, y),
  (ctx, palette, m, limits, x, right, y) => {
    number(ctx, palette, "throughput", [thousands(m.throughput), right - x > 160 ? "tokens/s" : "/s"], x, right, y);
    ctx.fillStyle = palette.ink2;
    ctx.fillRect(x, y + 8, (right - x) * Math.min(1, m.throughput / limits.throughput), 5);
  },
  (ctx, palette, m, limits, x, right, y) => {
    number(ctx, palette, "padding", [percent(m.padding).split(" ")[0], right - x > 160 ? "% of step time" : "%"], x, right, y);
    const part = [x, y + 8, (right - x) * m.padding, 5];
    if (m.padding) hatchPath(ctx, [part], palette.edge);
    ctx.strokeStyle = palette.edge;
    ctx.lineWidth = 0.7;
    ctx.strokeRect(...part);
    ctx.strokeRect(x + 0.5, y + 8, right - x - 1, 5);
  },
];
const DOWNWARDS = [32, 72, 116, 150];

/** What the medians are of: said once where it is the same in all panels. */
export function drawReadoutHead(ctx, palette, measures, layout, edge) {
  const counts = measures.map((m) => m.ttft.length), most = Math.max(...counts), y = layout.legend.y + 10;
  const same = counts.every((n) => n === most) ? `median of n = ${thousands(most)}` : `medians, n = ${counts.map(thousands).join(", ")}`;
  const words = fitting(ctx, palette, [same, "medians"], layout.readouts.width - 66, { size: 11 });
  put(ctx, palette, "read-outs", layout.readouts.x, y, { size: 11.5, fill: palette.muted });
  put(ctx, palette, words, layout.width - edge, y, { size: 11, fill: palette.muted, align: "right" });
}

/** In a column beside the panel that begins at `y`, or side by side below it. */
export function drawReadouts(ctx, palette, m, limits, layout, y) {
  const { x, width } = layout.readouts;
  if (layout.two) DRAW.forEach((draw, i) => draw(ctx, palette, m, limits, x, x + width, y + DOWNWARDS[i]));
  else {
    const gap = 18, each = (width - 3 * gap) / 4;
    DRAW.forEach((draw, i) => draw(ctx, palette, m, limits, x + i * (each + gap), x + i * (each + gap) + each, y + layout.panel - layout.below + 16));
  }
}
