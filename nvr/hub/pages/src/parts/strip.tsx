// One day of one camera as a strip: recorded, gaps with their causes, clips at the hub, what is on its way, events.

import { useRef, useState } from "preact/hooks";
import { DAY_MS, clock, hourMinute } from "../time";
import { said, t } from "../words";
import type { StoredEvent } from "./events";

export interface Span {
  from_ms: number;
  to_ms: number;
  what: "recorded" | "missing" | "hub" | "fetching" | "unknown";
  cause?: string | null;
  clip?: string | null;
  command?: string | null;
}

const HEIGHT = 86;
const COLOUR: Record<string, string> = { recorded: "var(--recorded)", missing: "var(--gap)", hub: "var(--hub)", fetching: "var(--fetch)", unknown: "var(--line)" };
const STEPS_MIN = [1, 5, 15, 30, 60, 120, 240, 360];

export function Strip(props: { label: string; fromMs: number; nowMs: number; spans: Span[]; events: StoredEvent[]; chosenMs: number | null; markFrom: number | null; markTo: number | null; onChoose: (ms: number) => void; onMark: (which: "from" | "to", ms: number) => void }) {
  const { fromMs } = props;
  const [[startMs, lengthMs], setView] = useState<[number, number]>([fromMs, DAY_MS]);
  const [day, setDay] = useState(fromMs);
  const place = useRef<HTMLDivElement>(null);
  if (day !== fromMs) {
    setDay(fromMs);
    setView([fromMs, DAY_MS]);
  }
  const width = 1000;
  const x = (ms: number) => ((ms - startMs) / lengthMs) * width;
  const clamp = (start: number, length: number): [number, number] => [Math.max(fromMs, Math.min(fromMs + DAY_MS - length, start)), length];
  const zoom = (length: number, aroundMs: number) => setView(clamp(aroundMs - length / 2, Math.max(10 * 60_000, Math.min(DAY_MS, length))));
  const at = (event: MouseEvent) => {
    const rect = place.current!.getBoundingClientRect();
    return startMs + ((event.clientX - rect.left) / rect.width) * lengthMs;
  };
  const chosen = props.chosenMs ?? Math.min(props.nowMs, startMs + lengthMs);
  const onKey = (event: KeyboardEvent) => {
    const step = lengthMs / 100;
    const choose = (ms: number) => {
      const to = Math.max(fromMs, Math.min(fromMs + DAY_MS, ms));
      if (to < startMs || to > startMs + lengthMs) setView(clamp(to - lengthMs / 2, lengthMs));
      props.onChoose(to);
    };
    const acts: Record<string, () => void> = {
      ArrowLeft: () => choose(chosen - step), ArrowRight: () => choose(chosen + step), PageUp: () => choose(chosen - 10 * step), PageDown: () => choose(chosen + 10 * step),
      Home: () => choose(fromMs), End: () => choose(Math.min(props.nowMs, fromMs + DAY_MS)),
      "+": () => zoom(lengthMs / 2, chosen), "=": () => zoom(lengthMs / 2, chosen), "-": () => zoom(lengthMs * 2, chosen),
      "[": () => props.onMark("from", chosen), "]": () => props.onMark("to", chosen),
    };
    const act = acts[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  };
  const stepMin = STEPS_MIN.find((each) => each * 60_000 * (window.innerWidth < 700 ? 5 : 12) >= lengthMs) ?? 360;
  const ticks: number[] = [];
  for (let ms = fromMs + Math.ceil((startMs - fromMs) / (stepMin * 60_000)) * stepMin * 60_000; ms <= startMs + lengthMs; ms += stepMin * 60_000) ticks.push(ms);
  const rows: Record<string, [number, number]> = { hub: [46, 10], fetching: [46, 10] };
  return (
    <>
      <div
        class="strip"
        ref={place}
        role="slider"
        tabIndex={0}
        aria-label={props.label}
        aria-valuemin={fromMs}
        aria-valuemax={fromMs + DAY_MS}
        aria-valuenow={Math.round(chosen)}
        aria-valuetext={clock(chosen)}
        title={t("timelineHelp")}
        onClick={(event) => props.onChoose(at(event))}
        onKeyDown={onKey}
        onWheel={(event) => (event.ctrlKey || event.metaKey ? zoom(event.deltaY < 0 ? lengthMs / 1.5 : lengthMs * 1.5, at(event)) : undefined)}
      >
        <svg viewBox={`0 0 ${width} ${HEIGHT}`} preserveAspectRatio="none" aria-hidden="true">
          {props.spans.map((span, index) => {
            const [top, height] = rows[span.what] ?? [20, 24];
            const left = Math.max(0, x(span.from_ms));
            const right = Math.min(width, x(span.to_ms));
            if (right <= 0 || left >= width || right <= left) return null;
            return <rect key={index} x={left} y={top} width={Math.max(1, right - left)} height={height} fill={COLOUR[span.what] ?? "var(--line)"} />;
          })}
          {props.events.map((each) => (
            <path key={each.id} d={`M${x(each.from_ms)} 62l5 9h-10z`} fill="var(--ink)" />
          ))}
          {props.markFrom !== null && props.markTo !== null && <rect x={x(props.markFrom)} y={14} width={Math.max(2, x(props.markTo) - x(props.markFrom))} height={46} fill="var(--accent)" opacity=".3" />}
          {props.nowMs < startMs + lengthMs && <line x1={x(props.nowMs)} x2={x(props.nowMs)} y1="0" y2={HEIGHT} stroke="var(--soft)" stroke-dasharray="3 3" />}
          <line x1={x(chosen)} x2={x(chosen)} y1="0" y2={HEIGHT} stroke="var(--ink)" stroke-width="2" />
        </svg>
        {ticks.map((ms) => (
          <span key={ms} class={`tick${ms === startMs ? " first" : ms === startMs + lengthMs ? " last" : ""}`} style={{ left: `${((ms - startMs) / lengthMs) * 100}%` }}>
            {hourMinute(ms)}
          </span>
        ))}
      </div>
      <div class="bar" style={{ marginTop: ".4rem" }}>
        <b class="num">{clock(chosen)}</b>
        <span class="grow" />
        <button type="button" class="quiet" aria-pressed={lengthMs === DAY_MS} onClick={() => zoom(DAY_MS, chosen)}>
          {t("zoomDay")}
        </button>
        <button type="button" class="quiet" onClick={() => zoom(3_600_000, chosen)}>
          {t("zoomHour")}
        </button>
        <button type="button" class="quiet" onClick={() => zoom(600_000, chosen)}>
          {t("zoomMinutes")}
        </button>
      </div>
      <div class="legend">
        {(["recorded", "missing", "hub", "fetching", "unknown"] as const).map((each) => (
          <span key={each}>
            <svg class="swatch" viewBox="0 0 16 12" aria-hidden="true">
              <rect width="16" height="12" fill={COLOUR[each]} />
            </svg>
            {t(({ recorded: "recorded", missing: "gap", hub: "atHub", fetching: "fetching", unknown: "unknown" } as const)[each])}
          </span>
        ))}
      </div>
    </>
  );
}

export const causeWords = (cause: string | null | undefined) => said("cause", cause || "not known");
