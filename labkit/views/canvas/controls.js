// The elements over the map.
import { button, makeFrame, paintElements, placeAt, showPlayback, zone } from "./elements.js";
import { ROW } from "./layout.js";

/** Builds everything once. Returns the elements and `place(layout)`, `show(pool, focus)`. */
export function makeControls(root) {
  const { canvas, rest } = makeFrame(root);
  const grid = zone(root, "grid", "application", "Blocks: arrow keys move, Enter selects the owner");
  const requests = zone(root, "requests", "listbox", "Requests: arrow keys choose, a letter picks");
  const play = button(root, "play", "Play", "space key");
  const speed = button(root, "speed", "Speed", "keys + and −");
  const previous = button(root, "previous", "Previous event", "key [", "‹ event");
  const next = button(root, "next", "Next event", "key ]", "event ›");
  const slider = zone(root, "slider", "slider", "Step", { "aria-orientation": "horizontal" });
  const live = button(root, "live", "Follow live", "End key on the slider");
  const ui = { canvas, grid, requests, play, speed, previous, next, slider, live, ...rest() };

  function place(layout, legendEnd) {
    const { grid: g, requests: r, track, foot } = layout;
    placeAt(grid, g.x - 4, g.y - 4, g.width + 8, g.height + 8);
    placeAt(requests, r.x - 8, r.y + 18, r.width + 10, r.rows * ROW + 2);
    placeAt(slider, track.x - 8, track.y - 18, track.width + 16, track.height + 46);
    placeAt(play, 24, track.y + 5, 34, 34);
    placeAt(speed, 62, track.y + 21);
    const row = track.y - (layout.narrow ? 64 : 39), left = layout.narrow ? 20 : legendEnd;
    placeAt(previous, left, row);
    placeAt(next, left + previous.offsetWidth + 4, row);
    Object.assign(live.style, { right: "20px", top: `${row}px` });
    Object.assign(ui.table.style, { right: "20px", top: `${foot.y - 17}px` });
  }

  function show(pool, position) {
    const { head, scene } = pool, ahead = head.last - position, step = pool.steps[position - pool.first] ?? 0;
    canvas.setAttribute("aria-label", scene.alt);
    showPlayback(root, ui, head, `${ahead} step${ahead === 1 ? "" : "s"} ahead`);
    for (const [name, value] of Object.entries({ valuemin: pool.steps[0] ?? 0, valuemax: pool.steps.at(-1) ?? 0, valuenow: step, valuetext: `step ${step}` })) slider.setAttribute(`aria-${name}`, value);
    root.dataset.step = step;
  }

  return { ...ui, place, show, paint: (palette) => paintElements(root, palette) };
}
