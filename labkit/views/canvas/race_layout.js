// Where the panels of the batch timeline stand, in CSS pixels.
import { EDGE } from "./banner.js";
import { DOWN, UP } from "./bars.js";

const AROUND = 20 + 8 + UP + DOWN + 12; // height of a panel beside its rows
const LEAST = 180; // height that read-outs beside a panel take
const LIVE = 300; // height of the rows of a single run whose end is open
const BELOW = 56; // height of read-outs below a panel
const PITCH = 12, HIGHEST = 420, ALL = 1100; // heights of a row, of the rows of a panel, and of the rows of all panels, at most

/** The height of the rows: all are there, thinner the more there are. */
function rowsHeight(panels, rows, open) {
  if (open) return LIVE;
  return Math.min(PITCH * Math.max(1, rows), HIGHEST, ALL / panels);
}

/** lines: {rule, legend, footer}: measured before. `open`: the number of rows is not known beforehand. */
export function raceLayout(width, panels, rows, open, lines) {
  const two = width >= 780, x0 = 62, x1 = width - EDGE - (two ? 214 : 0), below = two ? 0 : BELOW;
  const legend = { x: x0, y: lines.rule + 10, width: x1 - x0, line: 18 }, top = legend.y + lines.legend * legend.line + 10;
  const high = Math.max(rowsHeight(panels, rows, open), two ? LEAST - AROUND : 48), panel = high + AROUND + below;
  const readouts = two ? { x: x1 + 22, width: width - EDGE - x1 - 22 } : { x: x0, width: x1 - x0 };
  const axis = top + panels * panel + 6, controls = axis + 18, foot = { y: controls + 46, line: 15 };
  const card = two && panels === 1 && panel >= LEAST + 150 ? { x: readouts.x, y: top + LEAST + 4 } : null;
  return { width, two, x0, x1, below, rule: lines.rule, legend, top, high, panel, panels, readouts, axis, controls, foot, card, height: foot.y + (lines.footer - 1) * foot.line + 12 };
}

/** What stands where in the panel of index `i`. */
export function panelAt(layout, i) {
  const y = layout.top + i * layout.panel, rows = y + 20, line = rows + layout.high + 8 + UP;
  return { y, rows, line, bottom: line + DOWN };
}

export const pitchOf = (layout, rows) => Math.min(16, layout.high / Math.max(1, rows));

/** {panel, row} under a point, null outside the rows. */
export function rowAt(layout, rows, x, y) {
  if (x < layout.x0 - 40 || x > layout.x1 + 2) return null;
  for (let panel = 0; panel < layout.panels; panel++) {
    const row = Math.floor((y - panelAt(layout, panel).rows) / pitchOf(layout, rows));
    if (row >= 0 && row < rows) return { panel, row };
  }
  return null;
}
