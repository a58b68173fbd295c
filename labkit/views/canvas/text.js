// Text on a canvas: measured before it is placed, digits all of one width so that numbers do not dance.

const WIDTHS = new Map(); // font -> Map(piece of text -> width); measuring is what text costs most
const MOST_WIDTHS = 4000;

/** Sets the font of a context, which is slow, only when it changes. After ctx.restore() call `forgetFont`. */
export function setFont(ctx, palette, size, weight, mono) {
  const font = `${weight} ${size}px ${mono ? palette.mono : palette.font}`;
  if (ctx.kvFont !== font) {
    ctx.font = font;
    ctx.kvFont = font;
  }
  return font;
}

export const forgetFont = (ctx) => { ctx.kvFont = ""; };

/** Widths are remembered: forget them when a font has been loaded. */
export const forgetWidths = () => WIDTHS.clear();

function widthsOf(ctx, font) {
  let widths = WIDTHS.get(font);
  if (!widths || widths.size > MOST_WIDTHS) WIDTHS.set(font, (widths = new Map()));
  return widths;
}

function measure(ctx, widths, piece) {
  let w = widths.get(piece);
  if (w === undefined) widths.set(piece, (w = ctx.measureText(piece).width));
  return w;
}

/** Width of a digit; 0 where the font's digits are of one width anyway. */
function digitWidth(ctx, widths) {
  let w = widths.get("digit");
  if (w === undefined) {
    const all = [..."0123456789"].map((d) => measure(ctx, widths, d)), widest = Math.max(...all);
    widths.set("digit", (w = widest - Math.min(...all) < 0.05 ? 0 : widest));
  }
  return w;
}

const pieces = (s) => s.match(/\d|\D+/g) || [];
const isDigit = (s) => s.length === 1 && s >= "0" && s <= "9";

export function textWidth(ctx, palette, s, { size = 12, weight = 400, mono = false } = {}) {
  const widths = widthsOf(ctx, setFont(ctx, palette, size, weight, mono)), digit = digitWidth(ctx, widths);
  if (!digit) return measure(ctx, widths, s);
  return pieces(s).reduce((sum, p) => sum + (isDigit(p) ? digit : measure(ctx, widths, p)), 0);
}

/** Draws `s` with its baseline at y; returns its width. align: left, center or right of x. */
export function put(ctx, palette, s, x, y, options = {}) {
  const { fill = palette.ink, align = "left" } = options;
  const w = textWidth(ctx, palette, s, options), widths = widthsOf(ctx, ctx.kvFont), digit = digitWidth(ctx, widths);
  let at = align === "left" ? x : align === "center" ? x - w / 2 : x - w;
  ctx.fillStyle = fill;
  ctx.textAlign = "left";
  if (!digit || !/\d/.test(s)) ctx.fillText(s, at, y);
  else {
    for (const p of pieces(s)) {
      const own = measure(ctx, widths, p);
      ctx.fillText(p, isDigit(p) ? at + (digit - own) / 2 : at, y);
      at += isDigit(p) ? digit : own;
    }
  }
  return w;
}

/** Draws [text, options] after one another; returns the width of all. */
export function putRuns(ctx, palette, runs, x, y, options = {}) {
  let at = x;
  if (options.align === "right") at -= runsWidth(ctx, palette, runs, options);
  if (options.align === "center") at -= runsWidth(ctx, palette, runs, options) / 2;
  const begin = at;
  for (const [s, own = {}] of runs) {
    at += own.dx || 0;
    at += put(ctx, palette, s, at, y, { ...options, ...own, align: "left" });
  }
  return at - begin;
}

export function runsWidth(ctx, palette, runs, options = {}) {
  return runs.reduce((sum, [s, own = {}]) => sum + (own.dx || 0) + textWidth(ctx, palette, s, { ...options, ...own }), 0);
}

/** The first of the variants, from long to short, that fits into `room`; "" if none does. */
export const fitting = (ctx, palette, variants, room, options) => variants.find((v) => textWidth(ctx, palette, v, options) <= room) || "";

/** `s` broken at blanks into lines no wider than `room`. */
export function wrap(ctx, palette, s, room, options) {
  const lines = [];
  for (const word of s.split(" ")) {
    const longer = lines.length ? `${lines[lines.length - 1]} ${word}` : word;
    if (lines.length && textWidth(ctx, palette, longer, options) <= room) lines[lines.length - 1] = longer;
    else lines.push(word);
  }
  return lines;
}

/** Digits in groups of three, a thin space between. */
export const thousands = (n) => String(Math.round(n)).replace(/\B(?=(\d{3})+(?!\d))/g, "\u202f");
export const percent = (f) => (f < 0.0005 || f >= 0.0995 ? `${Math.round(100 * f)} %` : `${(100 * f).toFixed(1)} %`);

/** A to Z, AA to ZZ...: the name of the nth request of a run. */
export function letterOf(ordinal) {
  let name = "";
  for (let n = ordinal; n >= 0; n = Math.floor(n / 26) - 1) name = String.fromCharCode(65 + (n % 26)) + name;
  return name;
}

/** 1 request, 2 requests. */
export const plural = (n, noun) => `${thousands(n)} ${noun}${n === 1 ? "" : "s"}`;
