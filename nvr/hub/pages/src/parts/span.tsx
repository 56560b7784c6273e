// A stretch of time in the city, typed in: from a day and a minute to a day and a minute.

import { cityTime, dayAfter, hourMinute, isoDay, shortDay, hourMinute as minute } from "../time";
import { language, t } from "../words";
import { input } from "./small";

export interface Typed {
  fromDay: string;
  fromTime: string;
  toDay: string;
  toTime: string;
}

export const typedSpan = (fromMs: number, toMs: number): Typed => ({
  fromDay: isoDay(fromMs),
  fromTime: hourMinute(fromMs),
  toDay: isoDay(toMs),
  toTime: hourMinute(toMs),
});

/** In ms, the last minute as a whole; null when it is none. */
export function spanOf(typed: Typed): { from_ms: number; to_ms: number } | null {
  const from = cityTime(typed.fromDay, typed.fromTime);
  const to = cityTime(typed.toDay, typed.toTime) + 60_000;
  return Number.isNaN(from) || Number.isNaN(to) || to <= from ? null : { from_ms: Math.round(from), to_ms: Math.round(to) };
}

/** "1 Agu 08:00 – 09:30", the second day only where it is another. */
export function spanWords(fromMs: number, toMs: number): string {
  const end = isoDay(fromMs) === isoDay(toMs) ? minute(toMs) : `${shortDay(toMs)} ${minute(toMs)}`;
  return `${shortDay(fromMs)} ${minute(fromMs)} – ${end}`;
}

export function SpanFields(props: { typed: Typed; onChange: (typed: Typed) => void }) {
  const { typed } = props;
  const set = (key: keyof Typed) => input((value) => props.onChange({ ...typed, [key]: value }));
  const latest = dayAfter(isoDay(Date.now()), 1);
  return (
    <div class="spans">
      {(["from", "to"] as const).map((end) => (
        <fieldset key={end} class="times">
          <legend>{t(end)}</legend>
          <input type="date" lang={language.value} required max={latest} value={typed[`${end}Day`]} onInput={set(`${end}Day`)} aria-label={`${t(end)}: ${t("day")}`} name={`${end}-day`} />
          <input type="time" required value={typed[`${end}Time`]} onInput={set(`${end}Time`)} aria-label={`${t(end)}: ${t("clockTime")}`} name={`${end}-time`} />
        </fieldset>
      ))}
    </div>
  );
}
