// Elements over a canvas: buttons, zones that take the keyboard, the words for a screen reader, the table.

const CIRCLE = '<svg viewBox="0 0 34 34" aria-hidden="true"><circle cx="17" cy="17" r="16"/><path d="';
const ICON = { play: `${CIRCLE}M12.5 9 25 17 12.5 25Z"/></svg>`, pause: `${CIRCLE}M11.5 10h4v14h-4zM18.5 10h4v14h-4z"/></svg>` };

export function element(parent, tag, className, attributes = {}) {
  const node = document.createElement(tag);
  node.className = className;
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  parent.appendChild(node);
  return node;
}

export const button = (root, name, label, title, text = "") => {
  const node = element(root, "button", `lab-button lab-${name}`, { type: "button", "aria-label": label, title });
  node.textContent = text;
  return node;
};

/** A part of the canvas that takes the keyboard. */
export const zone = (root, name, role, label, attributes = {}) => element(root, "div", `lab-zone lab-${name}`, { tabindex: "0", role, "aria-label": label, ...attributes });

/** Puts a node at pixels of its view; a width and a height of 0 leave its own. */
export const placeAt = (node, left, top, width, height) => Object.assign(node.style, { left: `${left}px`, top: `${top}px`, ...(width ? { width: `${width}px`, height: `${height}px` } : {}) });

/** What every view has: the canvas below everything, and after `rest()` the table toggle, the spoken words and the table. */
export function makeFrame(root) {
  const canvas = element(root, "canvas", "lab-canvas", { role: "img" });
  const rest = () => {
    const table = button(root, "table-toggle", "Show as a table", "the same numbers as text", "table");
    const words = element(root, "div", "lab-words", { "aria-live": "polite", "aria-atomic": "true" });
    const sheet = element(root, "div", "lab-sheet");
    sheet.hidden = true;
    table.setAttribute("aria-expanded", "false");
    return { table, words, sheet };
  };
  return { canvas, rest };
}

/** Opens and closes the table; `html` makes its content. */
export function toggleTable(ui, html) {
  ui.sheet.hidden = !ui.sheet.hidden;
  ui.table.setAttribute("aria-expanded", String(!ui.sheet.hidden));
  ui.sheet.innerHTML = ui.sheet.hidden ? "" : html();
}

/** The play button, the speed and the way back to live, for `mode` (live, paused or playing) of a run that is `status`. */
export function showPlayback(root, ui, { mode, speed, status }, ahead) {
  if (ui.play.dataset.state !== mode) {
    ui.play.dataset.state = mode;
    ui.play.innerHTML = ICON[mode === "paused" ? "play" : "pause"];
    ui.play.setAttribute("aria-label", mode === "paused" ? "Play" : "Pause");
  }
  ui.speed.textContent = `speed ${speed}×`;
  ui.speed.setAttribute("aria-label", `Speed ${speed} times`);
  const run = status === "live" || status === "empty";
  ui.live.disabled = !run || mode === "live";
  ui.live.textContent = run ? (mode === "live" ? "following live" : `⇥ follow live (${ahead})`) : { lost: "connection lost", ended: "the run has ended: all of it stays here" }[status] ?? "end of the run at the right";
  Object.assign(ui.live.dataset, { status });
  Object.assign(root.dataset, { status, mode });
}

/** Gives the page's colours to the elements. */
export function paintElements(root, palette) {
  for (const name of ["paper", "panel", "line", "edge", "ink", "ink2", "muted", "good", "alert", "font"]) root.style.setProperty(`--lab-${name}`, palette[name]);
}
