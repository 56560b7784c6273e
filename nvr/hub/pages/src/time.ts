// What time it is at the hub, and times and lengths of time as people of the city write them.
//
// `now()` goes on while the phone sleeps and never goes back. The hub's time is known from its answers: an answer says when it
// was made, and it was made after it was asked for, so a picture can look older than it is by the length of a request, never younger.

import { signal } from "@preact/signals";
import { now } from "../../../web/page/player.js";
import { language, t } from "./words";

export { now };

const KEEP_MS = 600_000; // clocks drift: what was learned longer ago is learned anew
let ahead: { ms: number; atMs: number } | null = null;

/** An answer that was asked for at `askedMs` (by `now()`) said that the hub's clock shows `hubMs`. */
export function learnHubTime(hubMs: number, askedMs: number): void {
  const ms = hubMs - askedMs;
  const isOld = !ahead || now() - ahead.atMs > KEEP_MS || Math.abs(ms - ahead.ms) > 30_000; // somebody set a clock
  if (isOld || ms <= ahead!.ms) ahead = { ms, atMs: now() };
}

export const hubNow = (): number => (ahead ? now() + ahead.ms : Date.now());

/** Changes every second, and with it everything on the page that says how old something is. */
export const second = signal(0);

let zone = "UTC";
const formats = new Map<string, Intl.DateTimeFormat>();

export function setTimeZone(name: string): void {
  zone = name;
  formats.clear();
}

export const timeZone = (): string => zone;

function format(name: string, options: Intl.DateTimeFormatOptions): Intl.DateTimeFormat {
  const key = name + language.value;
  let found = formats.get(key);
  if (!found) {
    const locale = language.value === "id" ? "id-ID" : "en-GB";
    try {
      found = new Intl.DateTimeFormat(locale, { timeZone: zone, ...options });
    } catch {
      found = new Intl.DateTimeFormat(locale, { timeZone: "UTC", ...options }); // a phone that does not know the zone
    }
    formats.set(key, found);
  }
  return found;
}

// Indonesian writes 10.42; on a wall of clocks a colon reads better and is understood by everybody.
const colons = (text: string) => text.replaceAll(".", ":");

export const clock = (ms: number) => colons(format("clock", { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" }).format(ms));
/** The city's zone as people there call it: WIT. Only Indonesian has names for Indonesia's zones; elsewhere it is GMT+9 in every language. */
export function zoneWords(): string {
  const made = new Intl.DateTimeFormat("id-ID", { timeZone: zone, timeZoneName: "short" });
  return made.formatToParts(hubNow()).find((part) => part.type === "timeZoneName")?.value ?? "";
}
export const hourMinute = (ms: number) => colons(format("minutes", { hour: "2-digit", minute: "2-digit", hourCycle: "h23" }).format(ms));
export const dayWords = (ms: number) => format("day", { weekday: "long", day: "numeric", month: "long", year: "numeric" }).format(ms);
/** With its year where that is another than now. */
export const shortDay = (ms: number) =>
  isoDay(ms).slice(0, 4) === isoDay(hubNow()).slice(0, 4) ? format("short", { day: "numeric", month: "short" }).format(ms) : format("shortyear", { day: "numeric", month: "short", year: "numeric" }).format(ms);
export const monthWords = (ms: number) => format("month", { month: "long", year: "numeric" }).format(ms);

/** The day in the city as 2026-07-01. */
export const isoDay = (ms: number) => new Intl.DateTimeFormat("en-CA", { timeZone: zone, year: "numeric", month: "2-digit", day: "2-digit" }).format(ms);

/** As short as it is clear: today's without its date. */
export const moment = (ms: number) => (isoDay(ms) === isoDay(hubNow()) ? hourMinute(ms) : `${shortDay(ms)}, ${hourMinute(ms)}`);

/** When it is `time` ("08:30" or "08:30:15") on the city's day `day` ("2026-07-01"), in ms; NaN when that is no time. */
export function cityTime(day: string, time: string): number {
  const utc = Date.parse(`${day}T${time.length === 5 ? `${time}:00` : time}Z`);
  if (Number.isNaN(utc)) return NaN;
  const shown = (ms: number) => Date.parse(`${isoDay(ms)}T${colons(new Intl.DateTimeFormat("en-GB", { timeZone: zone, hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" }).format(ms))}Z`);
  const once = utc - (shown(utc) - utc);
  return once - (shown(once) - utc); // a second look where the offset changes between the two
}

export const DAY_MS = 86_400_000;
export const dayAfter = (day: string, days: number) => new Date(Date.parse(`${day}T12:00:00Z`) + days * DAY_MS).toISOString().slice(0, 10);

/** 7 s, 4 min, 3 h 5 min, 2 d 4 h; seconds only below two minutes, because nobody acts on them later. */
export function howLong(ms: number): string {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 60) return t("seconds", s);
  if (s < 120) return s % 60 ? t("minutesSeconds", 1, s - 60) : t("minutes", 1);
  if (s < 3600) return t("minutes", Math.floor(s / 60));
  if (s < 86400) return s % 3600 < 60 ? t("hours", Math.floor(s / 3600)) : t("hoursMinutes", Math.floor(s / 3600), Math.floor((s % 3600) / 60));
  return t("daysHours", Math.floor(s / 86400), Math.floor((s % 86400) / 3600));
}

export const number = (value: number, digits = 0) => new Intl.NumberFormat(language.value === "id" ? "id-ID" : "en-GB", { maximumFractionDigits: digits }).format(value);

/** Bytes as people count them: 3.2 GB. */
export function size(bytes: number | null | undefined): string {
  if (bytes === null || bytes === undefined) return "–";
  if (bytes < 1e6) return `${number(bytes / 1e3)} kB`;
  if (bytes < 1e9) return `${number(bytes / 1e6, 1)} MB`;
  return `${number(bytes / 1e9, 1)} GB`;
}
