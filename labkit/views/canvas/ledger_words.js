// The waste ledger in words and tables.
import { SLOT_NAMES } from "./areas.js";
import { spoken } from "./clock.js";
import { measureAt, SHARES, SLOTS } from "./lanes.js";
import { sheet } from "./tables.js";
import { percent, thousands } from "./text.js";

const spentOf = (m) => SHARES.reduce((sum, name) => sum + (m.seconds[name] ?? 0), 0) || 1;

/** The picture at `t` in a few sentences. */
export function ledgerSaid(book, t) {
  const [kind, what] = book.words.badge;
  const parts = book.panels.map((panel) => {
    const m = measureAt(panel, t), spent = spentOf(m);
    if (!panel.end.length) return `${panel.name}: nothing yet.`;
    const memory = SLOTS.map((name) => `${SLOT_NAMES[name]} ${percent(m.mean[name])}`).join(", "), time = SHARES.map((name) => `${name} ${percent(m.seconds[name] / spent)}`).join(", ");
    return `${panel.name}: ${spoken(m.until)}; memory on average ${memory}; time ${time}.`;
  });
  return `${book.words.title}, ${kind}, ${what}: ${parts.join(" ")}`;
}

export function ledgerTable(book, t) {
  const m = book.panels.map((panel) => measureAt(panel, t)), heads = book.panels.map((panel) => panel.name);
  const memory = SLOTS.map((name) => [SLOT_NAMES[name], ...m.flatMap((x) => [thousands(x.slots[name]), percent(x.mean[name])])]);
  const time = SHARES.map((name) => [name, ...m.flatMap((x) => [spoken(x.seconds[name] ?? 0), percent((x.seconds[name] ?? 0) / spentOf(x))])]);
  return [sheet(`Memory at ${spoken(t)}, token slots, and on average`, ["part", ...heads.flatMap((name) => [`${name}, slots`, "mean"])], memory),
    sheet(`Time until ${spoken(t)}`, ["part", ...heads.flatMap((name) => [name, "share"])], time)].join("");
}
