// What persons ask for under law 27/2022: entered, looked at, decided with a reason, and done. Three days to answer.

import { useLocation } from "preact-iso";
import { useState } from "preact/hooks";
import { ApiFault, ask, titled, useAnswer, type Place } from "../api";
import { Icon } from "../parts/icon";
import { Sections } from "../parts/sections";
import { Badge, Dialog, Empty, Fault, Field, Shown, input } from "../parts/small";
import { SpanFields, spanOf, spanWords, typedSpan } from "../parts/span";
import { DAY_MS, howLong, hubNow, moment, second } from "../time";
import { t } from "../words";

export interface PersonRequest {
  id: number;
  person: string;
  contact: string;
  places: string[] | null;
  from_ms: number;
  to_ms: number;
  reason: string;
  state: "received" | "granted" | "refused" | "done";
  received_ms: number;
  answer_by_ms: number;
  is_late: boolean;
  by: string;
  decided_ms: number | null;
  decided_by: string;
  answer: string;
  done_ms: number | null;
  deleted: number;
  kept_by_hold: number;
}

function NewRequest(props: { places: Place[]; onClose: () => void; again: () => void }) {
  const [person, setPerson] = useState("");
  const [contact, setContact] = useState("");
  const [chosen, setChosen] = useState<string[]>([]);
  const [typed, setTyped] = useState(() => typedSpan(hubNow() - DAY_MS, hubNow()));
  const [reason, setReason] = useState("");
  const [fault, setFault] = useState<ApiFault | null>(null);
  const { route } = useLocation();
  const submit = async (event: Event) => {
    event.preventDefault();
    const span = spanOf(typed);
    if (!span) return setFault(new ApiFault(0, t("endAfterStart")));
    try {
      const body = { ...span, person: person.trim(), contact: contact.trim(), reason: reason.trim(), places: chosen.length ? chosen : null };
      const made = await ask<{ id: number }>("/deletions", "POST", body);
      props.again();
      props.onClose();
      route(`/requests/${made.id}`);
    } catch (error) {
      setFault(error as ApiFault);
    }
  };
  return (
    <Dialog title={t("newRequest")} onClose={props.onClose}>
      <form class="inside" onSubmit={(event) => void submit(event)}>
        <Field label={t("person")} hint={t("personHint")}>
          <input required autofocus maxLength={300} value={person} onInput={input(setPerson)} name="person" />
        </Field>
        <Field label={t("contact")} hint={t("contactHint")}>
          <input maxLength={300} value={contact} onInput={input(setContact)} name="contact" />
        </Field>
        <fieldset class="choices scrolling">
          <legend>
            {t("where")} <small>{chosen.length ? t("chosenPlaces", chosen.length) : t("allPlaces")}</small>
          </legend>
          {props.places.map((each) => (
            <label key={each.name} class="check">
              <input
                type="checkbox"
                checked={chosen.includes(each.name)}
                onChange={() => setChosen(chosen.includes(each.name) ? chosen.filter((other) => other !== each.name) : [...chosen, each.name])}
              />
              <span>{titled(each.title)}</span>
            </label>
          ))}
        </fieldset>
        <SpanFields typed={typed} onChange={setTyped} />
        <Field label={t("requestReason")} hint={t("requestReasonHint")}>
          <textarea required maxLength={2000} value={reason} onInput={input(setReason)} name="reason" />
        </Field>
        <Fault fault={fault} />
        <p class="bar end">
          <button type="button" onClick={props.onClose}>
            {t("cancel")}
          </button>
          <button class="main">{t("enterRequest")}</button>
        </p>
      </form>
    </Dialog>
  );
}

export function StateOfRequest(props: { request: PersonRequest }) {
  const { request } = props;
  second.value;
  const left_ms = request.answer_by_ms - hubNow();
  if (request.state === "received")
    return left_ms < 0 ? (
      <Badge tone="bad" icon="warn">
        {t("answerLate", howLong(-left_ms))}
      </Badge>
    ) : (
      <Badge tone={left_ms < DAY_MS ? "unsure" : "busy"} icon="clock">
        {t("answerWithin", howLong(left_ms))}
      </Badge>
    );
  if (request.state === "granted")
    return (
      <Badge tone="busy" icon="clock">
        {t("beingDeleted")}
      </Badge>
    );
  return request.state === "done" ? (
    <Badge tone="good" icon="check">
      {t("requestDone")}
    </Badge>
  ) : (
    <Badge tone="quiet" icon="close">
      {t("requestRefused")}
    </Badge>
  );
}

export function whereWords(request: PersonRequest, places: Place[]): string {
  if (request.places === null) return t("allPlaces");
  return request.places.map((name) => titled(places.find((each) => each.name === name)?.title) || name).join(", ");
}

/** What waits for an answer, the most urgent first; then the rest, the newest first. */
const dueFirst = (a: PersonRequest, b: PersonRequest): number =>
  a.state === "received" && b.state === "received" ? a.answer_by_ms - b.answer_by_ms : Number(b.state === "received") - Number(a.state === "received") || b.id - a.id;

export function Requests() {
  const answer = useAnswer<{ deletions: PersonRequest[] }>("/deletions", "deletions");
  const places = useAnswer<{ places: Place[] }>("/places", "places").data?.places ?? [];
  const [isNew, setNew] = useState(false);
  return (
    <>
      <Sections here="requests" />
      <div class="head">
        <h1>{t("requestsTitle")}</h1>
        <button type="button" class="main" onClick={() => setNew(true)}>
          <Icon name="plus" /> {t("newRequest")}
        </button>
      </div>
      <p class="hint lead">{t("requestsHint")}</p>
      <Shown answer={answer}>
        {({ deletions }) =>
          deletions.length === 0 ? (
            <Empty icon="users" title={t("noRequests")} hint={t("noRequestsHint")} />
          ) : (
            <ul class="list rows card">
              {[...deletions].sort(dueFirst).map((each) => (
                <li key={each.id} data-request={each.id} data-state={each.state}>
                  <div class="words">
                    <b>{each.person}</b> <small class="num">{spanWords(each.from_ms, each.to_ms)}</small>
                    <br />
                    {whereWords(each, places)}
                    <br />
                    <small>{t("receivedBy", each.by, moment(each.received_ms))}</small>
                  </div>
                  <StateOfRequest request={each} />
                  <a class="button" href={`/requests/${each.id}`}>
                    {each.state === "received" ? t("lookAndDecide") : t("show")}
                  </a>
                </li>
              ))}
            </ul>
          )
        }
      </Shown>
      {isNew && <NewRequest places={places} onClose={() => setNew(false)} again={answer.again} />}
    </>
  );
}
