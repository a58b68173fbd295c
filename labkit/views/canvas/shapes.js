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
