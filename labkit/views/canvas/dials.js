// Dials over a board: lists and sliders, the browser's own, so that keyboard and screen reader know them.
import { element } from "./elements.js";

/** A row of dials. `turned(name, value, dragging)` is called when one moves. */
export function makeDials(root, turned) {
  const row = element(root, "div", "lab-dials"), made = new Map();

  function make(dial) {
    const label = element(row, "label", "lab-dial"), name = element(label, "span", "lab-dial-name");
    name.textContent = dial.label;
    const slider = dial.kind === "slider";
    const input = slider ? element(label, "input", "lab-dial-slider", { type: "range", min: "0", step: "1" }) : element(label, "select", "lab-dial-list");
    const said = slider ? element(label, "output", "lab-dial-value") : null;
    const knob = { input, said, options: "" };
    const at = () => dialOptions(knob)[Number(input.value)];
    const move = (dragging) => {
      const [value, words] = at();
      if (said) said.textContent = words;
      input.setAttribute("aria-valuetext", words);
      turned(dial.name, value, dragging);
    };
    if (slider) {
      input.addEventListener("input", () => move(true));
      input.addEventListener("keydown", (event) => { // the notebook around us would take these keys
        const now = Number(input.value), last = Number(input.max);
        const to = { ArrowLeft: now - 1, ArrowDown: now - 1, ArrowRight: now + 1, ArrowUp: now + 1, Home: 0, End: last }[event.key];
        if (to === undefined) return;
        event.preventDefault();
        event.stopPropagation();
        input.value = String(to);
        move(true);
      });
    } else input.addEventListener("change", () => move(false));
    made.set(dial.name, knob);
    return knob;
  }

  const dialOptions = (knob) => JSON.parse(knob.options);

  /** Brings the row up to what the kernel says; a dial that is being moved is left where the hand is. */
  function show(dials) {
    for (const [name, knob] of made) {
      if (dials.some((dial) => dial.name === name)) continue;
      knob.input.closest("label").remove();
      made.delete(name);
    }
    for (const dial of dials) {
      const knob = made.get(dial.name) ?? make(dial), options = JSON.stringify(dial.options), index = dial.options.findIndex(([value]) => value === dial.value);
      const held = document.activeElement === knob.input && knob.said && knob.options === options;
      if (knob.options !== options) {
        knob.options = options;
        if (knob.said) knob.input.max = String(dial.options.length - 1);
        else knob.input.replaceChildren(...dial.options.map(([, words], i) => new Option(words, String(i))));
      }
      if (held) continue;
      knob.input.value = String(Math.max(0, index));
      if (knob.said) knob.said.textContent = dial.options[Math.max(0, index)]?.[1] ?? "";
      knob.input.disabled = dial.options.length < 2;
    }
    row.hidden = !dials.length;
  }

  return { row, show };
}
