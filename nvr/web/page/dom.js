// Elements made one by one (the page's policy forbids HTML from text), and times as people at the site write them.

import { language, t } from "./words.js";

/** An element; attributes starting with `on` are listeners, null children are left out. */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

let zone = "UTC";
const formats = new Map();

/** All times on the page are those of the site, wherever the browser is. */
export function setTimeZone(name) {
  zone = name;
  formats.clear();
}

function format(name, options) {
  const key = name + language();
  if (!formats.has(key)) {
    formats.set(key, new Intl.DateTimeFormat(language() === "id" ? "id-ID" : "en-GB", { timeZone: zone, ...options }));
  }
  return formats.get(key);
}

let aheadMs = 0; // the box's clock minus the browser's: either may be wrong, the footage goes by the box's

export const setBoxNow = (ms) => (aheadMs = ms - Date.now());
export const boxNow = () => Date.now() + aheadMs;

const colons = (text) => text.replaceAll(".", ":"); // Indonesian writes 10.42.07; a clock reads better with colons

export const clock = (ms) =>
  colons(format("clock", { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" }).format(ms));
export const clockMinutes = (ms) =>
  colons(format("minutes", { hour: "2-digit", minute: "2-digit", hourCycle: "h23" }).format(ms));
export const dayWords = (ms) =>
  format("day", { weekday: "long", day: "numeric", month: "long", year: "numeric" }).format(ms);
const shortDay = (ms) => format("short", { day: "numeric", month: "short" }).format(ms);

/** The day at the site as 2026-07-01. */
export function isoDay(ms) {
  const parts = new Intl.DateTimeFormat("en-CA", { timeZone: zone, year: "numeric", month: "2-digit", day: "2-digit" });
  return parts.format(ms);
}

/** A time as short as it is clear: today's without its date. */
export const moment = (ms) =>
  isoDay(ms) === isoDay(boxNow()) ? clock(ms) : `${shortDay(ms)} ${clock(ms)}`;

/** A length of time in words: 7 s, 4 min 20 s, 3 h 5 min, 2 days 4 h. */
export function howLong(ms) {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 60) return t("seconds", s);
  if (s < 3600) return s % 60 ? t("minutesSeconds", Math.floor(s / 60), s % 60) : t("minutes", s / 60);
  if (s < 86400) return t("hoursMinutes", Math.floor(s / 3600), Math.floor((s % 3600) / 60));
  return t("daysHours", Math.floor(s / 86400), Math.floor((s % 86400) / 3600));
}

export const number = (value, digits = 0) =>
  new Intl.NumberFormat(language() === "id" ? "id-ID" : "en-GB", { maximumFractionDigits: digits })
    .format(Math.abs(value) < 0.5 / 10 ** digits ? 0 : value); // never "-0"

/** Bytes as people count them: 3.2 GB. */
export function size(bytes) {
  if (bytes === null || bytes === undefined) return "–";
  if (bytes < 1e6) return `${number(bytes / 1e3)} kB`;
  if (bytes < 1e9) return `${number(bytes / 1e6, 1)} MB`;
  return `${number(bytes / 1e9, 1)} GB`;
}
