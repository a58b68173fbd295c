// Colours: the table of style.json on the paper and ink of the page around us.

export function channels(colour) {
  const hex = /^#([0-9a-f]{6})$/i.exec(colour.trim());
  if (hex) return [0, 2, 4].map((i) => parseInt(hex[1].slice(i, i + 2), 16)).concat(1);
  const short = /^#([0-9a-f]{3})$/i.exec(colour.trim());
  if (short) return [...short[1]].map((c) => parseInt(c + c, 16)).concat(1);
  const rgb = /^rgba?\(([^)]+)\)$/i.exec(colour.trim());
  if (!rgb) return null;
  const parts = rgb[1].split(/[\s,/]+/).filter(Boolean).map(parseFloat);
  return parts.length > 3 ? parts : [...parts, 1];
}

export const hex = (rgb) => "#" + rgb.slice(0, 3).map((v) => Math.round(v).toString(16).padStart(2, "0")).join("");

/** `share` of colour a over colour b. */
export function mix(a, b, share) {
  const [p, q] = [channels(a), channels(b)];
  return hex(p.map((v, i) => v * share + q[i] * (1 - share)));
}

export function luminance(colour) {
  const [r, g, b] = channels(colour).map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

/** The palette for a paper and an ink ("" for the table's own). `owners[slot % 6]` has fill, on, edge and soft. */
export function makePalette(style, dark, paper = "", ink = "") {
  const base = style[dark ? "dark" : "light"];
  const ground = paper && channels(paper) ? hex(channels(paper)) : base.paper;
  const over = ink && channels(ink);
  const text = over ? mix(hex(over), ground, over[3]) : base.ink;
  const owners = style.owners.map((o) => ({ fill: o.fill, on: o.on, edge: o[dark ? "dark" : "light"], soft: mix(o.fill, ground, base.soft) }));
  return { ...base, paper: ground, ink: text, dark, owners, font: style.font, mono: style.mono, legend: style.legend, segments: style.segments };
}

/** Paper, ink and fonts as JupyterLab sets them on `element`, else those of the table and of the system's preference. */
export function readTheme(element, style) {
  const css = getComputedStyle(element);
  const paper = css.getPropertyValue("--jp-layout-color0").trim();
  const ink = css.getPropertyValue("--jp-ui-font-color1").trim();
  const dark = paper && channels(paper) ? luminance(hex(channels(paper))) < 0.4 : matchMedia("(prefers-color-scheme: dark)").matches;
  const palette = makePalette(style, dark, paper, ink);
  const ui = css.getPropertyValue("--jp-ui-font-family").trim();
  const code = css.getPropertyValue("--jp-code-font-family").trim();
  palette.font = ui ? style.font.replace("Inter,", `Inter, ${ui},`) : style.font;
  palette.mono = code ? `${code}, ${style.mono}` : style.mono;
  return palette;
}
