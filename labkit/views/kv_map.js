// The KV map in the browser: takes frames from the kernel, draws when something has changed, sends back what a user asks for.
import { PIXELS } from "./canvas/cells.js";
import { blockAt, ROW } from "./canvas/layout.js";
import { makeControls } from "./canvas/controls.js";
import { emptyPool, fold, NO_SLOT } from "./canvas/frame.js";
import { draw, layoutFor, redrawBlocks, stripBlockAt, updateGrid } from "./canvas/draw.js";
import { toggleTable } from "./canvas/elements.js";
import { makeRoot, makeSender, runView } from "./canvas/host.js";
import { visibleRows } from "./canvas/side.js";
import { tableHtml } from "./canvas/table.js";
import { letterOf } from "./canvas/text.js";
import { drawMarkLegend, trackScale } from "./canvas/timeline.js";

const FADE = 120, FLASH = 300; // milliseconds

function render({ model, el }) {
  const root = makeRoot(el, "kv-map"), ui = makeControls(root), gridCanvas = document.createElement("canvas");
  const pool = emptyPool(), send = makeSender(model), still = matchMedia("(prefers-reduced-motion: reduce)");
  const view = { layout: null, hover: -1, pinned: -1, keyboard: false, wanted: null, born: new Map(), lost: new Map() };
  let regrid = true, changed = new Set(), typed = "", typedAt = 0;

  const focus = () => (view.hover >= 0 ? view.hover : view.pinned >= 0 ? view.pinned : pool.scene?.card?.block ?? -1);
  const position = () => view.wanted ?? pool.head.position;

  function receive(frame) {
    const change = fold(pool, frame);
    if (!change) return false;
    if (change.ids && changed) change.ids.forEach((id) => changed.add(id));
    else changed = null;
    if (view.wanted === pool.head.position || pool.head.mode !== "paused") view.wanted = null;
    const now = performance.now();
    if (!still.matches && view.layout?.grid.size >= PIXELS) {
      for (const id of change.born) view.born.set(id, now);
      for (const id of change.lost) view.lost.set(id, now);
    }
    if (!ui.sheet.hidden) ui.sheet.innerHTML = tableHtml(pool, STYLE.states);
    return true;
  }

  function fading(now) {
    const done = (map, span) => { for (const [id, since] of map) if (now - since >= span) { map.delete(id); if (map === view.born && changed) changed.add(id); } };
    if (changed) for (const id of view.born.keys()) changed.add(id);
    done(view.born, FADE);
    done(view.lost, FLASH);
  }

  function paint(ctx, { now, whole, ratio, layout }, palette) {
    fading(now);
    if (regrid || !changed || changed.size) {
      const opacity = view.born.size ? (id) => (view.born.has(id) ? Math.max(0.15, Math.min(1, (now - view.born.get(id)) / FADE)) : 1) : null;
      updateGrid(gridCanvas, palette, pool, layout, ratio, regrid ? null : changed, opacity);
    }
    regrid = false;
    changed = new Set();
    const flashes = [...view.lost].map(([id, since]) => ({ id, share: 1 - (now - since) / FLASH }));
    (whole ? draw : redrawBlocks)(ctx, { pool, layout, grid: gridCanvas, focus: focus(), keyboard: view.keyboard, position: position(), flashes }, palette);
  }

  const host = runView({
    model, el, root, ui, send, style: STYLE,
    view: {
      fold: receive,
      layout: (ctx, palette, width) => (view.layout = layoutFor(ctx, palette, pool.scene, width)),
      placed: (layout, ctx, palette) => ui.place(layout, drawMarkLegend(ctx, palette, layout)),
      draw: paint,
      moving: () => view.born.size + view.lost.size > 0,
      shown: () => ui.show(pool, position()),
      spoken: () => pool.scene.alt,
      retheme: () => { regrid = true; },
    },
  });
  const { invalidate } = host;

  // what a user asks for ----------------------------------------------------------------------------------------------
  function look(block, { pin = false, keyboard = false } = {}) {
    if (pin) view.pinned = block;
    else view.hover = block;
    view.keyboard = keyboard;
    send({ kind: "focus", block: focusOrNone() }, true);
    invalidate();
  }
  const focusOrNone = () => (view.hover >= 0 ? view.hover : view.pinned >= 0 ? view.pinned : null);
  const choose = (letter) => send({ kind: "select", letter });
  const selectOwner = (block) => pool.slot[block] !== NO_SLOT && choose(letterOf(pool.owner[block]));
  /** Pick a request by its name: the card turns to its last block. */
  function select(letter) {
    view.pinned = -1;
    choose(letter);
    send({ kind: "focus", block: focusOrNone() });
    invalidate();
  }
  function seek(to) {
    const { first, last } = pool.head;
    view.wanted = Math.min(Math.max(to, first), Math.max(last, first));
    send({ kind: "seek", position: view.wanted }, true);
    invalidate();
  }
  const toggle = () => send({ kind: pool.head.mode === "paused" ? "play" : "pause" });
  const jump = (direction) => send({ kind: "jump", direction });
  const clear = () => {
    view.hover = -1;
    select(null);
  };

  const point = (event) => {
    const r = ui.canvas.getBoundingClientRect();
    return [event.clientX - r.left, event.clientY - r.top];
  };
  function hit(event) {
    const [x, y] = point(event), { grid, requests } = view.layout;
    const block = blockAt(grid, pool.scene.blocks, x, y);
    if (block >= 0) return { block };
    const strip = stripBlockAt(pool, view.layout, focus(), x, y);
    if (strip >= 0) return { block: strip, strip: true };
    const at = Math.floor((y - requests.y - 20) / ROW), { rows } = visibleRows(pool.scene, view.layout);
    return x >= requests.x - 6 && x < requests.x + requests.width && at >= 0 && at < rows.length ? { letter: rows[at].letter } : {};
  }

  ui.canvas.addEventListener("pointermove", (event) => {
    if (!view.layout) return;
    const found = hit(event);
    ui.canvas.style.cursor = found.block !== undefined || found.letter ? "pointer" : "default";
    if ((found.block ?? -1) !== view.hover && !(found.strip && view.hover >= 0 && found.block === focus())) look(found.block ?? -1);
  });
  ui.canvas.addEventListener("pointerleave", () => view.hover >= 0 && look(-1));
  ui.canvas.addEventListener("click", (event) => {
    if (!view.layout) return;
    const { block, strip, letter } = hit(event);
    if (letter) select(letter);
    else if (block !== undefined) {
      look(block, { pin: true });
      if (!strip) selectOwner(block);
    }
  });
  const drag = (event) => seek(trackScale(pool, view.layout).position(point(event)[0]));
  ui.slider.addEventListener("pointerdown", (event) => {
    if (!pool.steps.length) return;
    ui.slider.setPointerCapture(event.pointerId);
    const [x, y] = point(event), scale = trackScale(pool, view.layout);
    const near = y < view.layout.track.y ? pool.marks.map((m) => m[0]).filter((p) => Math.abs(scale.at(p) - x) < 12) : [];
    if (near.length) seek(near.reduce((a, b) => (Math.abs(scale.at(a) - x) <= Math.abs(scale.at(b) - x) ? a : b)));
    else drag(event);
  });
  ui.slider.addEventListener("pointermove", (event) => ui.slider.hasPointerCapture(event.pointerId) && drag(event));
  ui.play.addEventListener("click", toggle);
  ui.speed.addEventListener("click", () => send({ kind: "speed", places: 1 }));
  ui.previous.addEventListener("click", () => jump(-1));
  ui.next.addEventListener("click", () => jump(1));
  ui.live.addEventListener("click", () => send({ kind: "live" }));
  ui.table.addEventListener("click", () => toggleTable(ui, () => tableHtml(pool, STYLE.states)));

  // keyboard -------------------------------------------------------------------------------------------------------------
  const moveCell = (by) => {
    const n = pool.scene.blocks, from = focus();
    look(Math.min(Math.max((from < 0 ? 0 : from) + by, 0), n - 1), { pin: true, keyboard: true });
    view.hover = -1;
    host.say(describe(focus()));
  };
  const describe = (id) => `block ${id}, ${STYLE.states[pool.state[id]]}${pool.slot[id] === NO_SLOT ? "" : `, ${pool.shared.has(id) ? `${pool.shared.get(id).refs} owners` : letterOf(pool.owner[id])}`}`;
  const moveRow = (by) => {
    const { rows } = pool.scene;
    if (!rows.length) return;
    const at = rows.findIndex((r) => r.letter === pool.scene.selected?.letter);
    select(rows[Math.min(Math.max(at + by, 0), rows.length - 1)].letter);
  };
  const letterKey = (key, now) => {
    typed = now - typedAt < 700 ? typed + key : key;
    typedAt = now;
    select(typed);
  };
  function zoneKeys(target, key, shift) {
    const { cols } = view.layout.grid;
    if (target === ui.grid) return { ArrowLeft: () => moveCell(-1), ArrowRight: () => moveCell(1), ArrowUp: () => moveCell(-cols), ArrowDown: () => moveCell(cols), Home: () => moveCell(-Infinity), End: () => moveCell(Infinity), Enter: () => focus() >= 0 && selectOwner(focus()) }[key];
    if (target === ui.requests) return { ArrowUp: () => moveRow(-1), ArrowDown: () => moveRow(1), Home: () => moveRow(-Infinity), End: () => moveRow(Infinity), Enter: () => moveRow(0) }[key];
    const step = (by) => (shift ? () => jump(Math.sign(by)) : () => seek(position() + by));
    return { ArrowLeft: step(-1), ArrowRight: step(1), ArrowDown: step(-1), ArrowUp: step(1), PageDown: () => seek(position() - 10), PageUp: () => seek(position() + 10), Home: () => seek(pool.head.first), End: () => (pool.head.status === "live" ? send({ kind: "live" }) : seek(pool.head.last)) }[key];
  }
  root.addEventListener("keydown", (event) => {
    if (!pool.head || !view.layout || event.ctrlKey || event.metaKey || event.altKey) return;
    const onButton = event.target.tagName === "BUTTON";
    if (onButton && (event.key === " " || event.key === "Enter")) return event.stopPropagation();
    const common = { " ": toggle, Escape: clear, "[": () => jump(-1), "]": () => jump(1), "+": () => send({ kind: "speed", places: 1 }), "-": () => send({ kind: "speed", places: -1 }) };
    const action = zoneKeys(event.target, event.key, event.shiftKey) || common[event.key] || (/^[a-z]$/i.test(event.key) && (() => letterKey(event.key.toUpperCase(), performance.now())));
    if (!action) return;
    event.preventDefault();
    event.stopPropagation();
    action();
  });
  for (const zone of [ui.grid, ui.requests, ui.slider]) zone.addEventListener("focus", invalidate);
  return host.stop;
}

export default { render };
