// The right column: the list of requests, and the card of the block that is looked at.
import { cellOf, drawCell } from "./cells.js";
import { ROW } from "./layout.js";
import { box } from "./shapes.js";
import { drawChip } from "./strip.js";
import { fitting, put, putRuns, runsWidth, textWidth, thousands } from "./text.js";

/** The rows that fit, the selected request among them, and how many stand behind. */
export function visibleRows(scene, layout) {
  const hidden = scene.hidden[0] + scene.hidden[1], all = scene.rows.length + hidden, room = layout.requests.rows;
  if (all <= room) return { rows: scene.rows, more: 0 };
  const rows = scene.rows.slice(0, room - 1);
  const at = scene.rows.findIndex((r) => r.letter === scene.selected?.letter);
  if (at >= rows.length) rows[rows.length - 1] = scene.rows[at];
  return { rows, more: all - rows.length };
}

export function drawRequests(ctx, palette, pool, layout) {
  const { scene } = pool, { x, y, width } = layout.requests, size = scene.block_size;
  const column = (at) => x + (at / 344) * width;
  put(ctx, palette, "Requests", x, y + 12, { weight: 600 });
  for (const [name, at] of [["tokens", 166], ["blocks", 214], ["shared", 262], ["tail", 344]]) put(ctx, palette, name, column(at), y + 12, { size: 11, fill: palette.muted, align: "right" });
  const { rows, more } = visibleRows(scene, layout);
  rows.forEach((r, i) => {
    const top = y + 20 + i * ROW, chosen = r.letter === scene.selected?.letter, weight = chosen ? 600 : 400;
    if (chosen) {
      box(ctx, x - 6, top, width + 6, ROW - 1, 4);
      ctx.fillStyle = palette.panel;
      ctx.fill();
    }
    drawChip(ctx, palette, r.letter, r.slot, x, top + 2.5, 16, chosen);
    const quiet = r.phase === "waiting";
    put(ctx, palette, r.phase, x + 26, top + 15, { weight, fill: quiet ? palette.muted : palette.ink2 });
    const cross = r.preemptions ? `×${r.preemptions}` : "";
    if (cross) put(ctx, palette, cross, x + 30 + textWidth(ctx, palette, r.phase, { weight }), top + 15, { size: 11, weight: 650, fill: palette.alert });
    put(ctx, palette, thousands(r.tokens), column(166), top + 15, { weight, fill: quiet ? palette.muted : palette.ink, align: "right" });
    if (quiet) {
      const text = fitting(ctx, palette, [`needs ${thousands(r.needs)} blocks`, `${thousands(r.needs)} blocks`], column(344) - column(166) - 12, { size: 11 });
      put(ctx, palette, text, column(344), top + 15, { size: 11, fill: palette.muted, align: "right" });
      return;
    }
    put(ctx, palette, thousands(r.blocks), column(214), top + 15, { weight, align: "right" });
    put(ctx, palette, r.shared ? thousands(r.shared) : "–", column(262), top + 15, { weight, align: "right" });
    const tail = `${r.tail}/${size}`, barWidth = Math.min(26, column(344) - column(280) - textWidth(ctx, palette, `${size}/${size}`, { size: 11 }) - 6);
    if (barWidth > 8) {
      ctx.fillStyle = palette.owners[r.slot % 6].edge;
      ctx.fillRect(column(280), top + 8, (barWidth * r.tail) / size, 6);
      ctx.strokeStyle = palette.edge;
      ctx.lineWidth = 0.8;
      ctx.strokeRect(column(280), top + 8, barWidth, 6);
    }
    put(ctx, palette, tail, column(344), top + 15, { size: 11, fill: palette.ink2, align: "right" });
  });
  if (more) {
    const top = y + 20 + rows.length * ROW;
    put(ctx, palette, `and ${thousands(more)} more: type a letter, or open the table`, x + 26, top + 15, { size: 11, fill: palette.muted });
  }
  if (!rows.length) put(ctx, palette, "none yet", x, y + 35, { fill: palette.muted });
}

const pair = ([letter, slot, logical]) => ({ letter, slot, text: `[${logical}]` });

export function drawCard(ctx, palette, pool, layout, focus) {
  const { x, y, width, height } = layout.card, { card, block_size: size } = pool.scene;
  box(ctx, x, y, width, height, 6);
  ctx.fillStyle = palette.panel;
  ctx.fill();
  const left = x + 12, right = x + width - 10;
  if (focus < 0 || !card || card.block !== focus) {
    put(ctx, palette, focus < 0 ? "no block is looked at" : `block ${focus}`, left, y + 21, { size: 12.5, weight: 650, fill: focus < 0 ? palette.ink2 : palette.ink });
    if (focus < 0) put(ctx, palette, "point at a block, or Tab to the grid and use the arrow keys", left, y + 42, { fill: palette.muted, size: 11 });
    return;
  }
  drawCell(ctx, palette, cellOf(pool, focus), left, y + 6, 20);
  box(ctx, left - 2, y + 4, 24, 24, 4);
  ctx.strokeStyle = palette.ink;
  ctx.lineWidth = 1.75;
  ctx.stroke();
  putRuns(ctx, palette, [[`block ${card.block}`, { weight: 650 }], [` · ${headline(card, size)}`, { fill: palette.ink2 }]], left + 31, y + 21, { size: 12.5 });
  drawTokens(ctx, palette, card, left, y + 37, right, layout.card.tokenLines);
  const line = y + height - 61;
  put(ctx, palette, "owners", left, line, { size: 11, fill: palette.muted });
  const facts = [["refs ", { fill: palette.muted }], [String(card.owners.length), { weight: 650 }]];
  if (card.state !== "free" && card.state !== "null") facts.push(["age", { fill: palette.muted, dx: 14 }], [` ${thousands(card.age)} step${card.age === 1 ? "" : "s"}`, { weight: 600 }]);
  const factsAt = right - runsWidth(ctx, palette, facts, { size: 11 });
  let at = left + 58, shown = 0;
  for (const o of card.owners.map(pair)) {
    const wide = 19 + textWidth(ctx, palette, o.text, { size: 11 }) + 10;
    if (at + wide > factsAt - (shown < card.owners.length - 1 ? 30 : 4)) break;
    drawChip(ctx, palette, o.letter, o.slot, at, line - 11.5, 15, o.letter === pool.scene.selected?.letter);
    put(ctx, palette, o.text, at + 19, line, { size: 11, fill: palette.ink2 });
    at += wide;
    shown += 1;
  }
  if (shown < card.owners.length) put(ctx, palette, `+${card.owners.length - shown}`, at, line, { size: 11, fill: palette.ink2 });
  if (!card.owners.length) put(ctx, palette, card.last_owner ? `none (last: ${card.last_owner})` : "none", at, line, { size: 11, fill: palette.ink2 });
  putRuns(ctx, palette, facts, factsAt, line, { size: 11 });
  drawChain(ctx, palette, card, left, line + 17, right);
}

function headline(card, size) {
  if (card.state === "null") return "null block, never given out";
  if (card.state === "free") return "free";
  const tokens = card.begin >= 0 ? `tokens ${card.begin}–${card.begin + Math.max(0, card.filled - 1)}` : `${card.filled} tokens`;
  if (card.filled === 0) return "given, nothing written yet";
  return card.state === "tail" ? `${tokens} · ${card.filled} of ${size} filled` : card.state === "cached" ? `cached · ${tokens}` : tokens;
}

function drawTokens(ctx, palette, card, x, y, right, lines) {
  const mono = { size: 11, mono: true };
  let at = x, line = 0;
  for (let i = 0; i < card.tokens.length; i++) {
    const w = textWidth(ctx, palette, card.tokens[i], mono) + 8, rest = card.tokens.length - i;
    if (at + w > right && at > x) {
      at = x;
      line += 1;
    }
    const last = line === lines - 1 && rest > 1;
    if (line >= lines || (last && at + w + 34 > right)) {
      put(ctx, palette, `+${rest}`, at + 2, y + Math.min(line, lines - 1) * 19 + 10, { size: 11, fill: palette.muted });
      return;
    }
    const top = y + line * 19;
    box(ctx, at + 0.5, top - 2 + 0.5, w - 1, 15, 2.5);
    ctx.fillStyle = palette.paper;
    ctx.fill();
    ctx.strokeStyle = palette.line;
    ctx.lineWidth = 1;
    ctx.stroke();
    put(ctx, palette, card.tokens[i], at + w / 2, top + 10, { ...mono, align: "center" });
    at += w + 3;
  }
}

/** parent -> this block -> child, by hash. */
function drawChain(ctx, palette, card, x, y, right) {
  put(ctx, palette, "hash", x, y + 8.5, { size: 11, fill: palette.muted });
  if (!card.hash) {
    put(ctx, palette, card.state === "free" || card.state === "null" ? "none" : "none yet: only a full block is cached", x + 58, y + 8.5, { size: 11, fill: palette.ink2 });
    return;
  }
  const room = right - x - 58, w = Math.min(76, (room - 40) / 3);
  const nodes = [
    card.parent[0] ? [card.parent[0], card.parent[1] < 0 ? "parent · gone" : `parent · ${card.parent[1]}`] : ["–", "no parent"],
    [card.hash, "this block"],
    card.child[1] >= 0 ? [card.child[0] || "not yet", `child · ${card.child[1]}`] : ["–", "no child"],
  ];
  nodes.forEach(([hash, label], i) => {
    const left = x + 58 + i * (w + 20), me = i === 1;
    box(ctx, left + 0.5, y - 4.5, w - 1, 18, 9);
    ctx.fillStyle = me ? palette.ink : palette.paper;
    ctx.fill();
    ctx.strokeStyle = me ? palette.ink : palette.edge;
    ctx.lineWidth = 1;
    ctx.stroke();
    const mono = { size: 10.5, mono: true, align: "center", fill: me ? palette.paper : palette.ink };
    let shortHash = hash.slice(0, 8);
    while (shortHash.length > 4 && textWidth(ctx, palette, shortHash, mono) > w - 8) shortHash = shortHash.slice(0, -1);
    put(ctx, palette, shortHash, left + w / 2, y + 8.5, mono);
    put(ctx, palette, label, left + w / 2, y + 27, { size: 10.5, align: "center", fill: palette.muted });
    if (i === 2) return;
    ctx.beginPath();
    ctx.moveTo(left + w + 2, y + 4.5);
    ctx.lineTo(left + w + 17, y + 4.5);
    ctx.moveTo(left + w + 14, y + 1.5);
    ctx.lineTo(left + w + 18, y + 4.5);
    ctx.lineTo(left + w + 14, y + 7.5);
    ctx.strokeStyle = palette.ink2;
    ctx.stroke();
  });
}
