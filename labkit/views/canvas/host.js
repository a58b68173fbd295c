// What every view does in the page: take frames, draw when something has changed, follow the page's theme and size, speak, ask again.
import { decode } from "./packet.js";
import { forgetFont, forgetWidths } from "./text.js";
import { readTheme } from "./theme.js";

const SEND_EVERY = 66; // milliseconds between two messages of one kind while a pointer moves
const SPEAK_EVERY = 1000;
const ASK_AGAIN = 500; // milliseconds: a kernel that is busy may leave the first question lying

/** Sends at most one message of a kind per interval, always the latest. */
export function makeSender(model) {
  const timers = new Map(), latest = new Map(), sent = new Map();
  const flush = (kind) => {
    timers.delete(kind);
    sent.set(kind, performance.now());
    model.send(latest.get(kind));
  };
  return (message, lazily = false) => {
    latest.set(message.kind, message);
    if (!lazily) {
      clearTimeout(timers.get(message.kind));
      flush(message.kind);
    } else if (!timers.has(message.kind)) timers.set(message.kind, setTimeout(flush, Math.max(0, SEND_EVERY - (performance.now() - (sent.get(message.kind) ?? -Infinity))), message.kind));
  };
}

/** The element that a view lives in. Keys typed there belong to the view, not to the notebook. */
export function makeRoot(el, className) {
  const root = document.createElement("div");
  root.className = `lab-view ${className}`;
  root.setAttribute("data-lm-suppress-shortcuts", "true");
  el.appendChild(root);
  return root;
}

/**
 * Runs a view. `ui`: its elements, with `canvas`, `words` and `paint(palette)`. view:
 *   fold(frame)           takes a frame in; false when one before it was missed
 *   layout(ctx, palette, width)  {width, height, ...} of what is to be drawn
 *   placed(layout)        the size has changed: put the elements where they belong
 *   draw(ctx, {now, whole, ratio}, palette)  `whole` false: only what moves by itself
 *   moving()              whether something moves by itself
 *   shown(layout)         after a whole drawing: bring the elements up to date
 *   spoken()              what a screen reader is told
 *   retheme()             the palette or the ratio has changed
 * Returns {ratio(), palette(), layout(), invalidate(), say(text), stop()}; `send` is the sender of messages.
 */
export function runView({ model, el, root, ui, send, style, view }) {
  const ctx = ui.canvas.getContext("2d");
  let palette = readTheme(el, style), layout = null, ratio = 0, dirty = true, handle = 0, alive = true, ready = false, asking = 0, spokenAt = 0, spoken = "";
  const statistics = (root.labStatistics = { frames: 0, bytes: 0, draws: 0, drawMs: 0 });

  const invalidate = () => {
    dirty = true;
    if (!handle && alive) handle = requestAnimationFrame(paint);
  };

  function receive() {
    const data = model.get("frame");
    if (!data || !data.byteLength) return;
    if (!view.fold(decode(data))) return ask();
    clearTimeout(asking);
    asking = 0;
    ready = true;
    statistics.frames += 1;
    statistics.bytes += data.byteLength;
    invalidate();
  }

  /** Ask for a complete frame until one comes. */
  function ask(wait = ASK_AGAIN) {
    if (asking && wait === ASK_AGAIN) return;
    send({ kind: "hello" });
    asking = setTimeout(() => alive && ask(Math.min(2 * wait, 8000)), wait);
  }

  function resize() {
    const width = Math.max(320, Math.floor(el.clientWidth || root.clientWidth)), dots = window.devicePixelRatio || 1;
    const next = view.layout(ctx, palette, width);
    const same = layout && layout.width === width && layout.height === next.height && ratio === dots;
    layout = next;
    if (same) return;
    ratio = dots;
    Object.assign(ui.canvas, { width: Math.round(width * ratio), height: Math.round(layout.height * ratio) });
    ui.canvas.style.height = `${layout.height}px`;
    forgetFont(ctx);
    view.retheme();
    view.placed(layout, ctx, palette);
  }

  function paint(now) {
    handle = 0;
    if (!alive || !ready || !(dirty || view.moving())) return;
    const begun = performance.now(), whole = dirty;
    dirty = false;
    if (whole) resize();
    ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
    view.draw(ctx, { now, whole, ratio, layout }, palette);
    if (whole) {
      view.shown(layout);
      if (now - spokenAt >= SPEAK_EVERY && view.spoken() !== spoken) say(view.spoken(), now);
    }
    statistics.draws += 1;
    statistics.drawMs += performance.now() - begun;
    if (view.moving() && !handle) handle = requestAnimationFrame(paint);
  }

  function say(text, now = performance.now()) {
    [spokenAt, spoken] = [now, text];
    ui.words.textContent = text;
  }

  const retheme = () => {
    palette = readTheme(el, style);
    ui.paint(palette);
    view.retheme();
    invalidate();
  };
  const themes = new MutationObserver(() => [0, 100, 500].forEach((wait) => setTimeout(retheme, wait))); // its style sheet may load after the switch
  themes.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light", "data-jp-theme-name", "class"] });
  const sizes = new ResizeObserver(retheme); // its first call comes when the view joins the page: only then has it the page's colours
  sizes.observe(el);
  const scheme = matchMedia("(prefers-color-scheme: dark)");
  scheme.addEventListener("change", retheme);
  document.fonts?.ready.then(() => {
    forgetWidths();
    retheme();
  });
  ui.paint(palette);
  model.on("change:frame", receive);
  receive();
  ask();
  function stop() {
    alive = false;
    clearTimeout(asking);
    cancelAnimationFrame(handle);
    model.off("change:frame", receive);
    themes.disconnect();
    sizes.disconnect();
    scheme.removeEventListener("change", retheme);
  }
  return { invalidate, say, stop, layout: () => layout };
}
