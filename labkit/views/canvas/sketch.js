// Panels that the kernel has sketched: where they stand and how they are drawn. sketch.py draws the same on a figure.
import { mix, channels } from "./theme.js";
import { put, putRuns } from "./text.js";

export const GAP = 28; // between panels

/** Where panels of these sizes stand in lines of `room`: {places: [{x, y, scale}], height}. Panels wider than the room are drawn smaller. */
export function flowPanels(panels, room) {
  let x = 0, y = 0, line = 0, below = 0, last = 0;
  const places = panels.map(({ width, height }) => {
    const scale = Math.min(1, room / width), [w, h] = [width * scale, height * scale];
    if (x > 0 && x + w > room + 0.5) {
      if (w === last && below + h <= y + line) {
        const under = { x: x - GAP - w, y: below, scale };
        below += h + GAP;
        return under;
      }
      [x, y, line] = [0, y + line + GAP, 0];
    }
    const place = { x, y, scale };
    [x, line, below, last] = [x + w + GAP, Math.max(line, h), y + h + GAP, w];
    return place;
  });
  return { places, height: y + line };
}

/** The 256 colours of a ramp as [r, g, b]. */
export function rampOf(palette, name) {
  return Array.from({ length: 256 }, (_, i) => {
    const shade = name === "signed" ? mix(i < 128 ? palette.low : palette.high, palette.paper, Math.min(1, Math.abs(i - 128) / 127) ** 0.75)
      : mix(palette.loss, palette.paper, (i / 255) ** 0.9);
    return channels(shade).slice(0, 3);
  });
}

/** The target of a panel at a point of the view, and its cell: {panel, target, row, column}, null for none. */
export function cellAt(panels, places, left, top, x, y) {
  for (const [panel, { targets }] of panels.entries()) {
    const at = places[panel], px = (x - left - at.x) / at.scale, py = (y - top - at.y) / at.scale;
    for (const t of targets) {
      if (px < t.x || py < t.y || px >= t.x + t.w || py >= t.y + t.h) continue;
      return { panel, target: t.name, row: Math.floor(((py - t.y) / t.h) * t.rows), column: Math.floor(((px - t.x) / t.w) * t.columns) };
    }
  }
  return null;
}

function strokeAndFill(ctx, palette, { fill, edge, width = 1, dash }) {
  if (fill) {
    ctx.fillStyle = palette[fill];
    ctx.fill();
  }
  if (edge) strokeLine(ctx, palette[edge], width, dash);
}

function strokeLine(ctx, colour, width, dash) {
  ctx.strokeStyle = colour;
  ctx.lineWidth = width;
  ctx.setLineDash(dash || []);
  ctx.stroke();
  ctx.setLineDash([]);
}

function trace(ctx, points, close) {
  ctx.beginPath();
  points.forEach(([x, y], i) => (i ? ctx.lineTo(x, y) : ctx.moveTo(x, y)));
  if (close) ctx.closePath();
}

function drawImage(ctx, palette, { x, y, w, h, ramp }, values, [rows, columns]) {
  const colours = rampOf(palette, ramp), pixels = new ImageData(columns, rows), sheet = document.createElement("canvas");
  values.forEach((v, i) => pixels.data.set([...colours[v], 255], 4 * i));
  Object.assign(sheet, { width: columns, height: rows });
  sheet.getContext("2d").putImageData(pixels, 0, 0);
  ctx.imageSmoothingEnabled = false;
  ctx.drawImage(sheet, x, y, w, h);
}

const named = (palette, own) => ({ ...own, ...(own.fill ? { fill: palette[own.fill] } : {}) });
const DRAW = {
  text: (ctx, palette, op) => put(ctx, palette, op.text, op.x, op.y, named(palette, op)),
  runs: (ctx, palette, op) => putRuns(ctx, palette, op.runs.map(([s, own]) => [s, named(palette, own)]), op.x, op.y, named(palette, op)),
  rect(ctx, palette, op) {
    ctx.beginPath();
    ctx.roundRect(op.x, op.y, op.w, op.h, op.radius || 0);
    strokeAndFill(ctx, palette, op);
  },
  rects(ctx, palette, op) {
    ctx.beginPath();
    op.boxes.forEach(([x, y, w, h]) => ctx.rect(x, y, w, h));
    strokeAndFill(ctx, palette, op);
  },
  strokes(ctx, palette, op) {
    ctx.beginPath();
    op.pairs.forEach(([[x0, y0], [x1, y1]]) => (ctx.moveTo(x0, y0), ctx.lineTo(x1, y1)));
    strokeLine(ctx, palette[op.colour], op.width, op.dash);
  },
  polygon(ctx, palette, op) {
    trace(ctx, op.points, true);
    strokeAndFill(ctx, palette, op);
  },
  line(ctx, palette, op) {
    trace(ctx, op.points, false);
    strokeLine(ctx, palette[op.colour], op.width);
  },
  circle(ctx, palette, op) {
    ctx.beginPath();
    ctx.arc(op.x, op.y, op.r, 0, 2 * Math.PI);
    strokeAndFill(ctx, palette, op);
  },
};

/** `frame`: as it was decoded; panel n is drawn with its corner at the origin. */
export function drawSketch(ctx, palette, frame, n) {
  const panel = frame.head.panels[n];
  for (const op of panel.ops) {
    if (op.op === "image") drawImage(ctx, palette, op, frame[`${n}.${op.image}`], panel.images[op.image]);
    else DRAW[op.op](ctx, palette, op);
  }
}
