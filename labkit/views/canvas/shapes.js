// Shapes that every view draws.

export function box(ctx, x, y, w, h, radius) {
  ctx.beginPath();
  ctx.roundRect(x, y, w, h, radius);
}

/** 45° hatch inside a rectangle. */
export function hatch(ctx, x, y, w, h, colour, step = 5, width = 1.2) {
  ctx.save();
  ctx.beginPath();
  ctx.rect(x, y, w, h);
  ctx.clip();
  ctx.beginPath();
  const from = Math.floor((x + y) / step) * step;
  for (let c = from; c <= x + w + y + h; c += step) {
    ctx.moveTo(c - y, y);
    ctx.lineTo(c - y - h, y + h);
  }
  ctx.strokeStyle = colour;
  ctx.lineWidth = width;
  ctx.stroke();
  ctx.restore();
}

/** One 45° hatch seen through many rectangles [x, y, w, h]. */
export function hatchPath(ctx, list, colour, width = 1.2) {
  if (!list.length) return;
  let [left, top, right, bottom] = [Infinity, Infinity, -Infinity, -Infinity];
  ctx.save();
  ctx.beginPath();
  for (const [x, y, w, h] of list) {
    ctx.rect(x, y, w, h);
    [left, top, right, bottom] = [Math.min(left, x), Math.min(top, y), Math.max(right, x + w), Math.max(bottom, y + h)];
  }
  ctx.clip();
  hatch(ctx, left, top, right - left, bottom - top, colour, 5, width);
  ctx.restore();
}
