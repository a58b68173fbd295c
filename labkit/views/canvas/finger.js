// The segment that is looked at: under the pointer, or picked with a click or the keyboard.
import { endOf } from "./lanes.js";
import { panelAt, pitchOf, rowAt } from "./race_layout.js";
import { cardLines, drawCard } from "./segment_card.js";

const TYPED = 700; // milliseconds within which letters are one name
const HINT = ["no segment is looked at", "point at one, click it,", "or type a request's letter"];
const REACH = 4; // pixels beside a segment that still count

export function makeFinger() {
  let pinned = null, hovered = null, keyboard = false, typed = "", typedAt = 0;
  const seen = () => hovered ?? pinned;
  const requestOf = (book, place) => book.panels[place.panel]?.requests.get(place.ordinal);

  function hit([x, y], { book, layout, scale, rows }) {
    const found = rowAt(layout, rows.length, x, y);
    if (!found) return null;
    const panel = book.panels[found.panel], ordinal = rows[found.row], request = panel.requests.get(ordinal);
    const near = (s) => Math.max(scale.at(s.t0) - x, x - scale.at(endOf(panel, s)), 0);
    let index = -1;
    request?.segments.forEach((s, i) => { if (near(s) <= (index < 0 ? REACH : near(request.segments[index]) - 1e-9)) index = i; });
    return index < 0 ? null : { panel: found.panel, ordinal, index };
  }

  function pin(place, scene, byKey = true) {
    [pinned, hovered, keyboard] = [place, null, byKey];
    const panel = place && scene.book.panels[place.panel], request = place && requestOf(scene.book, place), segment = request?.segments[place.index];
    if (segment) {
      const { begin, end, whole } = scene.part;
      if (!whole && (segment.t0 > end || endOf(panel, segment) < begin)) scene.player.show(segment.t0 - (end - begin) / 4, segment.t0 + (3 * (end - begin)) / 4);
      scene.host.say(`${scene.book.panels.length > 1 ? `${panel.name}: ` : ""}${cardLines(panel, request, segment).join(", ")}`);
    }
    scene.host.invalidate();
  }

  /** From the row that is looked at to the one `by` rows on, in the next panel where this one ends. */
  function moveRow(by, scene) {
    const { book, rows } = scene, n = rows.length, all = n * book.panels.length;
    let place = pinned ? pinned.panel * n + Math.max(0, rows.indexOf(pinned.ordinal)) + by : by > 0 ? 0 : all - 1;
    const t = pinned ? requestOf(book, pinned)?.segments[pinned.index]?.t0 ?? 0 : 0;
    for (; place >= 0 && place < all; place += Math.sign(by)) {
      const at = { panel: Math.floor(place / n), ordinal: rows[place % n] }, request = requestOf(book, at);
      if (!request?.segments.length) continue;
      const later = request.segments.findIndex((s) => endOf(book.panels[at.panel], s) > t);
      return pin({ ...at, index: later < 0 ? request.segments.length - 1 : later }, scene);
    }
  }

  function moveSegment(by, scene) {
    if (!pinned) return moveRow(1, scene);
    const n = requestOf(scene.book, pinned).segments.length;
    pin({ ...pinned, index: Math.min(Math.max(pinned.index + by, 0), n - 1) }, scene);
  }

  /** The request of this name, in the first panel that has it, where the view stands. */
  function pick(letter, scene) {
    for (const [i, panel] of scene.book.panels.entries()) {
      const request = [...panel.requests.values()].find((r) => r.letter === letter);
      if (!request) continue;
      const index = request.segments.findIndex((s) => endOf(panel, s) >= scene.t - 1e-6);
      return pin({ panel: i, ordinal: request.ordinal, index: index < 0 ? request.segments.length - 1 : index }, scene);
    }
  }

  function typeLetter(key, scene) {
    const now = performance.now();
    typed = now - typedAt < TYPED ? typed + key : key;
    typedAt = now;
    pick(typed, scene);
  }

  function keys(zone, { key }, scene) {
    const moves = {
      ArrowLeft: () => moveSegment(-1, scene), ArrowRight: () => moveSegment(1, scene), ArrowUp: () => moveRow(-1, scene), ArrowDown: () => moveRow(1, scene),
      Home: () => moveSegment(-Infinity, scene), End: () => moveSegment(Infinity, scene),
      Enter: () => pinned && scene.player.seek(endOf(scene.book.panels[pinned.panel], requestOf(scene.book, pinned).segments[pinned.index])),
    };
    if (key === "Escape") return () => pin(null, scene);
    return (zone === "plot" && moves[key]) || (/^[a-z]$/i.test(key) && (() => typeLetter(key.toUpperCase(), scene)));
  }

  function draw(ctx, palette, { book, layout, scale, rows, pointer }) {
    const place = seen(), panel = place && book.panels[place.panel], request = place && requestOf(book, place), segment = request?.segments[place.index];
    const row = place ? rows.indexOf(place.ordinal) : -1;
    if (!segment || row < 0) return layout.card && drawCard(ctx, palette, HINT, layout);
    const pitch = pitchOf(layout, rows.length), top = panelAt(layout, place.panel).rows + row * pitch, inside = (t) => Math.min(Math.max(scale.at(t), scale.x0), scale.x1);
    const x = inside(segment.t0), x1 = inside(endOf(panel, segment)), gap = keyboard && !hovered ? 2 : 0;
    ctx.strokeStyle = palette.ink;
    ctx.lineWidth = 2;
    ctx.strokeRect(x - gap, top - gap, Math.max(3, x1 - x) + 2 * gap, pitch + 2 * gap);
    drawCard(ctx, palette, cardLines(panel, request, segment), layout, hovered && pointer ? { x: pointer[0], y: pointer[1] } : { x: x1, y: top + pitch });
  }

  return {
    ordinal: () => seen()?.ordinal ?? -1,
    hover(point, scene) {
      hovered = point && hit(point, scene);
      return hovered !== null;
    },
    click: (point, scene) => pin(hit(point, scene), scene, false),
    keys, draw,
  };
}
