// The pure parts of the boards, without a browser.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import { decode } from "../../labkit/views/canvas/packet.js";
import { cellAt, drawSketch, flowPanels, GAP, rampOf } from "../../labkit/views/canvas/sketch.js";
import { makePalette } from "../../labkit/views/canvas/theme.js";

const told = process.env.LABKIT_FRAMES ? JSON.parse(readFileSync(process.env.LABKIT_FRAMES, "utf8")) : { frames: [], flows: [], ramps: [] };
const style = JSON.parse(readFileSync(new URL("../../labkit/views/style.json", import.meta.url), "utf8"));
const unpack = (text) => {
  const bytes = Buffer.from(text, "base64");
  return decode(new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength));
};

/** A context that notes what was drawn; whatever is not known to it is an error. */
function notebook() {
  const calls = [], known = new Set(["beginPath", "moveTo", "lineTo", "closePath", "rect", "roundRect", "arc", "fill", "stroke", "fillText", "setLineDash", "drawImage", "save", "restore"]);
  const state = {};
  return new Proxy({ calls }, {
    get(target, name) {
      if (name === "calls") return calls;
      if (name === "measureText") return (s) => ({ width: 6 * s.length });
      return known.has(name) ? (...how) => calls.push([name, how, state.fillStyle]) : state[name];
    },
    set: (target, name, value) => ((state[name] = value), true),
  });
}

test("panels stand where the still figure has them", () => {
  assert.ok(told.flows.length > 3);
  for (const { sizes, room, places, height } of told.flows) {
    const found = flowPanels(sizes.map(([width, h]) => ({ width, height: h })), room);
    assert.deepEqual(found.places.map(({ x, y }) => [x, y]), places);
    assert.equal(found.height, height);
  }
});

test("a panel that is wider than the room is drawn smaller", () => {
  const { places, height } = flowPanels([{ width: 600, height: 300 }, { width: 100, height: 50 }], 300);
  assert.equal(places[0].scale, 0.5);
  assert.deepEqual([places[1].x, places[1].y, height], [0, 150 + GAP, 200 + GAP]);
});

test("both painters have the same colours", () => {
  for (const { theme, name, colours } of told.ramps) assert.deepEqual(rampOf(makePalette(style, theme === "dark"), name), colours);
});

test("a point finds its cell, and nothing outside", () => {
  const panels = [{ targets: [] }, { targets: [{ name: "map", x: 10, y: 20, w: 200, h: 90, rows: 9, columns: 20 }] }];
  const places = [{ x: 0, y: 0, scale: 1 }, { x: 50, y: 0, scale: 0.5 }];
  assert.deepEqual(cellAt(panels, places, 24, 60, 24 + 50 + 5, 60 + 10), { panel: 1, target: "map", row: 0, column: 0 });
  assert.deepEqual(cellAt(panels, places, 24, 60, 24 + 50 + 104.9, 60 + 54.9), { panel: 1, target: "map", row: 8, column: 19 });
  assert.equal(cellAt(panels, places, 24, 60, 24 + 50 + 105.1, 60 + 30), null);
});

test("every panel of every view can be drawn, in colours that the palette has", () => {
  assert.equal(told.frames.length, 4);
  globalThis.ImageData = class { constructor(w, h) { this.data = new Uint8ClampedArray(4 * w * h); } };
  globalThis.document = { createElement: () => ({ getContext: () => ({ putImageData() {} }) }) };
  for (const text of told.frames) {
    const frame = unpack(text);
    for (const dark of [false, true]) {
      const palette = makePalette(style, dark);
      frame.head.panels.forEach((panel, n) => {
        const ctx = notebook();
        drawSketch(ctx, palette, frame, n);
        const words = panel.ops.flatMap((op) => (op.op === "text" ? [op.text] : op.op === "runs" ? op.runs.map(([s]) => s) : [])).filter((s) => s.trim());
        const put = ctx.calls.filter(([name]) => name === "fillText").map(([, how]) => how[0]).join("");
        for (const word of words) assert.ok(put.includes(word), word);
        for (const op of panel.ops) for (const key of ["fill", "edge", "colour"]) if (op[key]) assert.match(palette[op[key]], /^#[0-9A-Fa-f]{6}$/, `${op[key]} of ${op.op}`);
        panel.images.forEach(([rows, columns], k) => assert.equal(frame[`${n}.${k}`].length, rows * columns));
      });
    }
  }
});
