// A small chart of our own: twenty-four hours, stacked bars, and one line over them.

import { number } from "../time";

export interface Hour {
  hour: number;
  stack: [string, number][]; // class of the bar, height
  line?: number | null;
  title: string;
}

const [WIDTH, HEIGHT, LEFT, BOTTOM, TOP] = [720, 190, 44, 22, 12];

function roundUp(value: number): number {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 2.5, 5, 10].map((each) => each * power).find((each) => each >= value)!;
}

export function HourChart(props: { label: string; hours: Hour[]; unit: (value: number) => string; from?: number; to?: number }) {
  const from = props.from ?? 0;
  const to = props.to ?? 24;
  const most = roundUp(Math.max(...props.hours.map((each) => Math.max(each.stack.reduce((sum, [, value]) => sum + value, 0), each.line ?? 0)), 0));
  const step = (WIDTH - LEFT) / (to - from);
  const y = (value: number) => TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / most);
  const dots = props.hours.filter((each) => typeof each.line === "number").map((each) => [LEFT + (each.hour - from + 0.5) * step, y(each.line!)] as const);
  return (
    <svg class="chart" viewBox={`0 0 ${WIDTH} ${HEIGHT}`} role="img" aria-label={props.label}>
      {[0, 0.5, 1].map((share) => (
        <g key={share}>
          <line class="axis" x1={LEFT} x2={WIDTH} y1={y(most * share)} y2={y(most * share)} />
          <text x={LEFT - 6} y={y(most * share) + 4} text-anchor="end">
            {props.unit(most * share)}
          </text>
        </g>
      ))}
      {Array.from({ length: to - from }, (_, at) => from + at).map((hour) => (
        <text key={hour} x={LEFT + (hour - from + 0.5) * step} y={HEIGHT - 6} text-anchor="middle">
          {hour % 2 === from % 2 ? number(hour) : ""}
        </text>
      ))}
      {props.hours.map((each) => {
        let floor = 0;
        return (
          <g key={each.hour}>
            <title>{each.title}</title>
            {each.stack.map(([name, value]) => {
              const bottom = floor;
              floor += value;
              return value > 0 ? <rect key={name} class={name} x={LEFT + (each.hour - from + 0.12) * step} width={step * 0.76} y={y(floor)} height={Math.max(0.5, y(bottom) - y(floor))} rx="1.500" /> : null;
            })}
          </g>
        );
      })}
      {dots.length > 1 && <polyline class="line" points={dots.map(([x, at]) => `${x},${at}`).join(" ")} />}
      {dots.map(([x, at]) => (
        <circle key={x} class="bars" cx={x} cy={at} r="2.600" />
      ))}
    </svg>
  );
}
