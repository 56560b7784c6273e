// Indonesian first, English second: the browser's language, unless the person chose one.

import { effect, signal } from "@preact/signals";
import { en } from "./en";
import { id, type Key } from "./id";

export type { Key };
export type Language = "id" | "en";
const WORDS: Record<Language, Record<Key, string>> = { id, en };
const REMEMBERED = "nvr.language";

function remembered(): Language | null {
  try {
    const found = localStorage.getItem(REMEMBERED);
    return found === "id" || found === "en" ? found : null;
  } catch {
    return null; // a browser that keeps nothing
  }
}

function ofBrowser(): Language | null {
  for (const wanted of navigator.languages ?? []) {
    const code = wanted.toLowerCase().split("-")[0];
    if (code === "id" || code === "in" || code === "ms") return "id";
    if (code === "en") return "en";
  }
  return null;
}

export const language = signal<Language>(remembered() ?? ofBrowser() ?? "id");
effect(() => void (document.documentElement.lang = language.value));

export function chooseLanguage(code: Language): void {
  language.value = code;
  try {
    localStorage.setItem(REMEMBERED, code);
  } catch {
    // then only for this visit
  }
}

/** The language a person has at the hub, where neither they nor their browser said another one here. */
export function suggestLanguage(code: Language | null): void {
  if (code && !remembered() && !ofBrowser()) language.value = code;
}

/** The words for `key`, with its blanks {0}, {1} filled. */
export function t(key: Key, ...values: (string | number)[]): string {
  return filled(WORDS[language.value][key], values);
}

/** For keys that come from the hub: a newer hub may know some that this page does not, which then speak for themselves. */
export function said(prefix: string, key: string | null | undefined, ...values: (string | number)[]): string {
  if (!key) return "";
  const words = WORDS[language.value] as Record<string, string | undefined>;
  return filled(words[`${prefix}.${key}`] ?? key, values);
}

export const isKnown = (prefix: string, key: string): boolean => `${prefix}.${key}` in WORDS.id;

function filled(text: string, values: (string | number)[]): string {
  return values.reduce<string>((so, value, at) => so.replaceAll(`{${at}}`, String(value)), text);
}
