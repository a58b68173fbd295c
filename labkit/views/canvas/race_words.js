// The batch timeline in words: counters, one sentence a panel, tables.
import { spoken } from "./clock.js";
import { firstAbove, measureAt, median } from "./lanes.js";
import { sheet } from "./tables.js";
import { percent, plural, thousands } from "./text.js";

const MOST = 400; // rows that a table lists

const orNone = (seconds) => (seconds === null || seconds === Infinity ? "–" : spoken(seconds));

/** [number, words] after the title. A race says what it is, a single run how it stands at `t`. */
export function aboutRuns(book, t) {
  if (book.words.about) return [["", book.words.about]];
  const m = measureAt(book.panels[0], t);
  return [[thousands(m.requests), " requests"], [thousands(m.running), " running"], [thousands(m.waiting), " waiting"], [thousands(m.finished), " finished"], [thousands(m.preemptions), " preemptions so far"]];
}

function said(panel, m) {
  if (!m.requests) return `${panel.name}: nothing yet.`;
  const ttft = median(m.ttft), tpot = median(m.tpot), parts = [`${m.finished} of ${m.requests} finished`];
  if (ttft !== null) parts.push(`median TTFT ${spoken(ttft)}`);
  if (tpot !== null) parts.push(`median TPOT ${spoken(tpot)}`);
  parts.push(`${thousands(m.throughput)} tokens/s`, `${percent(m.padding)} padding`);
  if (m.preemptions) parts.push(plural(m.preemptions, "preemption"));
  parts.push(panel.over && m.makespan !== null ? `all done at ${spoken(m.makespan)}` : `at ${spoken(m.until)}`);
  return `${panel.name}: ${parts.join(", ")}.`;
}

/** The picture at `t` in a few sentences. */
export function raceSaid(book, t) {
  const measures = book.panels.map((panel) => measureAt(panel, t)), [kind, what] = book.words.badge, [first] = measures;
  const lead = book.words.about || `${plural(first.requests, "request")}, ${first.running} running, ${first.waiting} waiting`;
  return `${book.words.title}, ${kind}, ${what}: ${lead}. ${book.panels.map((panel, i) => said(panel, measures[i])).join(" ")}`;
}

function requestRows(panel, t) {
  const sorted = [...panel.requests.values()].filter((r) => r.arrival <= t).sort((a, b) => a.ordinal - b.ordinal).slice(-MOST);
  return sorted.map((r) => [r.letter, spoken(r.arrival), r.first <= t ? orNone(r.ttft) : "–", r.finish <= t ? orNone(r.tpot) : "–", thousands(r.prompt), r.finish <= t ? thousands(r.outputs) : "", r.preempted || "", r.finish <= t ? `${spoken(r.finish)}, ${r.reason}` : "alive"]);
}

function stepRows(panel, t) {
  const c = panel.columns, n = firstAbove(panel.end, t + 1e-5), out = [];
  for (let i = n - 1; i >= 0 && out.length < 50; i--) out.push([c.step[i], spoken(panel.end[i] - panel.start[i]), c.prefill[i], c.recompute[i], c.decode[i], c.padded[i] + c.held[i], c.running[i], c.waiting[i]]);
  return out;
}

export function raceTable(book, t) {
  const heads = ["", ...book.panels.map((panel) => panel.name)], m = book.panels.map((panel) => measureAt(panel, t));
  const line = (name, value) => [name, ...m.map(value)];
  const parts = [sheet(`Read-outs at ${spoken(t)}`, heads, [
    line("requests", (x) => x.requests), line("finished", (x) => x.finished), line("median TTFT", (x) => orNone(median(x.ttft))), line("median TPOT", (x) => orNone(median(x.tpot))),
    line("throughput, tokens/s", (x) => thousands(x.throughput)), line("padding, of step time", (x) => percent(x.padding)), line("preemptions", (x) => x.preemptions), line("failed", (x) => x.failed),
    line("all done", (x) => orNone(x.makespan))])];
  for (const panel of book.panels) {
    parts.push(sheet(`${panel.name}: requests`, ["request", "arrival", "TTFT", "TPOT", "prompt", "output", "preempted", "end"], requestRows(panel, t)));
    parts.push(sheet(`${panel.name}: the last steps`, ["step", "took", "prefill", "again", "decode", "padding", "running", "waiting"], stepRows(panel, t)));
  }
  return parts.join("");
}
