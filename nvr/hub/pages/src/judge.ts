// What a camera may be called. The hub says what it knows; how old the picture on the screen is, only the screen knows.

import type { CameraState, WallCamera, Why } from "./api";
import type { IconName } from "./parts/icon";
import type { Tone } from "./parts/small";
import { howLong, moment } from "./time";
import { isKnown, said, t } from "./words";

// A still comes every ten seconds and may take four on its way. Looked at once a second, a tile says within 15 s that its picture is old.
export const LATE_MS = 14_000;

export interface Verdict {
  state: CameraState;
  ageMs: number | null;
  why: Why | null;
}

export function verdict(camera: WallCamera, shownMs: number | null, hubNowMs: number): Verdict {
  const ageMs = shownMs === null ? null : Math.max(0, hubNowMs - shownMs);
  const isSaid = camera.state !== "live" && camera.state !== "late" && camera.state !== "unknown";
  if (isSaid) return { state: camera.state, ageMs, why: camera.why };
  if (ageMs !== null && ageMs > LATE_MS) return { state: "late", ageMs, why: null };
  if (ageMs === null) return { state: camera.state === "live" ? "unknown" : camera.state, ageMs, why: camera.why };
  // The hub may have called it late a moment ago; a picture that is new is new.
  return { state: "live", ageMs, why: null };
}

export const TONE: Record<CameraState, Tone> = { live: "good", late: "unsure", silent: "bad", tampered: "bad", dark: "unsure", down: "bad", unknown: "quiet" };
export const ICON: Record<CameraState, IconName> = { live: "check", late: "clock", silent: "silent", tampered: "tamper", dark: "dark", down: "down", unknown: "question" };

/** The reason in words: from the hub's key, and since when. */
export function whyWords(why: Why | null | undefined): string {
  if (!why?.key) return "";
  const words = isKnown("why", why.key) ? said("why", why.key) : said("state", why.key);
  return why.since_ms ? `${words}, ${t("since", moment(why.since_ms))}` : words;
}

export function ageWords(ageMs: number | null): string {
  return ageMs === null ? "" : howLong(ageMs);
}
