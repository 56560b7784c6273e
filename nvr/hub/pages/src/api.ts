// The hub's API as the pages use it: types of its answers, one function that asks, and `Resource`, an answer that keeps itself fresh.

import { computed, effect, signal, type Signal } from "@preact/signals";
import { useEffect, useMemo } from "preact/hooks";
import { learnHubTime, now } from "./time";
import { isKnown, language, said, t } from "./words";

/** A text for people: a key that the pages translate, and what fills it. */
export interface Why {
  key: string;
  since_ms?: number | null;
  [more: string]: unknown;
}

export type CameraState = "live" | "late" | "silent" | "tampered" | "dark" | "down" | "unknown";
export type Kind = "traffic" | "service-office" | "health-centre" | "public-space";

export interface WallCamera {
  id: number;
  name: string;
  title: Title;
  place: string | null;
  place_title: Title | null;
  kind: Kind | null;
  box: string;
  state: CameraState;
  why: Why | null;
  still_ms: number | null;
  still_url: string | null;
  order: number;
}

/** A title: one text, or one for each language. */
export type Title = string | { id?: string; en?: string };

export interface Evidence {
  event: string | null;
  camera_id?: number | null;
  at_ms?: number | null;
  still_url: string | null;
}

export interface Incident {
  kind: string;
  state: string;
  zone: string;
  since_ms: number;
  numbers?: Record<string, number>;
  why?: Why | null;
  event: string | null;
  camera_id: number;
  still_url: string | null;
}

export interface Place {
  name: string;
  title: Title;
  kind: Kind;
  lat: number | null;
  lon: number | null;
  address?: string | null;
  hours?: unknown;
  service: { state: "open" | "closed" | "cannot tell"; due: "open" | "closed" | "unknown"; since_ms: number; sure_ms?: number; why?: Why | null; evidence?: Evidence | null } | null;
  queue: { waiting: number | null; waiting_least: number | null; waiting_most: number | null; wait_s: number | null; is_complete?: boolean; since_ms: number; why?: Why | null; evidence?: Evidence | null } | null;
  traffic: { state: "free" | "dense" | "jam" | "cannot tell"; since_ms: number; why?: Why | null; counts: Record<string, number>; speed: { value: number; unit: string } | null; is_complete?: boolean; evidence?: Evidence | null } | null;
  incidents: Incident[];
  cameras: (number | { id: number })[];
  state_of_cameras: Record<string, number>;
}

export interface Session {
  user: string;
  name: string;
  language: "id" | "en" | null;
  permissions: string[];
  has_totp: boolean;
  roles: { place: string | null; role: "viewer" | "operator" | "mayor" | "administrator" }[];
  csrf: string;
  city: { title: Title; lat: number; lon: number; time_zone: string; tiles?: { url: string; attribution: string } | null };
}

export class ApiFault extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly hint = "",
    readonly key = "",
    readonly body: Record<string, unknown> = {},
  ) {
    super(message);
  }
}

export const session = signal<Session | null | undefined>(undefined); // undefined: not asked yet; null: logged out
const ASK_MS = 20_000;

/** When the hub last answered anything, by `now()`; and whether what we show of it can be of now. */
export const heardMs = signal(now());

async function answered(path: string, options: RequestInit): Promise<Response> {
  const abort = new AbortController();
  const timer = setTimeout(() => abort.abort(), ASK_MS);
  try {
    return await fetch(path, { credentials: "same-origin", ...options, signal: abort.signal });
  } catch {
    throw new ApiFault(0, t("noAnswer"));
  } finally {
    clearTimeout(timer);
  }
}

/** The hub's errors are `{"error": text, key, hint, and numbers}`; those of its framework `{"detail": ...}`. */
function faultOf(status: number, body: any): ApiFault {
  const key = String(body?.key ?? "");
  const words = key && isKnown("fault", key) ? said("fault", key) : typeof body?.error === "string" ? body.error : t("failedWith", status);
  return new ApiFault(status, words, typeof body?.hint === "string" ? body.hint : "", key, body ?? {});
}

/** Ask the hub; the answer's JSON. Raises ApiFault. */
export async function ask<T>(path: string, method = "GET", body?: unknown): Promise<T> {
  const headers: Record<string, string> = { Accept: "application/json" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (method !== "GET" && session.value?.csrf) headers["X-CSRF"] = session.value.csrf;
  const answer = await answered(`/api/v1${path}`, { method, headers, cache: "no-store", body: body === undefined ? null : JSON.stringify(body) });
  heardMs.value = now();
  const isJson = (answer.headers.get("Content-Type") ?? "").includes("json");
  const found = answer.status === 204 || !isJson ? null : await answer.json().catch(() => null);
  if (!answer.ok) {
    if (answer.status === 401 && path !== "/session" && session.value) session.value = null;
    throw faultOf(answer.status, found);
  }
  return found as T;
}

/** What the pages show of one address: the last good answer, what went wrong since, and when it was. */
export interface Answer<T> {
  data: T | null;
  fault: ApiFault | null;
  atMs: number | null; // by now(); of the last good answer, a "not changed" is one
}

const POLL_MS = 10_000;
const GAP_MS = 1_500; // a storm of changes asks no oftener than this,
const GAP_TIMES = 8; // and on a slow link the answers take an eighth of it at most

/** One address, asked again when the hub says that it changed, and every ten seconds at least. */
export class Resource<T extends object> {
  readonly answer: Signal<Answer<T>> = signal({ data: null, fault: null, atMs: null });
  private etag = "";
  private users = 0;
  private timer = 0;
  private lastMs = -Infinity;
  private tookMs = 0;
  private isAsking = false;
  private wantsMore = false;

  constructor(
    readonly path: string,
    readonly what: string,
    readonly pollMs = POLL_MS,
  ) {}

  use(): () => void {
    if (this.users++ === 0) this.soon(0);
    return () => {
      if (--this.users === 0) clearTimeout(this.timer);
    };
  }

  get isUsed(): boolean {
    return this.users > 0;
  }

  /** Something changed: ask again, but not at once for each of a storm of changes. */
  changed(): void {
    if (this.isAsking) this.wantsMore = true;
    else this.soon(Math.max(0, this.lastMs + this.gapMs - now()));
  }

  private get gapMs(): number {
    return Math.min(this.pollMs, Math.max(GAP_MS, GAP_TIMES * this.tookMs));
  }

  private soon(ms: number): void {
    clearTimeout(this.timer);
    this.timer = window.setTimeout(() => void this.refresh(), ms);
  }

  async refresh(): Promise<void> {
    if (this.isAsking) return;
    this.isAsking = true;
    this.wantsMore = false;
    const askedMs = (this.lastMs = now());
    try {
      // The browser's own cache would hand out an old `now_ms` with a "not changed": so that is settled here.
      const headers: Record<string, string> = { Accept: "application/json" };
      if (this.etag) headers["If-None-Match"] = this.etag;
      const answer = await answered(`/api/v1${this.path}`, { headers, cache: "no-store" });
      heardMs.value = now();
      if (answer.status === 304) {
        this.answer.value = { ...this.answer.value, fault: null, atMs: askedMs };
      } else if (answer.ok) {
        const data = (await answer.json()) as T;
        this.etag = answer.headers.get("ETag") ?? "";
        const hubMs = (data as { now_ms?: unknown }).now_ms;
        if (typeof hubMs === "number") learnHubTime(hubMs, askedMs);
        this.answer.value = { data, fault: null, atMs: askedMs };
      } else {
        if (answer.status === 401 && session.value) session.value = null;
        throw faultOf(answer.status, await answer.json().catch(() => null));
      }
    } catch (error) {
      const fault = error instanceof ApiFault ? error : new ApiFault(0, t("noAnswer"));
      this.answer.value = { ...this.answer.value, fault };
    } finally {
      this.isAsking = false;
      this.tookMs = now() - askedMs;
      if (this.users) this.soon(this.wantsMore ? this.gapMs : this.pollMs);
    }
  }
}

const resources = new Map<string, Resource<any>>();

/** The resource of an address, shared by everybody who shows it. `what`: which of the hub's changes concern it. */
export function resource<T extends object>(path: string, what: string): Resource<T> {
  let found = resources.get(path);
  if (!found) {
    if (resources.size > 60) for (const [key, each] of resources) if (!each.isUsed) resources.delete(key);
    resources.set(path, (found = new Resource<T>(path, what)));
  }
  return found;
}

/** Show an address: asked while the component is there. */
export function useAnswer<T extends object>(path: string, what: string): Answer<T> & { again: () => void } {
  const found = useMemo(() => resource<T>(path, what), [path, what]);
  useEffect(() => found.use(), [found]);
  return { ...found.answer.value, again: () => void found.refresh() };
}

export function forgetAll(): void {
  resources.clear();
}

function changed(what: string): void {
  for (const each of resources.values()) if (each.isUsed && (each.what === what || what === "all")) each.changed();
}

// -- the hub's word that something changed ------------------------------------------------------------------

const RETRY_MS = [500, 1000, 3000, 10_000];

/** Listens while somebody is logged in. Without it everything is ten seconds late, and nothing is wrong. */
export function listen(): void {
  let socket: WebSocket | null = null;
  let tries = 0;
  let timer = 0;
  const isIn = computed(() => Boolean(session.value)); // a new answer about the same session opens no second socket
  const open = () => {
    if (socket || !isIn.value) return;
    const opened = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/api/v1/changes`);
    socket = opened;
    opened.onopen = () => changed("all");
    opened.onmessage = (event) => {
      tries = 0;
      heardMs.value = now();
      try {
        changed(String((JSON.parse(String(event.data)) as { what?: string }).what));
      } catch {
        changed("all");
      }
    };
    opened.onclose = () => {
      if (socket === opened) socket = null;
      clearTimeout(timer);
      timer = window.setTimeout(open, RETRY_MS[Math.min(tries++, RETRY_MS.length - 1)]);
    };
  };
  effect(() => {
    if (isIn.value) open();
    else {
      clearTimeout(timer);
      socket?.close();
      socket = null;
    }
  });
  const wake = () => {
    if (document.hidden) return;
    tries = 0;
    open();
    changed("all"); // what the page shows is as old as its sleep
  };
  document.addEventListener("visibilitychange", wake);
  window.addEventListener("online", wake);
  window.addEventListener("pageshow", wake);
}

// -- who one is ---------------------------------------------------------------------------------------------

/** Whether the person may do it at some place at least. It only decides what is offered; the hub decides what is done. */
export const may = (what: "footage" | "act" | "report" | "health" | "hold" | "administer"): boolean => session.value?.permissions?.includes(what) ?? false;

export const isMayor = () => (session.value?.roles ?? []).some((each) => each.role === "mayor") && !may("administer");

/** A title in the person's language, or in whichever there is. */
export function titled(title: Title | null | undefined): string {
  if (!title) return "";
  return typeof title === "string" ? title : title[language.value] || title.id || title.en || "";
}
