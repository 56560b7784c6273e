// One request of a person: what they asked, what the hub has of it now, the decision and what became of it.

import { useState } from "preact/hooks";
import { ApiFault, ask, titled, useAnswer, type Place } from "../api";
import { Sections } from "../parts/sections";
import { Badge, Fault, Field, Shown, input } from "../parts/small";
import { spanWords } from "../parts/span";
import { clock, isoDay, moment, shortDay, size } from "../time";
import { said, t } from "../words";
import { keptWords } from "./holds";
import { StateOfRequest, whereWords, type PersonRequest } from "./requests";

interface Thing {
  sha256: string;
  kind: "clip" | "still";
  place: string | null;
  camera_id: number | null;
  camera: string;
  from_ms: number;
  to_ms: number;
  size_bytes: number;
  is_held: boolean;
}

interface Look {
  deletion: PersonRequest;
  covered: { count: number; size_bytes: number };
  held: { count: number; size_bytes: number };
  things: Thing[];
}

function Decide(props: { look: Look; again: () => void }) {
  const { deletion, covered } = props.look;
  const [answer, setAnswer] = useState("");
  const [fault, setFault] = useState<ApiFault | null>(null);
  const decide = async (event: Event, granted: boolean) => {
    event.preventDefault();
    const form = (event.currentTarget as HTMLElement).closest("form")!;
    if (!form.reportValidity() || (granted && !confirm(t("grantSure", keptWords(covered))))) return;
    try {
      await ask(`/deletions/${deletion.id}/decide`, "POST", { granted, answer: answer.trim() });
    } catch (error) {
      setFault(error as ApiFault);
    }
    props.again();
  };
  return (
    <form class="card" onSubmit={(event) => event.preventDefault()}>
      <h2>{t("decide")}</h2>
      <p class="hint">{t("decideHint")}</p>
      <Field label={t("answerToPerson")} hint={t("answerToPersonHint")}>
        <textarea required minLength={3} maxLength={2000} value={answer} onInput={input(setAnswer)} name="answer" />
      </Field>
      <Fault fault={fault} />
      <p class="bar end">
        <button type="button" onClick={(event) => void decide(event, false)}>
          {t("refuse")}
        </button>
        <button type="button" class="danger" onClick={(event) => void decide(event, true)}>
          {t("grant")}
        </button>
      </p>
    </form>
  );
}

const thingTime = (thing: Thing) => `${shortDay(thing.from_ms)} ${clock(thing.from_ms)}${thing.to_ms - thing.from_ms >= 1000 ? ` – ${clock(thing.to_ms)}` : ""}`;

function Things(props: { look: Look; places: Place[] }) {
  const { covered, held, things } = props.look;
  return (
    <section class="card">
      <h2>{t("keptOfIt")}</h2>
      <p class="bar">
        <Badge tone={covered.count ? "busy" : "quiet"} icon={covered.count ? "play" : "check"}>
          {covered.count ? keptWords(covered) : t("nothingKept")}
        </Badge>
        {held.count > 0 && (
          <Badge tone="unsure" icon="lock">
            {t("heldOfIt", keptWords(held))}
          </Badge>
        )}
      </p>
      <p class="hint">{t("keptOfItHint")}</p>
      {things.length > 0 && (
        <ul class="list rows">
          {things.map((each) => (
            <li key={each.sha256}>
              <div class="words">
                {each.camera_id !== null ? <a href={`/cameras/${each.camera_id}?day=${isoDay(each.from_ms)}&at=${each.from_ms}`}>{thingTime(each)}</a> : thingTime(each)}
                <br />
                <small>
                  {titled(props.places.find((place) => place.name === each.place)?.title) || each.place || "–"} · {each.camera}
                </small>
              </div>
              {each.is_held && (
                <Badge tone="unsure" icon="lock">
                  {t("held")}
                </Badge>
              )}
              <span class="num">
                {said("thing", each.kind)}, {size(each.size_bytes)}
              </span>
            </li>
          ))}
        </ul>
      )}
      {things.length < covered.count + held.count && <p class="hint">{t("newestOnly", things.length)}</p>}
    </section>
  );
}

export function RequestPage(props: { id?: string }) {
  const answer = useAnswer<Look>(`/deletions/${encodeURIComponent(props.id ?? "")}`, "deletions");
  const places = useAnswer<{ places: Place[] }>("/places", "places").data?.places ?? [];
  return (
    <>
      <Sections here="requests" />
      <Shown answer={answer}>
        {(look) => {
          const { deletion } = look;
          return (
            <>
              <div class="head" data-request={deletion.id} data-state={deletion.state}>
                <h1>{t("requestOf", deletion.person)}</h1>
                <StateOfRequest request={deletion} />
              </div>
              <div class="sheets">
                <div>
                  <section class="card">
                    <h2>{t("whatIsAsked")}</h2>
                    <p>{deletion.reason}</p>
                    <dl class="pairs">
                      <dt>{t("where")}</dt>
                      <dd>{whereWords(deletion, places)}</dd>
                      <dt>{t("when")}</dt>
                      <dd>{spanWords(deletion.from_ms, deletion.to_ms)}</dd>
                      <dt>{t("contact")}</dt>
                      <dd>{deletion.contact || "–"}</dd>
                      <dt>{t("received")}</dt>
                      <dd>
                        {moment(deletion.received_ms)}, {deletion.by}
                      </dd>
                      <dt>{t("answerBy")}</dt>
                      <dd class={deletion.is_late ? "bad" : ""}>{moment(deletion.answer_by_ms)}</dd>
                    </dl>
                  </section>
                  {deletion.state === "received" ? (
                    <Decide look={look} again={answer.again} />
                  ) : (
                    <section class="card">
                      <h2>{deletion.state === "refused" ? t("requestRefused") : t("requestGranted")}</h2>
                      <p>{deletion.answer}</p>
                      <dl class="pairs">
                        <dt>{t("decided")}</dt>
                        <dd>
                          {deletion.decided_ms ? moment(deletion.decided_ms) : "–"}, {deletion.decided_by}
                        </dd>
                        {deletion.state !== "refused" && (
                          <>
                            <dt>{t("deletedThings")}</dt>
                            <dd>{deletion.deleted}</dd>
                            <dt>{t("keptByHold")}</dt>
                            <dd>{deletion.kept_by_hold}</dd>
                          </>
                        )}
                        {deletion.done_ms && (
                          <>
                            <dt>{t("requestDone")}</dt>
                            <dd>{moment(deletion.done_ms)}</dd>
                          </>
                        )}
                      </dl>
                    </section>
                  )}
                </div>
                <Things look={look} places={places} />
              </div>
              <p class="bar">
                <a class="button" href="/requests">
                  {t("back")}
                </a>
              </p>
            </>
          );
        }}
      </Shown>
    </>
  );
}
