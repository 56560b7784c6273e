// Events in a list: what, where, when, with the picture they rest on.

import { useState } from "preact/hooks";
import { titled, type Title } from "../api";
import { clock, howLong, moment } from "../time";
import { isKnown, said, t } from "../words";

export interface StoredEvent {
  id: string;
  camera_id: number;
  camera?: string;
  place: string;
  place_title: Title;
  kind: string;
  zone: string;
  state: string;
  is_end: boolean;
  is_moment?: boolean;
  from_ms: number;
  to_ms: number | null;
  numbers?: Record<string, number>;
  words?: Record<string, string>;
  still_url: string | null;
  clip: string | null;
}

export interface EventsAnswer {
  now_ms?: number;
  events: StoredEvent[];
}

export function eventWords(each: StoredEvent): string {
  const state = said("state", each.state);
  return `${said("event", each.kind)}: ${state}${each.is_end ? ` (${t("ended")})` : ""}`;
}

/** What ended is told once: its end says all that its beginning said, and how long it was. */
export function toldOnce(events: StoredEvent[]): StoredEvent[] {
  const key = (each: StoredEvent) => [each.camera_id, each.kind, each.zone, each.from_ms].join("/");
  const ended = new Set(events.filter((each) => each.is_end).map(key));
  return events.filter((each) => each.is_end || !ended.has(key(each)));
}

function EventStill(props: { event: StoredEvent }) {
  const [isGone, setGone] = useState(false);
  const url = props.event.still_url;
  return url && !isGone ? <img src={url} alt="" loading="lazy" onError={() => setGone(true)} /> : null;
}

export function EventList(props: { events: StoredEvent[]; onChoose?: (event: StoredEvent) => void; isNamed?: boolean }) {
  const events = toldOnce(props.events);
  if (events.length === 0) return <p class="hint">{t("noEvents")}</p>;
  return (
    <ul class="list events">
      {events.map((each) => {
        const lasted = each.to_ms && each.to_ms - each.from_ms > 1000 ? howLong(each.to_ms - each.from_ms) : "";
        const thing = each.words?.class ?? each.words?.thing;
        return (
          <li key={each.id}>
            <EventStill event={each} />
            <div class="words">
              <b>{eventWords(each)}</b>
              {thing && isKnown("one", thing) && <span> · {said("one", thing)}</span>}
              <br />
              <small>
                <time>{props.onChoose ? clock(each.from_ms) : moment(each.from_ms)}</time>
                {lasted && ` · ${lasted}`}
                {!props.onChoose && props.isNamed && ` · ${titled(each.place_title)}`}
              </small>
            </div>
            {props.onChoose ? (
              <button type="button" class="quiet" onClick={() => props.onChoose!(each)}>
                {t("show")}
              </button>
            ) : (
              <a class="button quiet" href={`/cameras/${each.camera_id}?at=${each.from_ms}`}>
                {t("show")}
              </a>
            )}
          </li>
        );
      })}
    </ul>
  );
}
