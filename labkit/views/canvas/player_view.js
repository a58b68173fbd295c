// A view of panels on one clock: its elements, its axis, its pointer and its keys. What the panels hold is told by `view`.
import { drawBanner, drawFooter, EDGE } from "./banner.js";
import { drawAxis, dottedLine, drawMoment, makeScale } from "./clock.js";
import { button, makeFrame, paintElements, placeAt, toggleTable, zone } from "./elements.js";
import { makeRoot, makeSender, runView } from "./host.js";
import { emptyBook, foldLanes, lastOf } from "./lanes.js";
import { makePlayer } from "./player.js";
import { putRuns } from "./text.js";

const FRAME = 66; // milliseconds between two drawings while it plays

/** The elements over the canvas. `label`: what the plot is called. */
function makePlayerControls(root, label) {
  const { canvas, rest } = makeFrame(root);
  const plot = zone(root, "plot", "application", label);
  const play = button(root, "play", "Play", "space key");
  const speed = button(root, "speed", "Speed", "keys < and >");
  const slider = zone(root, "slider", "slider", "Time", { "aria-orientation": "horizontal" });
  const previous = button(root, "previous", "Previous event", "key [", "‹ event");
  const next = button(root, "next", "Next event", "key ]", "event ›");
  const closer = button(root, "closer", "Zoom in", "key +, or drag over a part of the plot", "zoom in");
  const wider = button(root, "wider", "Zoom out", "key −", "zoom out");
  const whole = button(root, "whole", "Whole run", "key 0, or double click", "whole run");
  const live = button(root, "live", "Follow live", "End key on the slider");
  const ui = { canvas, plot, play, speed, slider, previous, next, closer, wider, whole, live, ...rest() };

  /** layout: {x0, x1, top, axis, controls, foot}. */
  function place(layout) {
    const { x0, x1, top, axis, controls, foot } = layout;
    placeAt(plot, x0 - 40, top - 4, x1 - x0 + 46, axis - 16 - top);
    placeAt(slider, x0 - 5, axis - 15, x1 - x0 + 14, 28);
    placeAt(play, 18, axis - 12, 34, 34);
    let x = x0 - 4;
    for (const node of [speed, previous, next, closer, wider, whole]) {
      placeAt(node, x, controls);
      x += (node === speed ? Math.max(66, node.offsetWidth) : node.offsetWidth) + (node === next || node === speed ? 10 : 2);
    }
    Object.assign(live.style, { right: "20px", top: `${x + 190 > layout.width ? foot.y - 40 : controls}px` });
    Object.assign(ui.table.style, { right: "20px", top: `${foot.y - 17}px` });
  }

  return { ...ui, place, paint: (palette) => paintElements(root, palette) };
}

/** The pointer on the axis seeks; on the plot it drags out the part to zoom in on. `scale()` is the one last drawn. */
function dragTime(ui, player, scale, { hover, click, brush }) {
  const at = (event) => event.clientX - ui.canvas.getBoundingClientRect().left, down = (event) => event.clientY - ui.canvas.getBoundingClientRect().top;
  ui.slider.addEventListener("pointerdown", (event) => {
    ui.slider.setPointerCapture(event.pointerId);
    player.seek(scale().time(at(event)), true);
  });
  ui.slider.addEventListener("pointermove", (event) => ui.slider.hasPointerCapture(event.pointerId) && player.seek(scale().time(at(event)), true));
  let from = null;
  const inPlot = (event) => scale() && at(event) >= scale().x0 - 40 && at(event) <= scale().x1 + 6;
  ui.canvas.addEventListener("pointerdown", (event) => {
    if (!inPlot(event) || event.button) return;
    from = at(event);
    ui.canvas.setPointerCapture(event.pointerId);
  });
  ui.canvas.addEventListener("pointermove", (event) => {
    if (from !== null && Math.abs(at(event) - from) > 6) brush([from, at(event)]);
    else hover(inPlot(event) ? [at(event), down(event)] : null);
  });
  ui.canvas.addEventListener("pointerup", (event) => {
    const to = at(event), begun = from;
    from = null;
    brush(null);
    if (begun === null) return;
    if (Math.abs(to - begun) > 6) player.show(scale().time(Math.min(begun, to)), scale().time(Math.max(begun, to)));
    else click([to, down(event)]);
  });
  ui.canvas.addEventListener("pointercancel", () => {
    from = null;
    brush(null);
  });
  ui.canvas.addEventListener("pointerleave", () => hover(null));
  ui.canvas.addEventListener("dblclick", () => player.showAll());
  ui.canvas.addEventListener("wheel", (event) => {
    if (!inPlot(event) || !(event.ctrlKey || Math.abs(event.deltaX) > Math.abs(event.deltaY))) return; // a plain wheel scrolls the notebook
    if (player.part().whole && !event.ctrlKey) return;
    event.preventDefault();
    if (event.ctrlKey) player.zoom(Math.exp(event.deltaY * 0.004), scale().time(at(event)));
    else player.pan((event.deltaX / (scale().x1 - scale().x0)) * (scale().end - scale().begin));
  }, { passive: false });
}

/** Where the part stands in the whole run: a thin bar at `y`. */
function drawOverview(ctx, palette, { x0, x1 }, { begin, end, whole }, last, y) {
  if (whole) return;
  const at = (t) => x0 + ((x1 - x0) * Math.min(Math.max(t, 0), last)) / last;
  ctx.fillStyle = palette.line;
  ctx.fillRect(x0, y, x1 - x0, 4);
  ctx.fillStyle = palette.muted;
  ctx.fillRect(at(begin), y - 0.5, Math.max(3, at(end) - at(begin)), 5);
}

/**
 * Runs a view of panels. view:
 *   banner(book, t, palette)  name, counters and badge
 *   layout(ctx, palette, width, book)  {width, height, x0, x1, top, panel, axis, controls, foot}
 *   plot(layout, i)       [top, bottom] of panel i
 *   head(ctx, palette, scene), panel(ctx, palette, scene, panel, i, y), over(ctx, palette, scene)  drawn before, for each and after the panels
 *   said(book, t), table(book, t)
 *   hover(point, scene), click(point, scene), keys(target, scene)
 * scene: {book, layout, scale, t, part, player, host, pointer}, as last drawn.
 */
export function runPanels({ model, el, className, label, style, view }) {
  const root = makeRoot(el, className), send = makeSender(model), book = emptyBook(), ui = makePlayerControls(root, label);
  const scene = { book, layout: null, scale: null, t: 0, part: null, pointer: null };
  let brush = null, drawn = 0, said = "";
  const inside = (x) => Math.min(Math.max(x, scene.scale.x0), scene.scale.x1);

  function draw(ctx, { now, whole, layout }, palette) {
    player.arrive();
    if (!whole && now - drawn < FRAME) return;
    drawn = now;
    const part = player.part(), t = player.now(), scale = makeScale(layout.x0, layout.x1, part.begin, part.end);
    Object.assign(scene, { layout, part, t, scale });
    ctx.fillStyle = palette.paper;
    ctx.fillRect(0, 0, layout.width, layout.height);
    drawBanner(ctx, palette, view.banner(book, t, palette), layout);
    view.head(ctx, palette, scene);
    book.panels.forEach((panel, i) => {
      const y = layout.top + i * layout.panel, [top, bottom] = view.plot(layout, i);
      putRuns(ctx, palette, [[panel.name, { weight: 650, size: 13 }], [panel.rule, { fill: palette.ink2, dx: 10 }]], layout.x0, y + 10);
      view.panel(ctx, palette, scene, panel, i, y);
      if (!player.atEnd()) drawMoment(ctx, palette, scale, t, top, bottom);
      if (scene.pointer && inside(scene.pointer[0]) === scene.pointer[0]) dottedLine(ctx, palette.muted, scene.pointer[0], top, bottom);
      ctx.fillStyle = palette.line;
      if (i + 1 < book.panels.length) ctx.fillRect(EDGE, y + layout.panel - 8.5, layout.width - 2 * EDGE, 1);
    });
    if (brush) drawBrush(ctx, palette, layout);
    const pills = player.atEnd() ? [] : [{ t, filled: true }];
    if (scene.pointer) pills.push({ t: scale.time(inside(scene.pointer[0])), filled: false });
    drawAxis(ctx, palette, scale, layout.axis, pills);
    drawOverview(ctx, palette, layout, part, lastOf(book), layout.axis + 9);
    drawFooter(ctx, palette, book.words.footer, layout);
    view.over(ctx, palette, scene);
    if (!whole) player.shown();
  }

  function drawBrush(ctx, palette, layout) {
    const [a, b] = brush.map(inside), top = view.plot(layout, 0)[0], bottom = view.plot(layout, book.panels.length - 1)[1];
    ctx.save();
    ctx.globalAlpha = 0.12;
    ctx.fillStyle = palette.ink;
    ctx.fillRect(Math.min(a, b), top, Math.abs(b - a), bottom - top);
    ctx.restore();
  }

  const player = makePlayer(book, ui, root, send, () => host.invalidate());
  const host = runView({
    model, el, root, ui, send, style,
    view: {
      fold(frame) {
        if (!foldLanes(book, frame)) return false;
        player.adopt();
        if (!ui.sheet.hidden) ui.sheet.innerHTML = view.table(book, player.now());
        return true;
      },
      layout: (ctx, palette, width) => view.layout(ctx, palette, width, book),
      placed: (layout) => ui.place(layout),
      draw,
      moving: player.playing,
      shown() {
        player.shown();
        said = view.said(book, player.now());
        ui.canvas.setAttribute("aria-label", said);
      },
      spoken: () => said,
      retheme() {},
    },
  });
  Object.assign(scene, { player, host });
  dragTime(ui, player, () => scene.scale, {
    hover(point) {
      if (!scene.scale) return;
      scene.pointer = point;
      ui.canvas.style.cursor = view.hover(point, scene) ? "pointer" : "default";
      host.invalidate();
    },
    click: (point) => view.click(point, scene),
    brush(span) {
      brush = span;
      if (span) scene.pointer = null;
      host.invalidate();
    },
  });
  ui.table.addEventListener("click", () => toggleTable(ui, () => view.table(book, player.now())));
  root.addEventListener("keydown", (event) => {
    if (!scene.scale || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.tagName === "BUTTON" && (event.key === " " || event.key === "Enter")) return event.stopPropagation();
    const zone = event.target === ui.plot ? "plot" : event.target === ui.slider ? "slider" : "";
    const action = (zone === "slider" ? player.sliderKeys(event.shiftKey) : {})[event.key] || view.keys(zone, event, scene) || player.keys[event.key];
    if (!action) return;
    event.preventDefault();
    event.stopPropagation();
    action();
  });
  for (const node of [ui.plot, ui.slider]) node.addEventListener("focus", () => host.invalidate());
  return host.stop;
}
