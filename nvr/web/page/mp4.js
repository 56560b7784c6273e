// The few atoms a player must look into: the codec in an init segment, the decode time in a fragment.

const text = (view, at) => String.fromCharCode(view.getUint8(at), view.getUint8(at + 1), view.getUint8(at + 2), view.getUint8(at + 3));

/** Each atom between `from` and `to`, as [type, start of its content, end]. Stops at anything that is not one. */
function* atoms(view, from, to) {
  while (from + 8 <= to) {
    let size = view.getUint32(from);
    let head = 8;
    if (size === 1 && from + 16 <= to) {
      size = view.getUint32(from + 8) * 2 ** 32 + view.getUint32(from + 12);
      head = 16;
    }
    if (size === 0) size = to - from;
    if (size < head || from + size > to) return;
    yield [text(view, from + 4), from + head, from + size];
    from += size;
  }
}

function find(view, from, to, path) {
  for (const [type, start, end] of atoms(view, from, to)) {
    if (type === path[0]) return path.length === 1 ? [start, end] : find(view, start, end, path.slice(1));
  }
  return null;
}

/** The codec string for MediaSource, such as avc1.64001f (RFC 6381); null when there is none. */
export function codecOf(init) {
  const view = new DataView(init.buffer, init.byteOffset, init.byteLength);
  const stsd = find(view, 0, view.byteLength, ["moov", "trak", "mdia", "minf", "stbl", "stsd"]);
  if (!stsd) return null;
  for (const [type, start, end] of atoms(view, stsd[0] + 8, stsd[1])) {
    if (type !== "avc1" && type !== "avc3") continue;
    const avcc = find(view, start + 78, end, ["avcC"]); // 78 bytes of VisualSampleEntry come first
    if (!avcc || avcc[1] - avcc[0] < 4) continue;
    const hex = [1, 2, 3].map((at) => view.getUint8(avcc[0] + at).toString(16).padStart(2, "0")).join("");
    return `${type}.${hex}`;
  }
  return null;
}

/** The decode time of a fragment in its own file, in ticks; null when this is no fragment. */
export function decodeTicks(fragment) {
  const view = new DataView(fragment.buffer, fragment.byteOffset, fragment.byteLength);
  const tfdt = find(view, 0, view.byteLength, ["moof", "traf", "tfdt"]);
  if (!tfdt || tfdt[1] - tfdt[0] < 8) return null;
  if (view.getUint8(tfdt[0]) === 0) return view.getUint32(tfdt[0] + 4);
  if (tfdt[1] - tfdt[0] < 12) return null;
  return view.getUint32(tfdt[0] + 4) * 2 ** 32 + view.getUint32(tfdt[0] + 8);
}
