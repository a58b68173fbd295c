// Binary messages from the kernel: a head in JSON and sections of numbers. The layout is told in frame.py.

/** {head, name: typed array...} of one binary frame. */
export function decode(view) {
  const bytes = new Uint8Array(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));
  const length = new DataView(bytes.buffer).getUint32(0, true);
  const head = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + length)));
  const frame = { head };
  let at = 4 + length;
  for (const [name, size, count] of head.sections) {
    const Kind = { 1: Uint8Array, 2: Uint16Array, 4: Uint32Array }[size];
    frame[name] = new Kind(bytes.buffer, at, count);
    at += Math.ceil((size * count) / 4) * 4;
  }
  return frame;
}
