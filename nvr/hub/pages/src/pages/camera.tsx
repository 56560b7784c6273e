// One camera: how it is now, live, its day, what was fetched from it and the proof of that.

import { useLocation } from "preact-iso";
import { useEffect, useState } from "preact/hooks";
import { ApiFault, ask, titled, useAnswer, type WallCamera } from "../api";
import { EventList, toldOnce, type StoredEvent } from "../parts/events";
import { ClipList, type Clip } from "../parts/clips";
import { Icon } from "../parts/icon";
import { Fault, Field, Shown, input } from "../parts/small";
import { Strip, causeWords, type Span } from "../parts/strip";
import { ownName } from "../parts/tile";
import { Viewer, type Stored } from "../parts/viewer";
import { DAY_MS, cityTime, clock, dayAfter, dayWords, howLong, hubNow, isoDay, number } from "../time";
import { said, t } from "../words";

interface CameraAnswer extends WallCamera {
  streams: { stream: string; width?: number; height?: number }[];
  may: string[];
}

interface Timeline {
  spans: Span[];
  events: StoredEvent[];
  ledger: { recorded_s?: number; missing_s?: number }; // the box's own count of today
  counted: { from_ms: number; to_ms: number; at_ms: number } | null; // where the spans are to the second
}

interface Command {
  id: string;
  state: "waiting" | "sent" | "answered" | "refused" | "withdrawn" | "done";
  detail: string;
  received_bytes: number | null;
  size_bytes: number | null;
}

const FETCH_MOST_MS = 3_600_000;
const EVENTS_SHOWN = 60; // the newest of the day; all of them are on the strip
const PLAY_BEFORE_MS = 5_000;

function FetchForm(props: { camera: WallCamera; day: string; fromMs: number | null; toMs: number | null; onMarks: (from: number | null, to: number | null) => void; onAsked: () => void }) {
  const { day, fromMs, toMs } = props;
  const [reason, setReason] = useState("");
  const [isAsked, setAsked] = useState(false);
  const [fault, setFault] = useState<ApiFault | null>(null);
  const time = (ms: number | null) => (ms === null ? "" : clock(ms));
  const submit = async (event: Event) => {
    event.preventDefault();
    if (fromMs === null || toMs === null || !(toMs > fromMs) || toMs - fromMs > FETCH_MOST_MS) return setFault(new ApiFault(0, t("badSpan")));
    try {
      await ask(`/cameras/${props.camera.id}/fetch`, "POST", { from_ms: Math.round(fromMs), to_ms: Math.round(toMs), reason: reason.trim() });
      setFault(null);
      setAsked(true);
      props.onAsked();
    } catch (error) {
      setFault(error as ApiFault);
    }
  };
  const take = (which: "from" | "to") => (value: string) => {
    const ms = cityTime(day, value);
    if (!Number.isNaN(ms)) props.onMarks(which === "from" ? ms : fromMs, which === "to" ? ms : toMs);
  };
  return (
    <form class="card" onSubmit={(event) => void submit(event)}>
      <h2>{t("fetchTitle")}</h2>
      <p class="hint">{t("fetchHint")}</p>
      <div class="times">
        <Field label={t("from")}>
          <input type="time" step="1" required value={time(fromMs)} onChange={(event) => take("from")(event.currentTarget.value)} name="from" />
        </Field>
        <Field label={t("to")}>
          <input type="time" step="1" required value={time(toMs)} onChange={(event) => take("to")(event.currentTarget.value)} name="to" />
        </Field>
      </div>
      <Field label={t("reason")}>
        <input required minLength={3} maxLength={300} placeholder={t("reasonHint")} value={reason} onInput={input(setReason)} name="reason" />
      </Field>
      <Fault fault={fault} />
      {isAsked && (
        <p class="note" role="status">
          {t("fetchAsked")}
        </p>
      )}
      <p class="bar end">
        <button class="main">
          <Icon name="download" /> {t("fetch")}
        </button>
      </p>
    </form>
  );
}

function Fetching(props: { span: Span }) {
  const { span } = props;
  const { data } = useAnswer<Command>(`/commands/${span.command}`, "commands");
  const percent = data?.size_bytes ? Math.floor((100 * (data.received_bytes ?? 0)) / data.size_bytes) : null;
  const words = percent !== null ? t("command.uploading", percent) : said("command", data?.state ?? "waiting", data?.detail ?? "");
  return (
    <li data-command={span.command ?? ""}>
      <span class="words num">
        {clock(span.from_ms)} – {clock(span.to_ms)}
      </span>
      <small>{words}</small>
    </li>
  );
}

const gapLong = (ms: number) => (ms < 10_000 ? t("seconds", number(ms / 1000, 1)) : howLong(ms));

const COUNT_WAITS_MS = [500, 1000, 2000, 4000, 8000, 15_000];

/** Ask the box to count every second of a day when it is opened; `onCounted` once it has. A box that is silent or old is not waited for. */
function useCount(cameraId: number, fromMs: number, toMs: number, isWanted: boolean, onCounted: () => void): "" | "counting" | "failed" {
  const [state, setState] = useState<"" | "counting" | "failed">("");
  useEffect(() => {
    let isGone = false;
    const count = async () => {
      setState("counting");
      try {
        const { id } = await ask<Command>(`/cameras/${cameraId}/count`, "POST", { from_ms: fromMs, to_ms: toMs });
        for (const waitMs of COUNT_WAITS_MS) {
          await new Promise((resolve) => setTimeout(resolve, waitMs));
          if (isGone) return;
          const { state } = await ask<Command>(`/commands/${id}`);
          if (state !== "waiting" && state !== "sent") {
            if (isGone) return;
            setState(state === "answered" ? "" : "failed");
            return onCounted();
          }
        }
        setState("failed");
      } catch {
        if (!isGone) setState("failed");
      }
    };
    if (isWanted) void count();
    return () => void (isGone = true);
  }, [cameraId, fromMs, isWanted]);
  return state;
}

function Day(props: { camera: CameraAnswer; title: string; atMs: number | null; onPlay: (stored: Stored) => void }) {
  const { camera } = props;
  const mayFootage = camera.may.includes("footage");
  const [chosen, setChosen] = useState<number | null>(props.atMs);
  const [day, setDay] = useState(isoDay(props.atMs ?? hubNow()));
  const [marks, setMarks] = useState<[number | null, number | null]>([null, null]);
  useEffect(() => {
    if (props.atMs !== null) {
      setChosen(props.atMs);
      setDay(isoDay(props.atMs));
      setMarks([props.atMs - 60_000, props.atMs + 60_000]);
    }
  }, [props.atMs]);
  const fromMs = cityTime(day, "00:00");
  const toMs = fromMs + DAY_MS;
  const answer = useAnswer<Timeline>(`/cameras/${camera.id}/timeline?from_ms=${fromMs}&to_ms=${toMs}`, "places");
  const counting = useCount(camera.id, fromMs, toMs, mayFootage, answer.again);
  const go = (days: number) => {
    setDay(dayAfter(day, days));
    setChosen(null);
    setMarks([null, null]);
  };
  const stored = useAnswer<{ clips: Clip[] }>(mayFootage ? `/clips?camera=${camera.id}&from_ms=${fromMs}&to_ms=${toMs}` : "/session", "places");
  const clips = (mayFootage && stored.data?.clips) || [];
  const events = (answer.data?.events ?? []).filter((each) => !each.is_moment);
  const spans = answer.data?.spans ?? [];
  const ledger = answer.data?.ledger;
  const counted = answer.data?.counted;
  const fetching = spans.filter((each) => each.what === "fetching");
  const gaps = spans.filter((each) => each.what === "missing");
  const choose = (ms: number) => {
    setChosen(ms);
    const clip = clips.find((each) => each.from_ms <= ms && ms < each.to_ms);
    if (clip && mayFootage) props.onPlay({ url: `/api/v1/clips/${clip.sha256}#t=${((ms - clip.from_ms) / 1000).toFixed(1)}`, title: props.title, atMs: ms });
    else setMarks([ms, ms + 60_000]);
  };
  return (
    <section class="day">
      <div class="head">
        <h2>{dayWords(fromMs + DAY_MS / 2)}</h2>
        <span class="grow" />
        <button type="button" aria-label={t("previousDay")} onClick={() => go(-1)}>
          <Icon name="left" />
        </button>
        <input type="date" aria-label={t("today")} value={day} max={isoDay(hubNow())} onChange={(event) => event.currentTarget.value && (setDay(event.currentTarget.value), setChosen(null))} />
        <button type="button" aria-label={t("nextDay")} disabled={day >= isoDay(hubNow())} onClick={() => go(1)}>
          <Icon name="right" />
        </button>
      </div>
      <Shown answer={answer}>
        {() => (
          <>
            <Strip
              label={t("timelineLabel", props.title, dayWords(fromMs + DAY_MS / 2))}
              fromMs={fromMs}
              nowMs={hubNow()}
              spans={spans}
              events={events}
              chosenMs={chosen}
              markFrom={marks[0]}
              markTo={marks[1]}
              onChoose={choose}
              onMark={(which, ms) => setMarks(which === "from" ? [ms, marks[1] !== null && marks[1] > ms ? marks[1] : ms + 60_000] : [marks[0] ?? ms - 60_000, ms])}
            />
            <div class="two" style={{ marginTop: ".9rem" }}>
              <div>
                <section class="card">
                  <h2>{t("events")}</h2>
                  <EventList events={toldOnce(events).slice(-EVENTS_SHOWN).reverse()} onChoose={(event) => choose(event.from_ms - PLAY_BEFORE_MS)} />
                </section>
                <section class="card">
                  <h2>{t("gaps")}</h2>
                  <p class="hint" data-counted={counted ? "yes" : counting}>
                    {counted ? t("gapsCounted", clock(Math.max(counted.from_ms, fromMs)), clock(Math.min(counted.to_ms, toMs))) : counting === "counting" ? t("gapsCounting") : t("gapsHint")}
                  </p>
                  {day === isoDay(hubNow()) && typeof ledger?.missing_s === "number" && typeof ledger.recorded_s === "number" && (
                    <p>{t("ledgerToday", howLong(ledger.recorded_s * 1000), howLong(ledger.missing_s * 1000))}</p>
                  )}
                  {gaps.length === 0 ? (
                    <p class="hint">{spans.some((each) => each.what === "recorded") ? t("noGaps") : t("nothingKnown")}</p>
                  ) : (
                    <div class="scroll">
                      <table>
                        <thead>
                          <tr>
                            <th>{t("from")}</th>
                            <th>{t("to")}</th>
                            <th>{t("length")}</th>
                            <th>{t("cause")}</th>
                          </tr>
                        </thead>
                        <tbody>
                          {gaps.slice(-40).reverse().map((each) => (
                            <tr key={each.from_ms}>
                              <td class="num">{clock(each.from_ms)}</td>
                              <td class="num">{clock(each.to_ms)}</td>
                              <td>{gapLong(each.to_ms - each.from_ms)}</td>
                              <td>{causeWords(each.cause)}</td>
                            </tr>
                          ))}
                        </tbody>
                      </table>
                    </div>
                  )}
                </section>
              </div>
              <div>
                {mayFootage && <FetchForm camera={camera} day={day} fromMs={marks[0]} toMs={marks[1]} onMarks={(from, to) => setMarks([from, to])} onAsked={answer.again} />}
                {fetching.length > 0 && (
                  <section class="card">
                    <h2>{t("fetching")}</h2>
                    <ul class="list">
                      {fetching.map((each) => (
                        <Fetching key={each.command} span={each} />
                      ))}
                    </ul>
                  </section>
                )}
                {mayFootage && (
                  <section class="card">
                    <h2>{t("clipsHere")}</h2>
                    <ClipList clips={clips} onPlay={(clip) => props.onPlay({ url: `/api/v1/clips/${clip.sha256}`, title: props.title, atMs: clip.from_ms })} />
                  </section>
                )}
              </div>
            </div>
          </>
        )}
      </Shown>
    </section>
  );
}

export function CameraPage(props: { id: string }) {
  const id = Number(props.id);
  const { query } = useLocation();
  const answer = useAnswer<CameraAnswer>(`/cameras/${id}`, "wall");
  const wall = useAnswer<{ cameras: WallCamera[] }>("/wall", "wall");
  const [stored, setStored] = useState<Stored | null>(null);
  const atMs = query.at && /^\d+$/.test(query.at) ? Number(query.at) : null;
  useEffect(() => setStored(null), [id]);
  return (
    <Shown answer={answer}>
      {(about) => {
        const tile = wall.data?.cameras.find((each) => each.id === id);
        // The wall's answer is the one that says how the picture is; the camera's own says the rest.
        const camera: CameraAnswer = { ...about, ...tile };
        const title = titled(camera.place_title) || titled(camera.title);
        const streams = about.streams.map((each) => each.stream);
        const stream = streams.find((each) => each.endsWith("/small")) ?? streams[0] ?? `${camera.name}/main`;
        const full = streams.find((each) => each.endsWith("/main")) ?? `${camera.name}/main`;
        return (
          <>
            <p class="bar">
              <a class="button quiet" href="/wall">
                ‹ {t("wall")}
              </a>
            </p>
            <div class="head">
              <h1>
                {title}
                <small> · {ownName(camera)}</small>
              </h1>
              {camera.place && (
                <a class="button quiet" href={`/places/${encodeURIComponent(camera.place)}`}>
                  <Icon name="pin" /> {t("place")}
                </a>
              )}
            </div>
            <Viewer camera={camera} stream={window.innerWidth < 700 ? stream : full} small={stream} stored={stored} onLive={() => setStored(null)} />
            <Day camera={camera} title={title} atMs={atMs} onPlay={(what) => (setStored(what), window.scrollTo({ top: 0 }))} />
          </>
        );
      }}
    </Shown>
  );
}
