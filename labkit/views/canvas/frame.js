// The pool that frames from the kernel are folded into.

import { letterOf } from "./text.js";

export const [FREE, CACHED, USED, TAIL, SHARED, NULL] = [0, 1, 2, 3, 4, 5];
export const NO_SLOT = 255;

export const emptyPool = () => ({ head: null, marks: [], shared: new Map(), table: [], first: 0, steps: [], inuse: [], cached: [], version: 0 });

const held = (state) => state === USED || state === TAIL || state === SHARED;

/**
 * Folds a frame into the pool. Returns null when a frame before it was missed, else what changed: `ids` (null: all blocks), `born`
 * (ids given just now, or that the pool has grown by) and `lost` (ids taken from a preempted request).
 */
export function fold(pool, frame) {
  const { head } = frame;
  const whole = head.base === 0;
  if (!whole && (!pool.head || pool.head.seq !== head.base)) return null;
  const change = { ids: whole ? null : new Set(frame.ids), born: [], lost: [] };
  if (whole) {
    for (let id = pool.state?.length ?? Infinity; id < frame.state.length; id++) change.born.push(id); // the pool has grown
    Object.assign(pool, { state: frame.state.slice(), slot: frame.slot.slice(), filled: frame.filled.slice(), owner: frame.owner.slice() });
    Object.assign(pool, { marks: [], steps: [], inuse: [], cached: [], first: head.from });
  } else {
    const moving = head.mode !== "paused" && head.position - pool.head.position <= 60;
    const preempted = new Set(head.marks.filter((m) => m[1] === "preempt").map((m) => m[2]));
    frame.ids.forEach((id, i) => {
      const was = held(pool.state[id]), is = held(frame.state[i]);
      if (moving && is && !was) change.born.push(id);
      if (moving && was && !is && preempted.has(letterOf(pool.owner[id]))) change.lost.push(id);
      pool.state[id] = frame.state[i];
      pool.slot[id] = frame.slot[i];
      pool.filled[id] = frame.filled[i];
      pool.owner[id] = frame.owner[i];
    });
  }
  if (frame.shared) {
    const before = pool.shared;
    pool.shared = new Map();
    frame.shared.forEach((id, i) => pool.shared.set(id, { refs: frame.refs[i], slots: [...frame.bands.subarray(3 * i, 3 * i + 3)].filter((s) => s !== NO_SLOT) }));
    if (change.ids) for (const id of [...before.keys(), ...pool.shared.keys()]) change.ids.add(id);
  }
  for (const name of ["steps", "inuse"]) append(pool[name], frame[name]);
  append(pool.cached, frame.cached);
  if (head.first > pool.first) {
    for (const name of ["steps", "inuse", "cached"]) pool[name].splice(0, head.first - pool.first);
    pool.marks = pool.marks.filter((m) => m[0] >= head.first);
    pool.first = head.first;
  }
  append(pool.marks, head.marks);
  const letters = pool.selectedSet;
  pool.table = frame.table;
  pool.selectedSet = new Set(frame.table);
  if (change.ids && letters) for (const id of letters) if (!pool.selectedSet.has(id)) change.ids.add(id);
  if (change.ids) for (const id of frame.table) if (!letters || !letters.has(id)) change.ids.add(id);
  pool.head = head;
  pool.scene = head.scene;
  pool.version += 1;
  return change;
}

function append(list, more) {
  for (let i = 0; i < more.length; i++) list.push(more[i]);
}
