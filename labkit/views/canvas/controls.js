// The elements over the canvas: buttons, the zones that take the keyboard, the words for a screen reader.
import { ROW } from "./layout.js";

const ICON = {
  play: '<svg viewBox="0 0 34 34" aria-hidden="true"><circle cx="17" cy="17" r="16"/><path d="M12.5 9 25 17 12.5 25Z"/></svg>',
  pause: '<svg viewBox="0 0 34 34" aria-hidden="true"><circle cx="17" cy="17" r="16"/><path d="M11.5 10h4v14h-4zM18.5 10h4v14h-4z"/></svg>',
};

function element(parent, tag, className, attributes = {}) {
  const node = document.createElement(tag);
  node.className = className;
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  parent.appendChild(node);
  return node;
}

/** Builds everything once. Returns the elements and `place(layout)`, `show(pool, focus)`. */
export function makeControls(root) {
  const canvas = element(root, "canvas", "kv-canvas", { role: "img" });
  const button = (className, label, title) => element(root, "button", `kv-button ${className}`, { type: "button", "aria-label": label, title });
  const grid = element(root, "div", "kv-zone kv-grid", { tabindex: "0", role: "application", "aria-label": "Blocks: arrow keys move, Enter selects the owner" });
  const requests = element(root, "div", "kv-zone kv-requests", { tabindex: "0", role: "listbox", "aria-label": "Requests: arrow keys choose, a letter picks" });
  const play = button("kv-play", "Play", "space key");
  const speed = button("kv-speed", "Speed", "keys + and −");
  const previous = button("kv-previous", "Previous event", "key [");
  const next = button("kv-next", "Next event", "key ]");
  const slider = element(root, "div", "kv-zone kv-slider", { tabindex: "0", role: "slider", "aria-label": "Step", "aria-orientation": "horizontal" });
  const live = button("kv-live", "Follow live", "End key on the slider");
  const table = button("kv-table-toggle", "Show as a table", "the same numbers as text");
  const words = element(root, "div", "kv-words", { "aria-live": "polite", "aria-atomic": "true" });
  const sheet = element(root, "div", "kv-sheet");
  sheet.hidden = true;
  previous.textContent = "‹ event";
  next.textContent = "event ›";
  table.textContent = "table";
  table.setAttribute("aria-expanded", "false");

  const at = (node, left, top, width, height) => Object.assign(node.style, { left: `${left}px`, top: `${top}px`, ...(width ? { width: `${width}px`, height: `${height}px` } : {}) });

  function place(layout, legendEnd) {
    const { grid: g, requests: r, track, foot } = layout;
    at(grid, g.x - 4, g.y - 4, g.width + 8, g.height + 8);
    at(requests, r.x - 8, r.y + 18, r.width + 10, r.rows * ROW + 2);
    at(slider, track.x - 8, track.y - 18, track.width + 16, track.height + 46);
    at(play, 24, track.y + 5, 34, 34);
    at(speed, 62, track.y + 21);
    const row = track.y - (layout.narrow ? 64 : 39), left = layout.narrow ? 20 : legendEnd;
    at(previous, left, row);
    at(next, left + previous.offsetWidth + 4, row);
    Object.assign(live.style, { right: "20px", top: `${row}px` });
    Object.assign(table.style, { right: "20px", top: `${foot.y - 17}px` });
  }

  function show(pool, position) {
    const { head, scene } = pool, playing = head.mode === "playing", ahead = head.last - position;
    canvas.setAttribute("aria-label", scene.alt);
    if (play.dataset.state !== head.mode) {
      play.dataset.state = head.mode;
      play.innerHTML = ICON[head.mode === "paused" ? "play" : "pause"];
      play.setAttribute("aria-label", head.mode === "paused" ? "Play" : "Pause");
    }
    speed.textContent = `speed ${head.speed}×`;
    speed.setAttribute("aria-label", `Speed ${head.speed} times`);
    const run = head.status === "live" || head.status === "empty";
    live.disabled = !run || head.mode === "live";
    const steps = `${ahead} step${ahead === 1 ? "" : "s"} ahead`;
    live.textContent = run ? (head.mode === "live" ? "following live" : `⇥ follow live (${steps})`) : head.status === "lost" ? "connection lost" : head.status === "ended" ? "the server has stopped: all steps stay here" : "end of the run at the right";
    live.dataset.status = head.status;
    const step = pool.steps[position - pool.first] ?? 0;
    for (const [name, value] of Object.entries({ valuemin: pool.steps[0] ?? 0, valuemax: pool.steps.at(-1) ?? 0, valuenow: step, valuetext: `step ${step}` })) slider.setAttribute(`aria-${name}`, value);
    root.dataset.status = head.status;
    root.dataset.mode = head.mode;
    root.dataset.step = step;
    if (playing) root.dataset.playing = "";
    else delete root.dataset.playing;
  }

  function paint(palette) {
    for (const name of ["paper", "panel", "line", "edge", "ink", "ink2", "muted", "good", "alert", "font"]) root.style.setProperty(`--kv-${name}`, palette[name]);
  }

  return { canvas, grid, requests, play, speed, previous, next, slider, live, table, words, sheet, place, show, paint };
}
