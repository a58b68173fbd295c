// The batch timeline and the race in the browser: panels of rows and bars on one clock.
import { bannerRule, EDGE, footerLines } from "./canvas/banner.js";
import { drawBars, stripScale } from "./canvas/bars.js";
import { drawGrid } from "./canvas/clock.js";
import { measureAt, rowsBetween } from "./canvas/lanes.js";
import { runPanels } from "./canvas/player_view.js";
import { panelAt, pitchOf, raceLayout } from "./canvas/race_layout.js";
import { aboutRuns, raceSaid, raceTable } from "./canvas/race_words.js";
import { drawReadouts, drawReadoutHead, limitsOf } from "./canvas/readouts.js";
import { drawDone, drawRowLegend, drawRows, legendRows } from "./canvas/rows.js";
import { makeFinger } from "./canvas/finger.js";
import { put } from "./canvas/text.js";

const bannerOf = (book, t, palette) => ({ title: book.words.title, counters: aboutRuns(book, t).map(([n, words]) => [[n, { weight: 650, fill: palette.ink }], [words]]), badge: book.words.badge });

function layoutOf(ctx, palette, width, book) {
  const rows = rowsBetween(book, 0, Infinity, true).length, open = book.head.status !== "replay" && book.panels.length === 1, n = book.panels.length;
  const lines = { rule: bannerRule(ctx, palette, bannerOf(book, Infinity, palette), width), footer: footerLines(ctx, palette, book.words.footer, width), legend: 1 };
  const draft = raceLayout(width, n, rows, open, lines);
  return raceLayout(width, n, rows, open, { ...lines, legend: legendRows(ctx, palette, book, draft.legend.width) });
}

function render({ model, el }) {
  const finger = makeFinger();
  let drawn = null; // what all panels share in one drawing
  return runPanels({
    model, el, className: "batch-timeline", style: STYLE,
    label: "Requests: arrow keys move from row to row and from segment to segment, a letter picks a request",
    view: {
      banner: bannerOf,
      layout: layoutOf,
      plot: (layout, i) => [panelAt(layout, i).rows - 4, panelAt(layout, i).bottom],
      head(ctx, palette, scene) {
        const { book, layout, part, t } = scene;
        scene.rows = rowsBetween(book, part.begin, part.end, part.whole);
        drawn = { limits: limitsOf(book), full: stripScale(book), measures: book.panels.map((panel) => measureAt(panel, t)) };
        drawRowLegend(ctx, palette, book, layout.legend);
        if (layout.two) drawReadoutHead(ctx, palette, drawn.measures, layout, EDGE);
      },
      panel(ctx, palette, scene, panel, i, y) {
        const { layout, scale, rows } = scene, { rows: top, line, bottom } = panelAt(layout, i), done = measureAt(panel, Infinity).makespan;
        drawGrid(ctx, palette, scale, top - 2, bottom);
        drawRows(ctx, palette, panel, rows, scale, top, pitchOf(layout, rows.length), finger.ordinal());
        if (!panel.requests.size) put(ctx, palette, scene.book.panels.length > 1 ? "not started yet" : "nothing yet: send a request", layout.x0 + 12, top + 24, { fill: palette.muted });
        drawBars(ctx, palette, panel, scale, drawn.full, line);
        if (panel.over && done !== null) drawDone(ctx, palette, scale, done, top - 2, top + layout.high + 4);
        drawReadouts(ctx, palette, drawn.measures[i], drawn.limits, layout, y);
      },
      over: finger.draw,
      said: raceSaid,
      table: raceTable,
      hover: finger.hover,
      click: finger.click,
      keys: finger.keys,
    },
  });
}

export default { render };
