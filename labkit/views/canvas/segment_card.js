// One segment close up: what it is, when, how many tokens, how many blocks; and the request that it belongs to.
import { spoken } from "./clock.js";
import { DECODE, endOf, firstAbove, KINDS, PADDING, PREEMPTED, QUEUED, STALLED } from "./lanes.js";
import { box } from "./shapes.js";
import { plural, put, textWidth, thousands } from "./text.js";

const NAMES = { recompute: "prefill again, after preemption", stalled: "in no step", padding: "padding, slot held" };


/** Tokens of a segment that goes on: one a step. */
function tokensOf(panel, s) {
  if (s.t1 < Infinity || (s.kind !== DECODE && s.kind !== PADDING)) return s.tokens;
  return panel.columns.decode.slice(firstAbove(panel.columns.step, s.at - 1)).filter(Boolean).length;
}

/** The card in lines of text: [title, ...lines]. */
export function cardLines(panel, request, s) {
  const t1 = endOf(panel, s), going = s.t1 === Infinity, name = KINDS[s.kind], spent = t1 - s.t0;
  const last = going ? panel.columns.step.at(-1) ?? s.at : s.last, steps = last > s.at ? `steps ${thousands(s.at)}–${thousands(last)}` : `step ${thousands(s.at)}`;
  const lines = [`${request.letter} · ${NAMES[name] ?? name}`], waits = s.kind === QUEUED || s.kind === PREEMPTED;
  const tokens = tokensOf(panel, s);
  if (waits) lines.push(`${going ? "waits since" : "waited"} ${spoken(spent)}`, `${going ? "" : "scheduled in "}step ${thousands(last)}`);
  else lines.push(`${steps}, ${spoken(spent)}${going ? " so far" : ""}`);
  if (s.kind !== STALLED && !waits) lines.push(`${plural(tokens, "token")}${tokens > 1 && s.kind === DECODE ? `, ${spoken(spent / tokens)} each` : ""}`);
  lines.push(`${spoken(s.t0)} to ${going ? "now" : spoken(t1)}`);
  if (s.blocks) lines.push(`${plural(s.blocks, "block")} held`);
  lines.push(...requestLines(request));
  return lines;
}

function requestLines(r) {
  const lines = [`prompt ${thousands(r.prompt)}, at most ${thousands(r.limit)} out`];
  const times = [r.ttft < Infinity ? `TTFT ${spoken(r.ttft)}` : "", r.tpot < Infinity ? `TPOT ${spoken(r.tpot)}` : ""].filter(Boolean);
  if (times.length) lines.push(times.join(", "));
  if (r.finish < Infinity) lines.push(`ended at ${spoken(r.finish)}: ${r.reason}`);
  if (r.preempted) lines.push(`preempted ${r.preempted === 1 ? "once" : `${r.preempted} times`}`);
  return lines;
}

/** Draws `lines` in a box of its own: at the place that the layout keeps for it, else near `anchor` ({x, y} of the segment's end). */
export function drawCard(ctx, palette, lines, layout, anchor) {
  const title = { size: 12, weight: 650 }, small = { size: 11, fill: palette.ink2 };
  const inner = lines.reduce((w, text, i) => Math.max(w, textWidth(ctx, palette, text, i ? small : title)), 0);
  const width = layout.card ? layout.readouts.width : inner + 22, height = 14 + 16 * lines.length;
  const left = layout.card ? layout.card.x : Math.max(8, Math.min(anchor.x + 12, layout.width - width - 8));
  const top = layout.card ? layout.card.y : anchor.y + 10 + height > layout.axis ? anchor.y - height - 10 : anchor.y + 10;
  box(ctx, left + 0.5, top + 0.5, width - 1, height, 6);
  ctx.fillStyle = palette.panel;
  ctx.fill();
  ctx.strokeStyle = layout.card ? palette.line : palette.edge;
  ctx.lineWidth = 1;
  ctx.stroke();
  lines.forEach((text, i) => put(ctx, palette, text, left + 11, top + 18 + 16 * i, i ? small : title));
}
