// The pure parts of the batch timeline, the race and the waste ledger, without a browser.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import { compact, stretches } from "../../labkit/views/canvas/areas.js";
import { barsBetween, stripScale } from "../../labkit/views/canvas/bars.js";
import { duration, makeScale, niceEnd, ticks } from "../../labkit/views/canvas/clock.js";
import { emptyBook, firstAbove, foldLanes, measureAt, median, rowsBetween } from "../../labkit/views/canvas/lanes.js";
import { decode } from "../../labkit/views/canvas/packet.js";
import { makePlayer } from "../../labkit/views/canvas/player.js";
import { panelAt, pitchOf, raceLayout, rowAt } from "../../labkit/views/canvas/race_layout.js";
import { raceSaid, raceTable } from "../../labkit/views/canvas/race_words.js";
import { cardLines } from "../../labkit/views/canvas/segment_card.js";

const told = process.env.LABKIT_FRAMES ? JSON.parse(readFileSync(process.env.LABKIT_FRAMES, "utf8")) : { frames: [] };
const unpack = (text) => {
  const bytes = Buffer.from(text, "base64");
  return decode(new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength));
};
const near = (a, b, slack = 5e-5) => assert.ok(Math.abs(a - b) <= slack * Math.max(1, Math.abs(b)), `${a} is not ${b}`);

function book(n = told.frames.length) {
  const out = emptyBook();
  for (const { frame } of told.frames.slice(0, n)) assert.ok(foldLanes(out, unpack(frame)));
  return out;
}

test("frames fold to the measures that Python has, at the end and at any moment", () => {
  assert.ok(told.frames.length > 20);
  const out = emptyBook();
  for (const { frame, measures } of told.frames) {
    assert.ok(foldLanes(out, unpack(frame)));
    for (const [t, expected] of measures) {
      expected.forEach((right, i) => {
        const m = measureAt(out.panels[i], t);
        for (const name of ["requests", "finished", "failed", "preemptions", "tokens"]) assert.equal(m[name], right[name], `${name} at ${t}`);
        for (const name of ["throughput", "padding", "until"]) near(m[name], right[name], 2e-3);
        for (const name of ["ttft", "tpot"]) {
          assert.equal(m[name].length, right[name].length);
          [...m[name]].sort((a, b) => a - b).forEach((v, k) => near(v, [...right[name]].sort((a, b) => a - b)[k]));
        }
        for (const [name, seconds] of Object.entries(right.seconds)) if (right.requests) near(m.seconds[name], seconds, 2e-4);
        for (const [name, slots] of Object.entries(right.slots)) if (right.requests && m.slots[name]) assert.equal(m.slots[name], slots);
        for (const [name, share] of Object.entries(right.mean)) if (m.mean[name]) near(m.mean[name], share, 1e-3);
      });
    }
  }
});

test("a missed frame is noticed, and a complete one starts anew", () => {
  const out = emptyBook();
  assert.ok(foldLanes(out, unpack(told.frames[0].frame)));
  assert.equal(foldLanes(out, unpack(told.frames[2].frame)), false);
  const whole = emptyBook();
  assert.ok(foldLanes(whole, unpack(told.whole)));
  assert.deepEqual(whole.panels.map((p) => p.segments.length), book().panels.map((p) => p.segments.length));
});

test("the words say what the numbers are", () => {
  const said = raceSaid(book(), Infinity);
  assert.equal(said, told.alt);
  assert.ok(raceTable(book(), 0.4).includes("Read-outs at 400 ms"));
});

test("panels do not overlap, rows fit into them, and a point finds its row", () => {
  for (const width of [320, 500, 700, 800, 1100, 1600]) {
    for (const [panels, rows] of [[1, 1], [1, 24], [1, 500], [3, 10], [6, 24], [6, 60]]) {
      for (const open of [false, panels === 1]) {
        const layout = raceLayout(width, panels, rows, open, { rule: 46, legend: 2, footer: 3 }), pitch = pitchOf(layout, rows);
        assert.ok(layout.x1 <= width - 24 && layout.readouts.x + layout.readouts.width <= width - 23);
        assert.ok(rows * pitch <= layout.high + 1e-9 && layout.high * panels <= 1101);
        for (let i = 0; i < panels; i++) {
          const at = panelAt(layout, i);
          assert.ok(at.rows + layout.high <= at.line - 24 && at.bottom + layout.below <= layout.top + (i + 1) * layout.panel + 1e-9);
          for (const row of [0, rows >> 1, rows - 1]) assert.deepEqual(rowAt(layout, rows, layout.x0 + 5, at.rows + (row + 0.5) * pitch), { panel: i, row });
        }
        assert.ok(layout.top + panels * layout.panel < layout.axis && layout.axis < layout.foot.y && layout.foot.y < layout.height);
        assert.equal(rowAt(layout, rows, layout.x0 + 5, layout.axis), null);
      }
    }
  }
});

test("an axis has few ticks of round numbers, and ends close behind what it shows", () => {
  for (const [begin, end] of [[0, 0.0123], [0, 1.7], [0.61, 0.78], [0, 47], [100, 163], [0, 86400]]) {
    const scale = makeScale(62, 862, begin, end), { step, marks } = ticks(scale);
    assert.ok(marks.length >= 3 && marks.length <= 11, `${marks.length} ticks from ${begin} to ${end}`);
    assert.ok(marks.every((t) => t >= begin - 1e-9 && t <= end * (1 + 1e-9)));
    assert.ok([1, 2, 5].includes(Math.round(step / 10 ** Math.floor(Math.log10(step * 1.0001)))));
    near(scale.time(scale.at(begin + (end - begin) / 3)), begin + (end - begin) / 3);
  }
  for (const t of [1e-3, 0.5, 1.669, 12.34, 99, 226.2]) {
    assert.ok(niceEnd(t, false) >= t && niceEnd(t, false) <= 1.11 * t);
    assert.ok(niceEnd(t, true) >= t && niceEnd(t, true) <= 2 * t);
  }
  assert.equal(niceEnd(0, true), 1);
  assert.deepEqual([0, 0.0081, 1.62, 12.41, 3600].map((t) => duration(t).join(" ")), ["0 ms", "8.1 ms", "1\u202f620 ms", "12.4 s", "60.0 min"]);
});

test("bars are one a step, or their means where there are more steps than pixels", () => {
  const { panels } = book(), panel = panels[2], all = barsBetween(panel, makeScale(62, 862, 0, 1.7));
  assert.equal(all.length, panel.start.filter((_, i) => panel.columns.prefill[i] + panel.columns.recompute[i] + panel.columns.decode[i]).length);
  const few = barsBetween(panel, makeScale(0, 20, 0, 1.7));
  assert.ok(few.length <= 21 && few.every((bar, i) => !i || bar[0] > few[i - 1][0]));
  const decoded = panel.columns.decode.reduce((a, b) => a + b, 0);
  let counted = 0;
  for (const [x, , , , , d] of few) counted += d * panel.start.filter((t, i) => Math.floor((20 * t) / 1.7) === x && panel.columns.step[i]).length;
  near(counted, decoded, 1e-6);
  const { most, slots } = stripScale(book());
  assert.equal(most, 512);
  assert.ok(panels.every((p) => p.columns.decode.every((d, i) => d + p.columns.held[i] <= slots)));
});

test("rows are all requests, or those of the part that is shown", () => {
  const out = book();
  assert.deepEqual(rowsBetween(out, 0, Infinity, true), [...Array(10).keys()]);
  assert.deepEqual(rowsBetween(out, 1.64, 1.7, false), [7, 8, 9], "the slots that the last batch of the second run holds");
  assert.deepEqual(rowsBetween(out, 0, 0.01, false), [0]);
});

test("a card tells step, tokens, duration and blocks", () => {
  const panel = book().panels[2], request = panel.requests.get(6), kinds = request.segments.map((s) => cardLines(panel, request, s)[0]);
  assert.deepEqual([...new Set(kinds)], ["G · queued", "G · prefill", "G · decode", "G · preempted", "G · prefill again, after preemption"]);
  const prefill = cardLines(panel, request, request.segments[1]);
  assert.match(prefill[1], /^step \d+, 22\.\d ms$/);
  assert.equal(prefill[2], "252 tokens");
  assert.ok(prefill.includes("16 blocks held") && prefill.includes("prompt 520, at most 40 out") && prefill.includes("preempted once"));
});

test("memory is drawn without gaps, one stretch a half pixel at most", () => {
  const panel = book().panels[0], parts = stretches(panel, makeScale(62, 862, 0, 1.7));
  assert.ok(parts.every(([x, x1], i) => x <= x1 && (!i || Math.abs(parts[i - 1][1] - x) < 1e-9)));
  assert.ok(new Set(parts.map(([x]) => Math.floor(2 * x))).size === parts.length);
  assert.deepEqual([900, 1600, 65536, 1048576].map(compact), ["900", "1\u202f600", "65.5 k", "1.05 M"]);
});

test("searching and medians", () => {
  const sorted = [1, 3, 3, 7];
  assert.deepEqual([0, 1, 3, 6, 7, 9].map((v) => firstAbove(sorted, v)), [0, 1, 3, 3, 4, 4]);
  assert.deepEqual([[], [2], [4, 1], [9, 1, 2]].map(median), [null, 2, 2.5, 2]);
});

/** A player on elements that only remember: what a browser would click and read. */
function play(out, head = {}) {
  const node = () => ({ dataset: {}, listeners: {}, attributes: {}, addEventListener(kind, f) { this.listeners[kind] = f; }, setAttribute(name, value) { this.attributes[name] = value; } });
  const ui = Object.fromEntries(["play", "speed", "slider", "previous", "next", "closer", "wider", "whole", "live"].map((name) => [name, node()])), root = node(), sent = [];
  Object.assign(out.head, { order: 0, mode: "paused", t: 9, speed: 1, status: "replay", ...head });
  const player = makePlayer(out, ui, root, (message) => sent.push(message), () => {});
  player.adopt();
  return { player, ui, root, sent };
}

test("a player steps, jumps, seeks and tells the kernel where it stands", () => {
  const { player, ui, sent } = play(book());
  near(player.now(), 1.66912);
  assert.ok(player.atEnd() && player.part().whole);
  player.sliderKeys(false).ArrowLeft();
  assert.ok(!player.atEnd() && player.now() > 1.6);
  player.sliderKeys(false).ArrowRight();
  assert.ok(player.atEnd());
  player.sliderKeys(false).Home();
  player.keys["]"]();
  near(player.now(), 0.0169, 1e-3); // the first token of A, in the third run
  player.seek(99);
  near(player.now(), 1.66912);
  assert.deepEqual([sent.at(-1).kind, sent.at(-1).mode], ["cursor", "paused"]);
  player.shown();
  assert.equal(ui.slider.attributes["aria-valuetext"], "1\u202f669 ms");
});

test("a part of the run keeps its centre while it is zoomed, stays inside, and gives way to the whole", () => {
  const { player, root } = play(book());
  player.seek(0.6);
  player.zoom(0.5);
  let part = player.part();
  near(part.end - part.begin, 0.85);
  near((0.6 - part.begin) / (part.end - part.begin), 0.6 / 1.7);
  player.pan(5);
  part = player.part();
  near(part.end, 1.7);
  player.show(0.2, 0.4);
  player.seek(1.2);
  part = player.part();
  assert.ok(part.begin <= 1.2 && part.end >= 1.2, "it moves to where the view stands");
  player.zoom(100);
  player.shown();
  assert.ok(player.part().whole && root.dataset.zoom === "whole");
});

test("what the kernel asks for is taken over once", () => {
  const out = book(), { player } = play(out);
  Object.assign(out.head, { order: 1, mode: "paused", t: 0.64 });
  player.adopt();
  near(player.now(), 0.64);
  player.seek(0.3);
  player.adopt();
  near(player.now(), 0.3);
});

test("a long live run is shown at its end, as much as can be told apart", () => {
  const out = book(), panel = out.panels[0];
  panel.requests = new Map(Array.from({ length: 300 }, (_, i) => [i, { ordinal: i, arrival: i, first: i, finish: i + 2, segments: [{ kind: 3, t0: i, t1: i + 2 }] }]));
  out.head.now[0] = panel.now = 301;
  const { player } = play(out, { mode: "live", status: "live" }), part = player.part();
  assert.ok(!part.whole && part.end >= 301 && part.begin > 150);
  assert.ok(rowsBetween(out, part.begin, part.end, false).length <= 130);
  player.showAll();
  assert.ok(player.part().whole, "until somebody asks for all of it");
});
