// The pure parts of the map, without a browser.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import { emptyPool, fold } from "../../labkit/views/canvas/frame.js";
import { blockAt, cellAt, gridFor, makeLayout, stripSlots } from "../../labkit/views/canvas/layout.js";
import { decode } from "../../labkit/views/canvas/packet.js";
import { blockRuns } from "../../labkit/views/canvas/table.js";
import { letterOf, thousands } from "../../labkit/views/canvas/text.js";
import { luminance, makePalette } from "../../labkit/views/canvas/theme.js";

const frames = process.env.LABKIT_FRAMES ? JSON.parse(readFileSync(process.env.LABKIT_FRAMES, "utf8")) : [];

test("frames fold to what the pool holds", () => {
  assert.ok(frames.length > 10);
  const pool = emptyPool();
  for (const { frame, state, owner, table, used } of frames) {
    const bytes = Buffer.from(frame, "base64");
    assert.ok(fold(pool, decode(new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength))));
    assert.deepEqual([...pool.state], state);
    assert.deepEqual([...pool.owner], owner);
    assert.deepEqual([...pool.table], table);
    assert.deepEqual(pool.inuse, used);
  }
});

test("blocks that the pool has grown by are born, and only they", () => {
  const pool = emptyPool(), grown = [];
  for (const { frame, state } of frames) {
    const bytes = Buffer.from(frame, "base64"), before = pool.state?.length;
    const change = fold(pool, decode(new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)));
    if (before && state.length > before) grown.push([before, change.born]);
  }
  assert.ok(grown.length >= 1);
  for (const [before, born] of grown) assert.deepEqual(born, Array.from({ length: 45 - before }, (_, i) => before + i));
});

test("a missed frame is noticed", () => {
  const pool = emptyPool();
  const at = (i) => decode(new DataView(Uint8Array.from(Buffer.from(frames[i].frame, "base64")).buffer));
  assert.ok(fold(pool, at(0)));
  assert.equal(fold(pool, at(2)), null);
});

test("every cell stands inside its grid, and a point finds its block, at every size and width", () => {
  for (const n of [1, 3, 24, 64, 192, 1000, 4096, 65536]) {
    for (const width of [320, 500, 700, 820, 950, 1100, 1600]) {
      const layout = makeLayout(width, n, 16, { rule: 46, legend: 1, footer: 1 });
      const { grid } = layout;
      assert.ok(grid.x + grid.width <= width, `${n} blocks at ${width}`);
      for (const id of [0, Math.floor(n / 2), n - 1]) {
        const [x, y] = cellAt(grid, id);
        assert.equal(blockAt(grid, n, x + grid.size / 2, y + grid.size / 2), id);
      }
      assert.equal(blockAt(grid, n, grid.x - 2, grid.y), -1);
      const order = [layout.legend.y, grid.y, layout.strip.y, layout.caption.y, layout.ledger.y, layout.track.y, layout.foot.y, layout.height];
      assert.deepEqual(order, [...order].sort((a, b) => a - b));
      if (layout.two) assert.ok(grid.x + grid.width < layout.requests.x);
      assert.ok(layout.card.x + layout.card.width <= width && layout.card.y + layout.card.height < layout.ledger.y);
    }
  }
  assert.ok(gridFor(192, 644).size === 23 && gridFor(65536, 644).size < 7);
});

test("the strip shows all blocks that fit, else both ends and the focus, in order and without overlap", () => {
  assert.equal(stripSlots(11, 650).length, 11);
  for (const count of [12, 40, 500]) {
    for (const focus of [-1, 0, 6, count - 1]) {
      const slots = stripSlots(count, 650, focus), shown = slots.filter((s) => s.gap === undefined);
      assert.ok(slots.at(-1).x + 49 <= 650);
      assert.equal(shown.length + slots.reduce((sum, s) => sum + (s.gap ?? 0), 0), count);
      if (focus >= 0) assert.ok(shown.some((s) => s.logical === focus));
      assert.ok(slots.every((s, i) => !i || s.x > slots[i - 1].x));
    }
  }
});

test("letters, numbers and runs of blocks", () => {
  assert.deepEqual([0, 25, 26, 51, 52, 701, 702].map(letterOf), ["A", "Z", "AA", "AZ", "BA", "ZZ", "AAA"]);
  assert.equal(thousands(1234567), "1\u202f234\u202f567");
  const pool = { state: [5, 2, 2, 0, 0], owner: [0xffffffff, 0, 0, 0xffffffff, 0xffffffff], slot: [255, 0, 0, 255, 255], filled: [0, 16, 16, 0, 0], shared: new Map() };
  assert.deepEqual(blockRuns(pool, ["free", "cached", "used", "tail", "shared", "null"]).map((r) => [r.from, r.to, r.state, r.owner]), [[0, 0, "null", ""], [1, 2, "used", "A"], [3, 4, "free", ""]]);
});

test("texts keep a contrast of 4.5 and marks of 3 in both themes", () => {
  const style = JSON.parse(readFileSync(new URL("../../labkit/views/style.json", import.meta.url), "utf8"));
  const contrast = (a, b) => {
    const [p, q] = [luminance(a), luminance(b)].sort((x, y) => y - x);
    return (p + 0.05) / (q + 0.05);
  };
  for (const [dark, paper, ink] of [[false, "", ""], [true, "", ""], [false, "white", "rgba(0, 0, 0, 0.87)"], [false, "#fff", "rgba(0, 0, 0, .87)"], [true, "#111111", "rgba(255, 255, 255, 1)"]]) {
    const palette = makePalette(style, dark, paper, ink);
    for (const name of ["ink", "ink2", "muted", "alert", "good"]) assert.ok(contrast(palette[name], palette.paper) >= 4.5, `${name} on ${palette.paper}`);
    for (const name of ["ink", "ink2", "muted"]) assert.ok(contrast(palette[name], palette.panel) >= 4.5, `${name} on panel`);
    for (const owner of palette.owners) {
      assert.ok(contrast(owner.edge, palette.paper) >= 3, owner.edge);
      assert.ok(contrast(owner.on, owner.fill) >= 4.5, owner.fill);
      assert.ok(contrast(palette.ink, owner.soft) >= 4.5, owner.soft);
    }
    assert.ok(contrast(palette.edge, palette.paper) >= 3);
    for (const mark of ["prefillEdge", "decode", "bar"]) assert.ok(contrast(palette[mark], palette.paper) >= 3, `${mark} on ${palette.paper}`);
    assert.ok(contrast(palette.again, palette.prefill) >= 3 && contrast(palette.onDecode, palette.decode) >= 4.5 && contrast("#10151A", palette.prefill) >= 4.5);
  }
});
