// A moment of a run's clock and the part of it that is shown: play, seek, follow live, zoom. All of it happens in the browser; the kernel
// is told where the view stands.
import { niceEnd, spoken } from "./clock.js";
import { showPlayback } from "./elements.js";
import { endOf, firstAbove, lastOf, PREEMPTED } from "./lanes.js";

const SPEEDS = [0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8];
const NARROWEST = 1e-3; // seconds
const MOST_ROWS = 64, MOST_STEPS = 3000; // in one picture of a live run; then the window follows its end

/** Where the view stands. `changed()` is called when that has changed. */
export function makePlayer(book, ui, root, send, changed) {
  const state = { mode: "live", t: 0, speed: 1, order: -1, since: 0, span: null, begin: null, auto: true };
  const last = () => lastOf(book), live = () => book.head.status === "live" || book.head.status === "empty";

  function tell(lazily = false) {
    send({ kind: "cursor", mode: state.mode, t: now(), speed: state.speed }, lazily);
    changed();
  }

  /** The moment that is shown. */
  function now() {
    if (state.mode === "live") return last();
    if (state.mode === "paused") return Math.min(state.t, last());
    return Math.min(last(), state.t + ((performance.now() - state.since) / 1000) * state.speed);
  }

  /** What the kernel asks for, once. */
  function adopt() {
    if (book.head.order === state.order) return;
    Object.assign(state, { order: book.head.order, mode: book.head.mode, t: book.head.t, speed: book.head.speed, since: performance.now() });
  }

  /** A playing view that has come to the end stands there, or goes on live. */
  function arrive() {
    if (state.mode !== "playing" || now() < last()) return;
    Object.assign(state, { mode: live() ? "live" : "paused", t: last() });
    tell();
  }

  function seek(t, lazily = false) {
    Object.assign(state, { mode: "paused", t: Math.min(Math.max(t, 0), last()) });
    if (state.begin !== null && (state.t < state.begin || state.t > state.begin + state.span)) state.begin = Math.max(0, state.t - state.span / 2);
    tell(lazily);
  }

  function toggle() {
    const t = now();
    if (state.mode === "paused") Object.assign(state, { mode: "playing", t: t >= last() ? 0 : t, since: performance.now() });
    else Object.assign(state, { mode: "paused", t });
    if (state.mode === "playing" && state.begin !== null) state.begin = Math.max(0, state.t - state.span / 10);
    tell();
  }

  function follow() {
    state.mode = "live";
    if (state.span !== null) state.begin = null;
    tell();
  }

  function faster(places) {
    Object.assign(state, { t: now(), since: performance.now(), speed: SPEEDS[(SPEEDS.indexOf(state.speed) + places + SPEEDS.length) % SPEEDS.length] });
    tell();
  }

  /** To the end of the next step of any panel, or the one before. */
  function step(direction) {
    const t = now(), eps = 1e-6;
    const ends = book.panels.map(({ end }) => (direction > 0 ? end[firstAbove(end, t + eps)] : end[firstAbove(end, t - eps) - 1]));
    const found = ends.filter((e) => e !== undefined && (direction > 0 ? e > t + eps : e < t - eps));
    seek(found.length ? (direction > 0 ? Math.min(...found) : Math.max(...found)) : direction > 0 ? last() : 0);
  }

  /** To the next arrival, first token, preemption or end of a request, or the one before. */
  function jump(direction) {
    const t = now(), eps = 1e-6, times = [];
    for (const panel of book.panels) {
      for (const r of panel.requests.values()) {
        times.push(r.arrival, r.first, r.finish);
        if (r.preempted) for (const s of r.segments) if (s.kind === PREEMPTED) times.push(s.t0);
      }
    }
    const found = times.filter((e) => e < Infinity && (direction > 0 ? e > t + eps : e < t - eps));
    if (found.length) seek(direction > 0 ? found.reduce((a, b) => Math.min(a, b)) : found.reduce((a, b) => Math.max(a, b)));
  }

  /** The span that a long live run is shown in: as much as can still be told apart. */
  function autoSpan() {
    let begin = 0;
    for (const panel of book.panels) {
      if (panel.requests.size > MOST_ROWS) {
        const ends = [...panel.requests.values()].map((r) => (r.segments.length ? endOf(panel, r.segments.at(-1)) : r.arrival)).sort((a, b) => b - a);
        begin = Math.max(begin, ends[MOST_ROWS]);
      }
      if (panel.end.length > MOST_STEPS) begin = Math.max(begin, panel.start[panel.start.length - MOST_STEPS]);
    }
    return begin > 0 ? niceEnd(Math.max(last() - begin, last() / 50), true) : null;
  }

  /** [begin, end] in seconds of the part that is shown; `whole` is true for all of it. */
  function part() {
    if (state.auto) state.span = live() ? autoSpan() : null;
    const all = niceEnd(last(), live());
    if (state.span === null || state.span >= all) return { begin: 0, end: all, whole: true };
    if (state.mode === "playing") {
      const t = now(), begin = state.begin ?? Math.max(0, t - state.span / 10);
      state.begin = t > begin + 0.9 * state.span ? t - 0.1 * state.span : begin;
    }
    const begin = state.begin ?? Math.max(0, last() - 0.97 * state.span);
    return { begin, end: begin + state.span, whole: false };
  }

  /** Shows `factor` times as much, with `t` where it was. */
  function zoom(factor, t = null) {
    const { begin, end } = part(), span = Math.max((end - begin) * factor, NARROWEST), all = niceEnd(last(), live());
    const centre = t ?? (now() >= begin && now() <= end ? now() : (begin + end) / 2);
    if (span >= all) return showAll();
    const from = centre - ((centre - begin) / (end - begin)) * span;
    show(from, from + span);
  }

  function show(begin, end) {
    const span = Math.max(end - begin, NARROWEST), all = niceEnd(last(), live());
    const atEnd = state.mode === "live" && live() && end >= last();
    Object.assign(state, { auto: false, span, begin: atEnd ? null : Math.min(Math.max(0, begin), Math.max(0, all - span)) });
    changed();
  }

  function pan(seconds) {
    const { begin, end, whole } = part();
    if (!whole) show(begin + seconds, end + seconds);
  }

  function showAll() {
    Object.assign(state, { auto: false, span: null, begin: null });
    changed();
  }

  /** Brings the buttons and the slider up to date. */
  function shown() {
    const t = now(), ahead = Math.max(0, last() - t);
    showPlayback(root, ui, { mode: state.mode, speed: state.speed, status: book.head.status }, `${spoken(ahead)} ahead`);
    for (const [name, value] of Object.entries({ valuemin: 0, valuemax: Math.round(1e3 * last()), valuenow: Math.round(1e3 * t), valuetext: spoken(t) })) ui.slider.setAttribute(`aria-${name}`, value);
    ui.whole.disabled = ui.wider.disabled = part().whole;
    Object.assign(root.dataset, { time: t.toFixed(4), zoom: part().whole ? "whole" : "part" });
  }

  const keys = {
    " ": toggle, "<": () => faster(-1), ">": () => faster(1), "[": () => jump(-1), "]": () => jump(1), "+": () => zoom(0.5), "=": () => zoom(0.5), "-": () => zoom(2), 0: showAll,
  };
  const sliderKeys = (shift) => ({
    ArrowLeft: () => (shift ? jump(-1) : step(-1)), ArrowRight: () => (shift ? jump(1) : step(1)), ArrowDown: () => step(-1), ArrowUp: () => step(1),
    PageDown: () => pan(-0.8 * (part().end - part().begin)), PageUp: () => pan(0.8 * (part().end - part().begin)), Home: () => seek(0), End: () => (live() ? follow() : seek(last())),
  });

  ui.play.addEventListener("click", toggle);
  ui.speed.addEventListener("click", () => faster(1));
  ui.previous.addEventListener("click", () => jump(-1));
  ui.next.addEventListener("click", () => jump(1));
  ui.closer.addEventListener("click", () => zoom(0.5));
  ui.wider.addEventListener("click", () => zoom(2));
  ui.whole.addEventListener("click", showAll);
  ui.live.addEventListener("click", follow);
  return { now, adopt, arrive, seek, zoom, show, showAll, pan, part, shown, keys, sliderKeys, playing: () => state.mode === "playing", atEnd: () => now() >= last() - 1e-9 };
}
