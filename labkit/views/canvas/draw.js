// The whole picture: draw(ctx, view, palette) puts one moment on a canvas and keeps nothing.
import { drawFooter, footerLines } from "./banner.js";
import { paintGrid, pixelGrid, PIXELS } from "./cells.js";
import { drawHeader, drawLegend, headerRule, legendLines } from "./header.js";
import { BOX, cellAt, makeLayout } from "./layout.js";
import { drawLedger } from "./ledger.js";
import { box } from "./shapes.js";
import { drawCard, drawRequests } from "./side.js";
import { drawLinks, drawStrip, slotsOf } from "./strip.js";
import { forgetFont, put, textWidth } from "./text.js";
import { drawMarkLegend, drawTimeline } from "./timeline.js";

/** The layout of a pool at a width. */
export function layoutFor(ctx, palette, scene, width) {
  const lines = { rule: headerRule(ctx, palette, scene, width), footer: footerLines(ctx, palette, scene.footer, width), legend: 1 };
  const draft = makeLayout(width, scene.blocks, scene.block_size, lines);
  return makeLayout(width, scene.blocks, scene.block_size, { ...lines, legend: legendLines(ctx, palette, scene, draft.legend.width) });
}

/** Brings the grid's own canvas up to date for cells `ids` (null: all). `opacity` (id => 0..1) fades new blocks in. */
export function updateGrid(canvas, palette, pool, layout, ratio, ids, opacity = null) {
  const { grid } = layout, dots = Math.max(1, Math.round(grid.pitch * ratio)), pixels = grid.size < PIXELS;
  const width = pixels ? grid.cols * dots : Math.ceil((grid.width + 2 * grid.gap) * ratio);
  const height = pixels ? grid.rows * dots : Math.ceil((grid.height + 2 * grid.gap) * ratio);
  const fresh = canvas.width !== width || canvas.height !== height;
  if (fresh) Object.assign(canvas, { width, height });
  const ctx = canvas.getContext("2d");
  if (fresh) forgetFont(ctx);
  if (pixels) {
    if (fresh || !ids || !canvas.kvPixels) canvas.kvPixels = new ImageData(width, height);
    pixelGrid(palette, pool, grid, dots, canvas.kvPixels, fresh ? null : ids);
    ctx.putImageData(canvas.kvPixels, 0, 0);
    return;
  }
  ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
  if (fresh || !ids) ctx.clearRect(0, 0, width, height);
  paintGrid(ctx, palette, pool, grid, fresh ? null : ids, opacity);
}

function ring(ctx, palette, grid, id, gap, width = 2) {
  const [x, y] = cellAt(grid, id), size = Math.max(grid.size, 4), out = gap + width / 2;
  box(ctx, x - out, y - out, size + 2 * out, size + 2 * out, grid.size >= 14 ? 4.5 : 2);
  ctx.strokeStyle = palette.ink;
  ctx.lineWidth = width;
  ctx.stroke();
}

function rowNumbers(ctx, palette, grid, n) {
  const every = Math.max(1, Math.ceil(15 / grid.pitch));
  for (let row = 0; row < grid.rows; row += every) put(ctx, palette, String(row * grid.cols), grid.x - 9, grid.y + row * grid.pitch + Math.min(grid.size, 15) / 2 + 4, { size: 10.5, fill: palette.muted, align: "right" });
}

/** The line behind which the blocks are that the pool has grown by. */
function growthLine(ctx, palette, grid, began) {
  const left = grid.x - grid.gap / 2, right = grid.x + grid.width + grid.gap / 2, [x, y] = cellAt(grid, began).map((corner) => corner - grid.gap / 2);
  ctx.beginPath();
  if (began % grid.cols) {
    ctx.moveTo(left, y + grid.pitch);
    ctx.lineTo(x, y + grid.pitch);
    ctx.lineTo(x, y);
  } else ctx.moveTo(left, y);
  ctx.lineTo(right, y);
  ctx.strokeStyle = palette.ink;
  ctx.lineWidth = 2;
  ctx.stroke();
}

function note(ctx, palette, layout, text, colour) {
  const { grid } = layout, w = textWidth(ctx, palette, text, { size: 12, weight: 600 }) + 28;
  const x = grid.x + Math.max(0, (grid.width - w) / 2), y = grid.y + grid.height / 2 - 15;
  box(ctx, x, y, w, 30, 6);
  ctx.fillStyle = palette.paper;
  ctx.fill();
  ctx.strokeStyle = colour;
  ctx.lineWidth = 1.25;
  ctx.stroke();
  put(ctx, palette, text, x + 14, y + 19, { size: 12, weight: 600, fill: colour });
}

/**
 * view: {pool, layout, grid: its canvas, focus: block or -1, keyboard: focus comes from the keyboard, position: play head,
 * flashes: [{id, share}] of preempted blocks, share 1..0}.
 */
export function draw(ctx, view, palette) {
  const { pool, layout, focus } = view, { scene, head } = pool;
  ctx.fillStyle = palette.paper;
  ctx.fillRect(0, 0, layout.width, layout.height);
  drawHeader(ctx, palette, scene, layout);
  drawLegend(ctx, palette, pool, layout);
  drawBlocks(ctx, view, palette);
  drawStrip(ctx, palette, pool, layout, focus);
  drawRequests(ctx, palette, pool, layout);
  drawCard(ctx, palette, pool, layout, focus);
  drawLedger(ctx, palette, pool, layout);
  drawTimeline(ctx, palette, pool, layout, view.position);
  drawMarkLegend(ctx, palette, layout);
  drawFooter(ctx, palette, scene.footer, layout);
  if (head.status === "lost") note(ctx, palette, layout, "connection to the engine lost: run lab.watch(server) again; what came before can still be read", palette.alert);
}

/** The same for the part that fades and flashes between two frames: the grid and the links below it. */
export function redrawBlocks(ctx, view, palette) {
  const { grid, strip } = view.layout;
  ctx.fillStyle = palette.paper;
  ctx.fillRect(0, grid.y - 6, grid.x + grid.width + 6, strip.y - grid.y + 5);
  drawBlocks(ctx, view, palette);
}

function drawBlocks(ctx, view, palette) {
  const { pool, layout, focus } = view, { scene, head } = pool, { grid } = layout;
  drawLinks(ctx, palette, pool, layout, focus);
  rowNumbers(ctx, palette, grid, scene.blocks);
  if (grid.size < PIXELS) {
    ctx.imageSmoothingEnabled = false;
    ctx.drawImage(view.grid, grid.x, grid.y, grid.cols * grid.pitch, grid.rows * grid.pitch);
  } else ctx.drawImage(view.grid, grid.x - grid.gap, grid.y - grid.gap, grid.width + 2 * grid.gap, grid.height + 2 * grid.gap);
  if (scene.began < scene.blocks) growthLine(ctx, palette, grid, scene.began);
  for (const { id, share } of view.flashes) {
    const [x, y] = cellAt(grid, id);
    ctx.globalAlpha = share;
    ctx.strokeStyle = palette.alert;
    ctx.lineWidth = 2;
    ctx.strokeRect(x, y, grid.size, grid.size);
    ctx.globalAlpha = 1;
  }
  if (focus >= 0) ring(ctx, palette, grid, focus, view.keyboard ? 2 : 0.5);
  if (head.status === "empty") note(ctx, palette, layout, "nothing yet: send a request", palette.ink2);
}

/** The block of the strip under a point, -1 for none. */
export function stripBlockAt(pool, layout, focus, x, y) {
  const { strip } = layout;
  if (!pool.scene.selected || y < strip.y || y > strip.y + strip.height) return -1;
  const hit = slotsOf(pool, layout, focus).find((s) => s.gap === undefined && x >= strip.x + s.x && x < strip.x + s.x + BOX - 6);
  return hit ? pool.table[hit.logical] : -1;
}
