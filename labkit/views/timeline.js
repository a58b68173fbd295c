// The batch timeline and the race in the browser: panels of rows and bars on one clock.
import { bannerRule, drawBanner, drawFooter, EDGE, footerLines } from "./canvas/banner.js";
import { drawBars, stripScale } from "./canvas/bars.js";
import { dottedLine, drawAxis, drawGrid, drawMoment, makeScale } from "./canvas/clock.js";
import { toggleTable } from "./canvas/elements.js";
import { makeRoot, makeSender, runView } from "./canvas/host.js";
import { emptyBook, endOf, foldLanes, lastOf, measureAt, rowsBetween } from "./canvas/lanes.js";
import { dragTime, drawOverview, FRAME, makePlayer, makePlayerControls } from "./canvas/player.js";
import { panelAt, pitchOf, raceLayout, rowAt } from "./canvas/race_layout.js";
import { aboutRuns, raceSaid, raceTable } from "./canvas/race_words.js";
import { drawReadouts, limitsOf } from "./canvas/readouts.js";
import { drawDone, drawRowLegend, drawRows, legendRows } from "./canvas/rows.js";
import { cardLines, drawCard } from "./canvas/segment_card.js";
import { put, putRuns } from "./canvas/text.js";

function render({ model, el }) {
  const root = makeRoot(el, "batch-timeline"), send = makeSender(model), book = emptyBook();
  const ui = makePlayerControls(root, "Requests: arrow keys move from row to row and from segment to segment, a letter picks a request");
  const view = { scale: null, rows: [], pinned: null, hover: null, pointer: null, brush: null, keyboard: false, drawn: 0, spoken: "" };
  let typed = "", typedAt = 0;

  const banner = (palette) => ({ title: book.words.title, counters: aboutRuns(book, player.now()).map(([n, words]) => [[n, { weight: 650, fill: palette.ink }], [words]]), badge: book.words.badge });
  const open = () => book.panels.length === 1 && book.head.status !== "replay";

  function layout(ctx, palette, width) {
    const lines = { rule: bannerRule(ctx, palette, banner(palette), width), footer: footerLines(ctx, palette, book.words.footer, width), legend: 1 };
    const rows = rowsBetween(book, 0, Infinity, true).length, draft = raceLayout(width, book.panels.length, rows, open(), lines);
    return raceLayout(width, book.panels.length, rows, open(), { ...lines, legend: legendRows(ctx, palette, book, draft.legend.width) });
  }

  function draw(ctx, { now, whole, layout }, palette) {
    player.arrive();
    if (!whole && now - view.drawn < FRAME) return;
    view.drawn = now;
    const { begin, end, whole: all } = player.part(), t = player.now();
    view.scale = makeScale(layout.x0, layout.x1, begin, end);
    view.rows = rowsBetween(book, begin, end, all);
    view.measures = book.panels.map((panel) => measureAt(panel, t));
    const { scale, rows } = view, limits = limitsOf(book), full = stripScale(book), seen = focus();
    ctx.fillStyle = palette.paper;
    ctx.fillRect(0, 0, layout.width, layout.height);
    drawBanner(ctx, palette, banner(palette), layout);
    drawRowLegend(ctx, palette, book, layout.legend);
    if (layout.two) {
      const n = Math.max(...view.measures.map((m) => m.ttft.length));
      put(ctx, palette, "read-outs", layout.readouts.x, layout.legend.y + 10, { size: 11.5, fill: palette.muted });
      put(ctx, palette, `median of n = ${n}`, layout.width - EDGE, layout.legend.y + 10, { size: 11, fill: palette.muted, align: "right" });
    }
    book.panels.forEach((panel, i) => drawPanel(ctx, palette, panel, i, layout, { limits, full, t, rows, chosen: seen?.ordinal ?? -1 }));
    const pills = player.atEnd() ? [] : [{ t, filled: true }];
    if (view.pointer && !view.brush) pills.push({ t: scale.time(view.pointer[0]), filled: false });
    drawAxis(ctx, palette, scale, layout.axis, pills);
    drawOverview(ctx, palette, layout, { begin, end, whole: all }, lastOf(book), layout.axis + 9);
    drawFooter(ctx, palette, book.words.footer, layout);
    drawPointer(ctx, palette, layout);
    if (seen) drawFocus(ctx, palette, layout, seen);
    if (!whole) player.shown();
  }

  function drawPanel(ctx, palette, panel, i, layout, { limits, full, t, rows, chosen }) {
    const { y, rows: top, line, bottom } = panelAt(layout, i), m = view.measures[i], { scale } = view;
    putRuns(ctx, palette, [[panel.name, { weight: 650, size: 13 }], [panel.rule, { fill: palette.ink2, dx: 10 }]], layout.x0, y + 10);
    drawGrid(ctx, palette, scale, top - 2, bottom);
    drawRows(ctx, palette, panel, rows, scale, top, pitchOf(layout, rows.length), chosen);
    if (!panel.requests.size) put(ctx, palette, book.panels.length > 1 ? "not started yet" : "nothing yet: send a request", layout.x0 + 12, top + 24, { fill: palette.muted });
    drawBars(ctx, palette, panel, scale, full, line);
    const done = measureAt(panel, Infinity).makespan;
    if (panel.over && done !== null) drawDone(ctx, palette, scale, panel.origin + done, top - 2, top + layout.high + 4);
    if (!player.atEnd()) drawMoment(ctx, palette, scale, t, top - 4, bottom);
    drawReadouts(ctx, palette, m, limits, layout, y);
    ctx.fillStyle = palette.line;
    if (i + 1 < book.panels.length) ctx.fillRect(EDGE, y + layout.panel - 8.5, layout.width - 2 * EDGE, 1);
  }

  function drawPointer(ctx, palette, layout) {
    const bottom = panelAt(layout, book.panels.length - 1).bottom;
    if (view.brush) {
      const [a, b] = view.brush.map((x) => Math.min(Math.max(x, layout.x0), layout.x1));
      ctx.save();
      ctx.globalAlpha = 0.12;
      ctx.fillStyle = palette.ink;
      ctx.fillRect(Math.min(a, b), layout.top + 16, Math.abs(b - a), bottom - layout.top - 16);
      ctx.restore();
    } else if (view.pointer && view.pointer[0] >= layout.x0 && view.pointer[0] <= layout.x1) {
      for (let i = 0; i < book.panels.length; i++) dottedLine(ctx, palette.muted, view.pointer[0], panelAt(layout, i).rows - 4, panelAt(layout, i).bottom);
    }
  }

  function drawFocus(ctx, palette, layout, seen) {
    const panel = book.panels[seen.panel], request = panel.requests.get(seen.ordinal), segment = request?.segments[seen.index], row = view.rows.indexOf(seen.ordinal);
    if (!segment || row < 0) return;
    const pitch = pitchOf(layout, view.rows.length), top = panelAt(layout, seen.panel).rows + row * pitch, { scale } = view, clip = (t) => Math.min(Math.max(scale.at(t), scale.x0), scale.x1);
    const x = clip(segment.t0), x1 = clip(endOf(panel, segment)), gap = view.keyboard && !view.hover ? 2 : 0;
    ctx.strokeStyle = palette.ink;
    ctx.lineWidth = 2;
    ctx.strokeRect(x - gap, top - gap, Math.max(3, x1 - x) + 2 * gap, pitch + 2 * gap);
    drawCard(ctx, palette, cardLines(panel, request, segment), layout, view.hover && view.pointer ? { x: view.pointer[0], y: view.pointer[1] } : { x: x1, y: top + pitch });
  }

  // the segment that is looked at ---------------------------------------------------------------------------------------
  const focus = () => view.hover ?? view.pinned;

  function hit(point) {
    if (!host.layout() || !view.scale) return null;
    const found = rowAt(host.layout(), view.rows.length, ...point);
    if (!found) return null;
    const panel = book.panels[found.panel], ordinal = view.rows[found.row], request = panel.requests.get(ordinal);
    if (!request) return null;
    const near = (s) => Math.max(view.scale.at(s.t0) - point[0], point[0] - view.scale.at(endOf(panel, s)), 0);
    let index = -1;
    request.segments.forEach((s, i) => { if (near(s) <= (index < 0 ? 4 : near(request.segments[index]) - 1e-9)) index = i; });
    return index < 0 ? null : { panel: found.panel, ordinal, index };
  }

  /** From the row that is looked at to the one `by` rows on, in the next panel where this one ends. */
  function moveRow(by) {
    const at = view.pinned, n = view.rows.length, all = n * book.panels.length;
    let place = at ? at.panel * n + Math.max(0, view.rows.indexOf(at.ordinal)) + by : by > 0 ? 0 : all - 1;
    const t = at ? book.panels[at.panel].requests.get(at.ordinal).segments[at.index]?.t0 ?? 0 : 0;
    for (; place >= 0 && place < all; place += Math.sign(by)) {
      const panel = Math.floor(place / n), ordinal = view.rows[place % n], request = book.panels[panel].requests.get(ordinal);
      if (!request) continue;
      const later = request.segments.findIndex((s) => endOf(book.panels[panel], s) > t);
      return pin({ panel, ordinal, index: at ? (later < 0 ? request.segments.length - 1 : later) : 0 });
    }
  }

  function moveSegment(by) {
    if (!view.pinned) return moveRow(1);
    const { panel, ordinal, index } = view.pinned, n = book.panels[panel].requests.get(ordinal).segments.length;
    pin({ panel, ordinal, index: Math.min(Math.max(index + by, 0), n - 1) });
  }

  function pin(place, keyboard = true) {
    Object.assign(view, { pinned: place, hover: null, keyboard });
    if (place) {
      const panel = book.panels[place.panel], request = panel.requests.get(place.ordinal), segment = request.segments[place.index];
      const { begin, end, whole } = player.part();
      if (!whole && segment && (segment.t0 > end || endOf(panel, segment) < begin)) player.show(segment.t0 - (end - begin) / 4, segment.t0 + (3 * (end - begin)) / 4);
      if (segment) host.say(`${book.panels.length > 1 ? `${panel.name}: ` : ""}${cardLines(panel, request, segment).join(", ")}`);
    }
    host.invalidate();
  }

  function pick(letter) {
    for (const [i, panel] of book.panels.entries()) {
      const request = [...panel.requests.values()].find((r) => r.letter === letter);
      if (request) return pin({ panel: i, ordinal: request.ordinal, index: Math.max(0, request.segments.findIndex((s) => endOf(panel, s) >= player.now() - 1e-6)) });
    }
  }

  const letterKey = (key, now) => {
    typed = now - typedAt < 700 ? typed + key : key;
    typedAt = now;
    pick(typed);
  };

  const player = makePlayer(book, ui, root, send, () => host.invalidate());
  const host = runView({
    model, el, root, ui, send, style: STYLE,
    view: {
      fold(frame) {
        if (!foldLanes(book, frame)) return false;
        player.adopt();
        if (!ui.sheet.hidden) ui.sheet.innerHTML = raceTable(book, player.now());
        return true;
      },
      layout,
      placed: (layout) => ui.place(layout),
      draw,
      moving: () => player.playing(),
      shown() {
        player.shown();
        view.spoken = raceSaid(book, player.now());
        ui.canvas.setAttribute("aria-label", view.spoken);
      },
      spoken: () => view.spoken,
      retheme() {},
    },
  });
  dragTime(ui, player, () => view.scale, {
    hover(point) {
      Object.assign(view, { pointer: point, hover: point && hit(point) });
      ui.canvas.style.cursor = view.hover ? "pointer" : "default";
      if (view.scale) host.invalidate();
    },
    click: (point) => pin(hit(point), false),
    brush(span) {
      view.brush = span;
      host.invalidate();
    },
  });
  ui.table.addEventListener("click", () => toggleTable(ui, () => raceTable(book, player.now())));
  root.addEventListener("keydown", (event) => {
    if (!book.head || !view.scale || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.tagName === "BUTTON" && (event.key === " " || event.key === "Enter")) return event.stopPropagation();
    const plot = { ArrowLeft: () => moveSegment(-1), ArrowRight: () => moveSegment(1), ArrowUp: () => moveRow(-1), ArrowDown: () => moveRow(1), Home: () => moveSegment(-Infinity), End: () => moveSegment(Infinity), Enter: () => view.pinned && player.seek(endOf(book.panels[view.pinned.panel], book.panels[view.pinned.panel].requests.get(view.pinned.ordinal).segments[view.pinned.index])) };
    const zoned = event.target === ui.plot ? plot : event.target === ui.slider ? player.sliderKeys(event.shiftKey) : {};
    const action = zoned[event.key] || player.keys[event.key] || { Escape: () => pin(null) }[event.key] || (/^[a-z]$/i.test(event.key) && (() => letterKey(event.key.toUpperCase(), performance.now())));
    if (!action) return;
    event.preventDefault();
    event.stopPropagation();
    action();
  });
  for (const zone of [ui.plot, ui.slider]) zone.addEventListener("focus", () => host.invalidate());
  return host.stop;
}

export default { render };
