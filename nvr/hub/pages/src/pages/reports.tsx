// What a month was like: opening hours kept, how long people waited, how the traffic went. Prints; downloads as CSV.

import { useLocation } from "preact-iso";
import { titled, useAnswer, type Title } from "../api";
import { HourChart, type Hour } from "../parts/bars";
import { Empty, Shown, Tabs } from "../parts/small";
import { Icon } from "../parts/icon";
import { cityTime, dayWords, hourMinute, howLong, hubNow, isoDay, monthWords, number } from "../time";
import { language, said, t } from "../words";

interface OpeningDay {
  place: string;
  place_title: Title;
  day: string;
  due_s: number;
  open_s: number;
  closed_s: number;
  cannot_tell_s: number;
  kept: number | null;
  due_from_ms: number | null;
  opened_ms: number | null;
}

interface WaitingHour {
  place: string;
  place_title: Title;
  hour: number;
  visits: number;
  median_s: number;
  p90_s: number;
  longest_s: number;
}

interface TrafficHour {
  place: string;
  place_title: Title;
  day: string;
  hour: number;
  thing: string;
  count: number;
}

interface JamHour {
  place: string;
  place_title: Title;
  day: string;
  hour: number;
  jam_s: number;
  dense_s: number;
}

const LATE_MS = 15 * 60_000;

function byPlace<T extends { place: string; place_title: Title }>(rows: T[]): [string, string, T[]][] {
  const found = new Map<string, [string, string, T[]]>();
  for (const row of rows) {
    const place = found.get(row.place) ?? [row.place, titled(row.place_title), [] as T[]];
    place[2].push(row);
    found.set(row.place, place);
  }
  return [...found.values()].sort((a, b) => a[1].localeCompare(b[1]));
}

const daysOf = (month: string) => new Date(Date.UTC(Number(month.slice(0, 4)), Number(month.slice(5, 7)), 0)).getUTCDate();
const monthBy = (month: string, by: number) => new Date(Date.UTC(Number(month.slice(0, 4)), Number(month.slice(5, 7)) - 1 + by, 1)).toISOString().slice(0, 7);
const percent = (share: number) => `${number(100 * share)} %`;

function DayMark(props: { row: OpeningDay | undefined }) {
  const { row } = props;
  if (!row || row.due_s <= 0) return <td class="day" />;
  const parts: [string, number][] = [["kept", row.open_s], ["closed", row.closed_s], ["unsure", row.cannot_tell_s]];
  const all = Math.max(row.due_s, row.open_s + row.closed_s + row.cannot_tell_s);
  let top = 0;
  const late = row.opened_ms && row.due_from_ms && row.opened_ms - row.due_from_ms > LATE_MS ? `, ${t("lateOpening")} (${hourMinute(row.opened_ms)})` : "";
  const words = `${dayWords(cityTime(row.day, "12:00"))}: ${t("openHours")} ${howLong(row.open_s * 1000)}, ${t("closedHours")} ${howLong(row.closed_s * 1000)}, ${t("unknownHours")} ${howLong(row.cannot_tell_s * 1000)}${late}`;
  return (
    <td class="day">
      <svg class="chart" viewBox="0 0 24 34" preserveAspectRatio="none" role="img" aria-label={words}>
        <title>{words}</title>
        {parts.map(([name, value]) => {
          const height = (34 * value) / all;
          const y = 34 - top - height;
          top += height;
          return <rect key={name} class={name} x="0" width="24" y={y} height={height} />;
        })}
      </svg>
    </td>
  );
}

function Opening(props: { month: string }) {
  const answer = useAnswer<{ days: OpeningDay[] }>(`/reports/opening?month=${props.month}`, "reports");
  const days = Array.from({ length: daysOf(props.month) }, (_, at) => at + 1);
  return (
    <Shown answer={answer}>
      {({ days: rows }) => {
        const offices = byPlace(rows.filter((each) => each.due_s > 0));
        if (offices.length === 0) return <Empty icon="reports" title={t("noReport")} />;
        return (
          <section class="card">
            <p class="hint">{t("openingHint")}</p>
            <div class="scroll">
              <table class="days">
                <thead>
                  <tr>
                    <th scope="col">{t("office")}</th>
                    <th scope="col">{t("keptShare")}</th>
                    {days.map((day) => (
                      <th key={day} scope="col">
                        {day}
                      </th>
                    ))}
                  </tr>
                </thead>
                <tbody>
                  {offices.map(([name, title, list]) => {
                    const open_s = list.reduce((sum, each) => sum + each.open_s, 0);
                    const judged_s = open_s + list.reduce((sum, each) => sum + each.closed_s, 0);
                    const byDay = new Map(list.map((each) => [Number(each.day.slice(8, 10)), each]));
                    return (
                      <tr key={name}>
                        <th scope="row">
                          <a href={`/places/${encodeURIComponent(name)}`}>{title}</a>
                        </th>
                        <td class="share">{judged_s ? percent(open_s / judged_s) : "–"}</td>
                        {days.map((day) => (
                          <DayMark key={day} row={byDay.get(day)} />
                        ))}
                      </tr>
                    );
                  })}
                </tbody>
              </table>
            </div>
            <p class="legend">
              {(["kept", "closed", "unsure"] as const).map((name) => (
                <span key={name}>
                  <svg class="swatch chart" viewBox="0 0 16 12" aria-hidden="true">
                    <rect class={name} width="16" height="12" />
                  </svg>
                  {t(({ kept: "openHours", closed: "closedHours", unsure: "unknownHours" } as const)[name])}
                </span>
              ))}
            </p>
          </section>
        );
      }}
    </Shown>
  );
}

function Waiting(props: { month: string }) {
  const answer = useAnswer<{ hours: WaitingHour[] }>(`/reports/waiting?month=${props.month}`, "reports");
  return (
    <Shown answer={answer}>
      {({ hours }) => {
        const places = byPlace(hours);
        if (places.length === 0) return <Empty icon="reports" title={t("noReport")} />;
        return (
          <div class="sheets">
            {places.map(([name, title, list]) => {
              const visits = list.reduce((sum, each) => sum + each.visits, 0);
              const worst = [...list].sort((a, b) => b.p90_s - a.p90_s)[0]!;
              return (
                <section class="card" key={name}>
                  <h2>{title}</h2>
                  <div class="figures">
                    <span>
                      <b>{number(visits)}</b> {t("visits")}
                    </span>
                    <span>
                      <b>{howLong(worst.p90_s * 1000)}</b> {t("longWait")} ({t("hourOfDay")} {worst.hour})
                    </span>
                  </div>
                  <HourChart
                    label={`${title}: ${t("reportWaiting")}, ${t("byHour")}`}
                    from={6}
                    to={20}
                    unit={(value) => howLong(value * 1000)}
                    hours={list
                      .filter((each) => each.hour >= 6 && each.hour < 20)
                      .map((each) => ({ hour: each.hour, stack: [["bars", each.median_s]], line: each.p90_s, title: `${each.hour}:00 · ${t("medianWait")} ${howLong(each.median_s * 1000)}, ${t("longWait")} ${howLong(each.p90_s * 1000)}, ${number(each.visits)} ${t("visits")}` }))}
                  />
                  <p class="legend">
                    <span>■ {t("medianWait")}</span>
                    <span>— {t("longWait")}</span>
                  </p>
                </section>
              );
            })}
          </div>
        );
      }}
    </Shown>
  );
}

const THINGS: [string, string[]][] = [["bars", ["two-wheeler"]], ["kept", ["car"]], ["bars2", ["truck", "bus"]], ["unsure", ["moving", "person", "animal"]]];

function Traffic(props: { month: string }) {
  const answer = useAnswer<{ hours: TrafficHour[]; jams: JamHour[] }>(`/reports/traffic?month=${props.month}`, "reports");
  return (
    <Shown answer={answer}>
      {({ hours, jams }) => {
        const titles = new Map([...hours, ...jams].map((each) => [each.place, titled(each.place_title)]));
        if (titles.size === 0) return <Empty icon="reports" title={t("noReport")} />;
        return (
          <div class="sheets">
            {[...titles].sort((a, b) => a[1].localeCompare(b[1])).map(([name, title]) => {
              const mine = hours.filter((each) => each.place === name);
              const jam = jams.filter((each) => each.place === name);
              const days = new Set([...mine, ...jam].map((each) => each.day)).size || 1;
              const total = mine.reduce((sum, each) => sum + each.count, 0);
              const jam_s = jam.reduce((sum, each) => sum + each.jam_s, 0);
              const of = (rows: TrafficHour[], things: string[]) => rows.filter((each) => things.includes(each.thing)).reduce((sum, each) => sum + each.count, 0) / days;
              const counted: Hour[] = Array.from({ length: 24 }, (_, hour) => {
                const rows = mine.filter((each) => each.hour === hour);
                return { hour, stack: THINGS.map(([mark, things]) => [mark, of(rows, things)]), title: `${hour}:00 · ${number(of(rows, THINGS.flatMap(([, things]) => things)))} ${t("vehicles")}` };
              });
              const jammed: Hour[] = Array.from({ length: 24 }, (_, hour) => {
                const rows = jam.filter((each) => each.hour === hour);
                const minutes = (key: "jam_s" | "dense_s") => rows.reduce((sum, each) => sum + each[key], 0) / 60 / days;
                return { hour, stack: [["closed", minutes("jam_s")], ["unsure", minutes("dense_s")]], title: `${hour}:00 · ${number(minutes("jam_s"), 1)} ${t("jamMinutes")}, ${number(minutes("dense_s"), 1)} ${t("denseMinutes")}` };
              });
              return (
                <section class="card" key={name}>
                  <h2>{title}</h2>
                  <div class="figures">
                    {total > 0 && (
                      <span>
                        <b>{number(total)}</b> {t("vehicles")}
                      </span>
                    )}
                    <span>
                      <b>{howLong(jam_s * 1000)}</b> {t("traffic.jam").toLowerCase()}
                    </span>
                  </div>
                  {total > 0 && (
                    <>
                      <HourChart label={`${title}: ${t("vehicles")}, ${t("byHour")}`} unit={(value) => number(value)} hours={counted} />
                      <p class="legend">
                        {THINGS.map(([mark, things]) => (
                          <span key={mark}>
                            <svg class="swatch chart" viewBox="0 0 16 12" aria-hidden="true">
                              <rect class={mark} width="16" height="12" />
                            </svg>
                            {things.map((thing) => said("class", thing)).join(", ")}
                          </span>
                        ))}
                      </p>
                    </>
                  )}
                  <HourChart label={`${title}: ${t("jamMinutes")}, ${t("byHour")}`} unit={(value) => number(value, 1)} hours={jammed} />
                  <p class="legend">
                    <span>
                      <svg class="swatch chart" viewBox="0 0 16 12" aria-hidden="true">
                        <rect class="closed" width="16" height="12" />
                      </svg>
                      {t("jamMinutes")} {t("perHour")}
                    </span>
                    <span>
                      <svg class="swatch chart" viewBox="0 0 16 12" aria-hidden="true">
                        <rect class="unsure" width="16" height="12" />
                      </svg>
                      {t("denseMinutes")} {t("perHour")}
                    </span>
                  </p>
                </section>
              );
            })}
          </div>
        );
      }}
    </Shown>
  );
}

const KINDS = { opening: "reportOpening", waiting: "reportWaiting", traffic: "reportTraffic" } as const;

export function Reports() {
  const { query } = useLocation();
  const kind = (query.kind && query.kind in KINDS ? query.kind : "opening") as keyof typeof KINDS;
  const now = isoDay(hubNow()).slice(0, 7);
  const month = query.month && /^\d{4}-\d\d$/.test(query.month) ? query.month : now;
  const address = (toKind: string, toMonth: string) => `/reports?kind=${toKind}&month=${toMonth}`;
  const Body = { opening: Opening, waiting: Waiting, traffic: Traffic }[kind];
  return (
    <>
      <div class="head">
        <h1>
          {t(KINDS[kind])}, {monthWords(cityTime(`${month}-15`, "12:00"))}
        </h1>
        <Tabs label={t("reports")} chosen={kind} items={(Object.keys(KINDS) as (keyof typeof KINDS)[]).map((key) => [key, address(key, month), t(KINDS[key]), null])} />
        <div class="bar noprint">
          <a class="button" aria-label={t("previousMonth")} href={address(kind, monthBy(month, -1))}>
            <Icon name="left" />
          </a>
          {month < now && (
            <a class="button" aria-label={t("nextMonth")} href={address(kind, monthBy(month, 1))}>
              <Icon name="right" />
            </a>
          )}
          <a class="button" href={`/api/v1/reports/${kind}?month=${month}&format=csv&language=${language.value}`} download={`${kind}-${month}.csv`}>
            <Icon name="download" /> {t("csv")}
          </a>
          <button type="button" onClick={() => window.print()}>
            <Icon name="print" /> {t("print")}
          </button>
        </div>
      </div>
      <Body month={month} />
      <p class="onlyprint hint">{t("printed", `${dayWords(hubNow())}, ${hourMinute(hubNow())}`)}</p>
    </>
  );
}
