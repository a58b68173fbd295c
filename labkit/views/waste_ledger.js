// The waste ledger in the browser: where memory and time went, one panel a run, on one clock.
import { AREA, drawAreas, drawNumbers, drawTime, LIST } from "./canvas/areas.js";
import { bannerRule, EDGE, footerLines } from "./canvas/banner.js";
import { drawGrid, makeScale } from "./canvas/clock.js";
import { lastOf, measureAt } from "./canvas/lanes.js";
import { ledgerSaid, ledgerTable } from "./canvas/ledger_words.js";
import { runPanels } from "./canvas/player_view.js";

const LISTS = 12 * LIST + 8; // height of the two lists of numbers below one another

const bannerOf = (book) => ({ title: book.words.title, counters: [[[book.words.about]]], badge: book.words.badge });

function layoutOf(ctx, palette, width, book) {
  const rule = bannerRule(ctx, palette, bannerOf(book), width), two = width >= 780, x0 = 62, x1 = width - EDGE - (two ? 214 : 0);
  const list = two ? 192 : Math.min(192, (width - x0 - EDGE - 40) / 2), top = rule + 16, panel = two ? LISTS + 24 : AREA + 76 + 6 * LIST + 30;
  const axis = top + book.panels.length * panel + 6, controls = axis + 18, foot = { y: controls + 46, line: 15 };
  return { width, two, x0, x1, rule, list, top, panel, axis, controls, foot, height: foot.y + (footerLines(ctx, palette, book.words.footer, width) - 1) * foot.line + 12 };
}

const areaOf = (layout, i) => layout.top + i * layout.panel + 20;

function drawPanel(ctx, palette, { book, layout, scale, t }, panel, i, y) {
  const area = areaOf(layout, i), bar = area + AREA + 18, m = measureAt(panel, t), { x0, x1, list } = layout;
  drawGrid(ctx, palette, scale, area, area + AREA);
  drawAreas(ctx, palette, panel, scale, Math.max(...book.panels.map((p) => p.slots)), area);
  drawTime(ctx, palette, panel, m, makeScale(x0, x1, 0, Math.max(scale.end - scale.begin, lastOf(book))), bar);
  if (layout.two) drawNumbers(ctx, palette, m, { x: x1 + 22, width: list, y: y + 10 }, { x: x1 + 22, y: y + 10 + 6 * LIST + 8 });
  else drawNumbers(ctx, palette, m, { x: x0, width: list, y: bar + 48 }, { x: x0 + list + 40, y: bar + 48 });
}

function render({ model, el }) {
  return runPanels({
    model, el, className: "waste-ledger", style: STYLE, label: "Memory over time: arrow keys move from step to step",
    view: {
      banner: bannerOf,
      layout: layoutOf,
      plot: (layout, i) => [areaOf(layout, i) - 2, areaOf(layout, i) + AREA],
      head() {},
      panel: drawPanel,
      over() {},
      said: ledgerSaid,
      table: ledgerTable,
      hover: () => false,
      click: ([x], { player, scale }) => player.seek(scale.time(x)),
      keys: (zone, event, { player }) => zone === "plot" && player.sliderKeys(event.shiftKey)[event.key],
    },
  });
}

export default { render };
