// One place as the mayor reads it: state, since when, who waits, what happened; the proof one touch away.

import { may, titled, type Incident, type Place } from "../api";
import { standing } from "../board";
import { whyWords } from "../judge";
import { howLong, hubNow, moment, number, second } from "../time";
import { said, t } from "../words";
import { EvidenceButton, claimAt } from "./evidence";
import { Icon } from "./icon";
import { Badge } from "./small";

export function waitingWords(queue: NonNullable<Place["queue"]>): string {
  const { waiting, waiting_least: least, waiting_most: most } = queue;
  if (waiting === null) return "";
  if (waiting === 0 && !most) return t("waitingNone");
  if (most === null) return t("waiting", t("orMore", number(waiting)));
  const words = t("waiting", number(waiting));
  return least !== null && least !== most ? `${words} (${t("waitingRange", number(least), number(most))})` : words;
}

export function speedWords(speed: { value: number; unit: string } | null): string {
  return speed?.unit === "m_s" ? t("speedKmh", number(speed.value * 3.6)) : ""; // pixels a second say nothing to people
}

const CLASSES = ["two-wheeler", "car", "truck", "bus", "person", "animal", "moving"];

export function countWords(counts: Record<string, number>): string {
  return Object.entries(counts)
    .filter(([, count]) => count > 0)
    .sort(([a], [b]) => CLASSES.indexOf(a) - CLASSES.indexOf(b))
    .map(([thing, count]) => `${number(count)} ${said(count === 1 ? "one" : "class", thing)}`)
    .join(" · ");
}

export const incidentWords = (each: Incident) => `${said("event", each.kind)}: ${said("state", each.state)}`;

export function PlaceFacts(props: { place: Place }) {
  const { place } = props;
  const { queue, traffic } = place;
  const title = titled(place.title);
  const wrong = Object.entries(place.state_of_cameras).reduce((sum, [state, count]) => (state === "live" ? sum : sum + count), 0);
  second.value;
  const doubt = whyWords(place.service?.why) || whyWords(traffic?.why);
  return (
    <ul class="facts">
      {doubt && (
        <li>
          <Icon name="question" />
          <span>{doubt}</span>
        </li>
      )}
      {!!place.service?.sure_ms && hubNow() - place.service.sure_ms > 60_000 && (
        <li>
          <Icon name="clock" />
          <span>{t("closedSureUntil", moment(place.service.sure_ms))}</span>
        </li>
      )}
      {queue && queue.waiting !== null && (
        <li>
          <Icon name="people" />
          <span>
            {waitingWords(queue)}
            {queue.waiting > 0 && queue.wait_s ? `, ${t("waitLongest", howLong(queue.wait_s * 1000))}` : ""}
          </span>
        </li>
      )}
      {traffic && (speedWords(traffic.speed) || countWords(traffic.counts)) && (
        <li>
          <Icon name="reports" />
          <span>{[speedWords(traffic.speed), countWords(traffic.counts)].filter(Boolean).join(" · ")}</span>
        </li>
      )}
      {place.incidents.map((each) => (
        <li key={`${each.kind}${each.zone}${each.since_ms}`} class="bad">
          <Icon name="warn" />
          <span>
            {incidentWords(each)}, {t("since", moment(each.since_ms))}
          </span>
          <EvidenceButton title={title} claim={claimAt(incidentWords(each), each.since_ms)} evidence={{ event: each.event, camera_id: each.camera_id, still_url: each.still_url, at_ms: each.since_ms }} />
        </li>
      ))}
      {wrong > 0 && (
        <li class="bad">
          <Icon name="down" />
          <span>{t("camerasWrong", wrong)}</span>
        </li>
      )}
    </ul>
  );
}

export function PlaceCard(props: { place: Place; onInstruct: ((place: Place) => void) | null }) {
  const { place } = props;
  const so = standing(place);
  const title = titled(place.title);
  second.value;
  const evidence = place.service?.evidence ?? place.traffic?.evidence;
  const first = place.cameras[0];
  const camera = evidence?.camera_id ?? (typeof first === "number" ? first : first?.id);
  return (
    <article class={`place ${so.group === "needsYou" ? "bad" : so.tone}`} data-place={place.name} data-group={so.group}>
      <header>
        <h3>
          <a href={`/places/${encodeURIComponent(place.name)}`}>{title}</a>
        </h3>
        <span class="kind">{said("kind", place.kind)}</span>
      </header>
      <p class="now">
        <Badge tone={so.tone} icon={so.icon} large>
          {so.words}
        </Badge>
        {so.note && <span>{so.note}</span>}
        {so.sinceMs && (
          <span class="since">
            {t("since", moment(so.sinceMs))} ({howLong(hubNow() - so.sinceMs)})
          </span>
        )}
      </p>
      <PlaceFacts place={place} />
      <p class="bar">
        <EvidenceButton title={title} claim={claimAt(so.words, so.sinceMs)} evidence={evidence} />
        {so.group === "needsYou" && props.onInstruct && may("act") && (
          <button type="button" class="main" onClick={() => props.onInstruct!(place)}>
            <Icon name="send" /> {t("instruct")}
          </button>
        )}
        {camera !== undefined && camera !== null && (
          <a class="button quiet" href={`/cameras/${camera}`}>
            {t("goCamera")}
          </a>
        )}
      </p>
    </article>
  );
}
