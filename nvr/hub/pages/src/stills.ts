// Stills of many cameras over one thin link: only tiles on the screen, three at a time, whoever's picture is oldest first.

import { signal, type Signal } from "@preact/signals";
import { now } from "./time";

const AT_ONCE = 3;
const GIVE_UP_MS = 20_000;
const REST_MS = 5_000; // after a failure, so that a missing picture is not asked for without end

export interface Picture {
  url: string; // of the bytes that are here
  capturedMs: number; // of these bytes: what is on the screen, not what the hub has by now
}

class Slot {
  readonly shown: Signal<Picture | null> = signal(null);
  wanted: { url: string; capturedMs: number } | null = null;
  isVisible = false;
  isLoading = false;
  restUntilMs = 0;
}

const slots = new Map<number, Slot>();
let loading = 0;

function slot(camera: number): Slot {
  let found = slots.get(camera);
  if (!found) slots.set(camera, (found = new Slot()));
  return found;
}

export const shown = (camera: number): Picture | null => slot(camera).shown.value;

export function want(camera: number, url: string | null, capturedMs: number | null): void {
  slot(camera).wanted = url && capturedMs !== null ? { url, capturedMs } : null;
  work();
}

export function setVisible(camera: number, isVisible: boolean): void {
  slot(camera).isVisible = isVisible;
  work();
}

function next(): Slot | null {
  let found: Slot | null = null;
  for (const each of slots.values()) {
    const isDue = each.isVisible && !each.isLoading && each.wanted && each.wanted.capturedMs !== each.shown.peek()?.capturedMs && now() >= each.restUntilMs;
    if (isDue && (!found || (each.shown.peek()?.capturedMs ?? 0) < (found.shown.peek()?.capturedMs ?? 0))) found = each;
  }
  return found;
}

function work(): void {
  for (let each = next(); each && loading < AT_ONCE; each = next()) void load(each);
}

async function load(each: Slot): Promise<void> {
  const wanted = each.wanted!;
  each.isLoading = true;
  loading++;
  const abort = new AbortController();
  const timer = setTimeout(() => abort.abort(), GIVE_UP_MS);
  try {
    const answer = await fetch(wanted.url, { credentials: "same-origin", signal: abort.signal });
    if (!answer.ok) throw new Error(String(answer.status));
    const url = URL.createObjectURL(await answer.blob());
    const probe = new Image();
    probe.src = url;
    await probe.decode(); // half a picture is none
    const before = each.shown.peek();
    each.shown.value = { url, capturedMs: wanted.capturedMs };
    if (before) setTimeout(() => URL.revokeObjectURL(before.url), 1000);
  } catch {
    each.restUntilMs = now() + REST_MS;
    setTimeout(work, REST_MS + 10);
  } finally {
    clearTimeout(timer);
    each.isLoading = false;
    loading--;
    work();
  }
}

const places = new Map<Element, number>();
const watcher = new IntersectionObserver(
  (entries) => {
    for (const each of entries) {
      const camera = places.get(each.target);
      if (camera !== undefined) setVisible(camera, each.isIntersecting);
    }
  },
  { rootMargin: "120px" },
);

/** Load pictures of `camera` while `element` is near the screen; call what is returned when it goes. */
export function follow(element: Element, camera: number): () => void {
  places.set(element, camera);
  watcher.observe(element);
  return () => {
    watcher.unobserve(element);
    places.delete(element);
    setVisible(camera, false);
  };
}
