// Which stream of a camera the link of its box carries: the large one, or the small one while the large one comes late or in pieces.
// Below that the box leaves out pictures up to the next keyframe by itself, and where nothing comes the newest still is shown.

export interface Fall {
  isSmall: boolean;
  skipped: number; // pictures that were left out, when it was last looked
  badSinceMs: number | null;
  goodSinceMs: number;
  waitMs: number; // until the large one is tried again; twice as long each time it failed
}

export const OLD_MS = 4_000; // a picture so old is too old to speak to somebody on the street
const DOWN_MS = 4_000; // a keyframe every two seconds, twice
const CLEAR_MS = 5_000;
const UP_MS = 30_000;
const UP_MOST_MS = 10 * 60_000;

export const beginning = (nowMs: number): Fall => ({ isSmall: false, skipped: 0, badSinceMs: null, goodSinceMs: nowMs, waitMs: UP_MS });

/** Where it stands now, asked a few times a second. `ageMs`: of the picture; null: none is there. `skipped` counts from the start of this stream. */
export function step(fall: Fall, ageMs: number | null, skipped: number, nowMs: number): Fall {
  const isBad = ageMs === null || ageMs > OLD_MS || skipped > fall.skipped;
  const badSinceMs = isBad ? (fall.badSinceMs ?? nowMs) : nowMs - fall.goodSinceMs >= CLEAR_MS ? null : fall.badSinceMs;
  const next = { ...fall, skipped, badSinceMs, goodSinceMs: isBad ? nowMs : fall.goodSinceMs };
  if (!fall.isSmall && isBad && nowMs - badSinceMs! >= DOWN_MS) return { ...beginning(nowMs), isSmall: true, waitMs: fall.waitMs };
  if (fall.isSmall && nowMs - next.goodSinceMs >= fall.waitMs) return { ...beginning(nowMs), waitMs: Math.min(2 * fall.waitMs, UP_MOST_MS) };
  return next;
}
