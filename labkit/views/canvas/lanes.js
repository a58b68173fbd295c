// Runs as rows of requests and columns of steps, folded from frames. The layout of a frame is told in lane_frame.py. Times in seconds.

import { letterOf } from "./text.js";

export const KINDS = ["queued", "prefill", "recompute", "decode", "stalled", "padding", "preempted"];
export const [QUEUED, PREFILL, RECOMPUTE, DECODE, STALLED, PADDING, PREEMPTED] = KINDS.keys();
export const SHARES = ["prefill", "decode", "recompute", "padding", "idle"];
export const SLOTS = ["useful", "tail", "reserved", "cached", "free"];
const TICK = 1e-5, NONE = 0xffffffff;
const COLUMNS = ["step", "prefill", "recompute", "padded", "decode", "held", "sampled", "waiting", "running", ...SLOTS];

/** {head: of the last frame, words, panels}. A panel's clock starts with its first arrival, when it has `begun`; `done` is when its last request ended. */
export const emptyBook = () => ({ head: null, words: null, panels: [] });

const emptyPanel = (told) => ({
  ...told, start: [], end: [], requests: new Map(), segments: [],
  columns: Object.fromEntries(COLUMNS.map((name) => [name, []])),
  sums: { sampled: [0], prefill: [0], decode: [0], recompute: [0], padding: [0] }, // of all steps before an index: tokens, then seconds
  held: Object.fromEntries(SLOTS.map((name) => [name, []])), // slots times seconds, until the end of the step of an index
});

/** Folds a frame into the book; false when a frame before it was missed. */
export function foldLanes(book, frame) {
  const { head } = frame;
  if (head.base && (!book.head || book.head.seq !== head.base)) return false;
  if (!head.base) {
    book.words = head.words;
    book.panels = head.panels.map((told, i) => emptyPanel({ ...told, name: head.words.rules[i][0], rule: head.words.rules[i][1] }));
  }
  book.words.about = head.about; // a race counts its requests while they come
  book.panels.forEach((panel, i) => {
    const section = (name) => frame[`${i}.${name}`];
    Object.assign(panel, { now: head.now[i], slots: head.slots[i], over: head.over[i], begun: head.begun[i], done: head.done[i] ?? Infinity });
    if (section("ordinal")) takeRequests(panel, section, book.words.reasons);
    if (section("index")) takeSegments(panel, section);
    takeSteps(panel, section);
  });
  book.head = head;
  return true;
}

const time = (ticks) => (ticks === NONE ? Infinity : ticks * TICK);

function takeRequests(panel, section, reasons) {
  section("ordinal").forEach((ordinal, k) => {
    const known = panel.requests.get(ordinal) ?? { ordinal, letter: letterOf(ordinal), segments: [] };
    for (const name of ["arrival", "first", "latest", "finish"]) known[name] = time(section(name)[k]);
    for (const name of ["prompt", "limit", "outputs", "preempted"]) known[name] = section(name)[k];
    known.reason = reasons[section("reason")[k]];
    known.well = known.finish < Infinity && (known.reason === "stop" || known.reason === "length");
    known.ttft = known.first - known.arrival;
    known.tpot = known.well && known.first < Infinity && known.outputs > 1 ? (known.latest - known.first) / (known.outputs - 1) : Infinity;
    panel.requests.set(ordinal, known);
  });
}

function takeSegments(panel, section) {
  section("index").forEach((index, k) => {
    let segment = panel.segments[index];
    if (!segment) {
      segment = panel.segments[index] = { lane: section("lane")[k] };
      panel.requests.get(segment.lane)?.segments.push(segment);
    }
    for (const name of ["kind", "at", "last", "tokens", "blocks"]) segment[name] = section(name)[k];
    segment.t0 = time(section("t0")[k]);
    segment.t1 = time(section("t1")[k]);
  });
}

function takeSteps(panel, section) {
  const { start, end, columns, sums } = panel, starts = section("start");
  for (let k = 0; k < starts.length; k++) {
    start.push(starts[k] * TICK);
    end.push(section("end")[k] * TICK);
    for (const name of COLUMNS) if (section(name)) columns[name].push(section(name)[k]);
    const at = start.length - 1, spent = end[at] - start[at], of = (name) => columns[name][at];
    const total = of("prefill") + of("decode") + of("recompute") + of("padded") + of("held"), rate = total ? spent / total : 0;
    const add = (name, n) => sums[name].push(sums[name][at] + n);
    add("sampled", of("sampled"));
    add("prefill", of("prefill") * rate);
    add("decode", of("decode") * rate);
    add("recompute", of("recompute") * rate);
    add("padding", (of("padded") + of("held")) * rate);
    for (const name of SLOTS) panel.held[name].push(at ? panel.held[name][at - 1] + (columns[name][at - 1] ?? 0) * (end[at] - end[at - 1]) : 0);
  }
}

/** The first index whose value is greater than `value` in a sorted list. */
export function firstAbove(sorted, value) {
  let low = 0, high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] > value) high = middle;
    else low = middle + 1;
  }
  return low;
}

export const median = (values) => {
  const sorted = Float64Array.from(values).sort(), n = sorted.length;
  return n ? (sorted[(n - 1) >> 1] + sorted[n >> 1]) / 2 : null;
};

export const endOf = (panel, segment) => Math.min(segment.t1, Math.max(panel.now, segment.t0));
export const lastOf = (book) => Math.max(0, ...book.panels.map((panel) => panel.now));

/** What a panel comes to at `t`: the definitions of measures.py. */
export function measureAt(panel, t) {
  const out = { requests: 0, waiting: 0, running: 0, finished: 0, failed: 0, preemptions: 0, ttft: [], tpot: [], tokens: 0, throughput: 0, padding: 0, until: 0, makespan: null, seconds: {}, slots: {}, mean: {} };
  let now = Math.min(t, panel.now, panel.requests.size ? Infinity : panel.done), latest = 0;
  if (!panel.begun) return out;
  const eps = TICK; // times come in ticks
  for (const r of panel.requests.values()) {
    if (r.arrival > now + eps) continue;
    out.requests += 1;
    if (r.first <= now + eps) out.ttft.push(r.ttft);
    if (r.preempted) out.preemptions += r.segments.filter((s) => s.kind === PREEMPTED && s.t0 <= now + eps).length;
    if (r.finish > now + eps) continue;
    out.finished += 1;
    out.failed += r.well ? 0 : 1;
    latest = Math.max(latest, r.finish);
    if (r.tpot < Infinity) out.tpot.push(r.tpot);
  }
  if (out.finished && out.finished === out.requests) {
    now = Math.min(now, latest);
    out.makespan = now;
  }
  const n = firstAbove(panel.end, now + eps);
  out.until = now;
  let ran = 0;
  for (const name of ["prefill", "decode", "recompute", "padding"]) ran += out.seconds[name] = panel.sums[name][n];
  out.seconds.idle = Math.max(0, out.until - ran);
  out.padding = ran ? out.seconds.padding / ran : 0;
  out.tokens = panel.sums.sampled[n];
  out.throughput = out.until ? out.tokens / out.until : 0;
  for (const name of SLOTS) {
    out.slots[name] = n ? panel.columns[name][n - 1] ?? 0 : name === "free" ? panel.slots : 0;
    out.mean[name] = n ? panel.held[name][n - 1] + out.slots[name] * (Math.max(now, panel.end[n - 1]) - panel.end[n - 1]) : 0;
  }
  const spent = SLOTS.reduce((sum, name) => sum + out.mean[name], 0) || 1; // slots times seconds: the pool may have been smaller for a while
  for (const name of SLOTS) out.mean[name] /= spent;
  out.waiting = n ? panel.columns.waiting[n - 1] : 0;
  out.running = n ? panel.columns.running[n - 1] : 0;
  return out;
}

/** The ordinals of the rows between two moments, in order; `expected` of them are there from the beginning. */
export function rowsBetween(book, begin, end, whole) {
  const found = new Set();
  if (whole) for (let i = 0; i < book.head.expected; i++) found.add(i);
  for (const panel of book.panels) {
    for (const r of panel.requests.values()) {
      if (whole) found.add(r.ordinal);
      else if (r.arrival <= end && Math.max(r.finish, r.segments.length ? endOf(panel, r.segments[r.segments.length - 1]) : 0) >= begin) found.add(r.ordinal);
    }
  }
  return [...found].sort((a, b) => a - b);
}
