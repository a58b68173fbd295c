// The same data as text: what the table toggle opens.
import { NO_SLOT, SHARED } from "./frame.js";
import { sheet } from "./tables.js";
import { letterOf, percent, thousands } from "./text.js";

const MOST = 400; // runs of blocks that a table lists

function ownerOf(pool, id) {
  if (pool.state[id] === SHARED) return `×${pool.shared.get(id)?.refs}`;
  return pool.owner[id] === 0xffffffff ? "" : pool.slot[id] === NO_SLOT ? letterOf(pool.owner[id]).toLowerCase() : letterOf(pool.owner[id]);
}

/** Neighbouring blocks of one state and owner as one row. */
export function blockRuns(pool, states) {
  const out = [];
  for (let id = 0; id < pool.state.length; id++) {
    const state = states[pool.state[id]], owner = ownerOf(pool, id), last = out.at(-1);
    if (last && last.state === state && last.owner === owner && state !== "tail") last.to = id;
    else out.push({ from: id, to: id, state, owner, filled: pool.filled[id] });
  }
  return out;
}

export function tableHtml(pool, states) {
  const { scene } = pool, { ledger, contiguous: c } = scene, runs = blockRuns(pool, states);
  const total = ledger.useful + ledger.tail + ledger.cached + ledger.free;
  const parts = [
    sheet(`Pool at step ${scene.step}`, ["state", "blocks"], Object.entries(scene.counts).map(([k, v]) => [k, thousands(v)])),
    sheet("Waste ledger, token slots", ["part", "slots", "share"], Object.entries(ledger).map(([k, v]) => [k, thousands(v), percent(v / total)])),
    sheet("If contiguous", ["reserved for each", "requests that fit", "running", "slots left"], [[thousands(c.reserve), c.requests.length, c.running, thousands(c.left)]]),
    sheet("Requests", ["request", "phase", "tokens", "blocks", "shared", "tail", "needs", "preempted"], scene.rows.map((r) => [r.letter, r.phase, r.tokens, r.blocks, r.shared, `${r.tail}/${scene.block_size}`, r.needs || "", r.preemptions || ""])),
  ];
  if (scene.selected) parts.push(sheet(`Block table of ${scene.selected.letter}`, ["logical", "physical", "state", "tokens"], [...pool.table].slice(0, MOST).map((id, j) => [j, id, states[pool.state[id]], pool.filled[id]])));
  parts.push(sheet(`Blocks${runs.length > MOST ? `, the first ${MOST} runs of ${runs.length}` : ""}`, ["physical", "state", "owner", "tokens"], runs.slice(0, MOST).map((r) => [r.from === r.to ? r.from : `${r.from}–${r.to}`, r.state, r.owner, r.state === "tail" ? r.filled : ""])));
  return parts.join("");
}
