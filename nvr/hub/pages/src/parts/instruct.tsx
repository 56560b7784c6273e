// An instruction: to whom, what, by when. It always hangs on an alert, so that its end is asked for.

import { useState } from "preact/hooks";
import { ApiFault, ask, resource, titled, useAnswer, type Place, type Title } from "../api";
import { cityTime, dayAfter, hourMinute, hubNow, isoDay } from "../time";
import { language, said, t } from "../words";
import { Icon } from "./icon";
import { Dialog, Fault, Field, Loading, input } from "./small";

export interface Instruction {
  to: string;
  what: string;
  due_ms: number;
  by: string;
  created_ms: number;
  done_ms: number | null;
}

export interface Step {
  at_ms: number;
  who: string; // "": the hub itself
  what: string;
  more: Record<string, unknown>;
}

export interface Alert {
  id: number;
  version: number;
  state: "open" | "acknowledged" | "instructed" | "done";
  kind: string;
  what: string;
  value: number;
  place: string | null;
  place_title: Title | null;
  camera_id: number | null;
  camera: string | null;
  box_name: string | null;
  first_ms: number;
  last_ms: number;
  over_ms: number | null;
  due_ms: number | null;
  is_overdue: boolean;
  may_act: boolean;
  count: number;
  instructions: Instruction[]; // the newest first
  still_url: string | null;
  steps?: Step[];
}

export interface AlertsAnswer {
  now_ms: number;
  alerts: Alert[];
}

/** What happened, in words: "Tutup, seharusnya buka", "Macet". */
export const alertWords = (alert: Alert): string => kindWords(alert.kind, alert.what);

export function kindWords(kind: string, what: string): string {
  const words = said("alarm", `${kind}/${what}`);
  return words !== `${kind}/${what}` ? words : `${said("event", kind)}: ${said("state", what)}`;
}

/** "Puskesmas Waihaong (loket)": a place may have several cameras, and an alert is of one. */
export function alertPlace(alert: Alert): string {
  const where = titled(alert.place_title) || alert.box_name || alert.place || "";
  const own = alert.camera && alert.place && alert.camera.startsWith(`${alert.place}-`) ? alert.camera.slice(alert.place.length + 1).replaceAll("-", " ") : alert.camera;
  return own && own !== where ? `${where} (${own})` : where;
}

export const lastInstruction = (alert: Alert): Instruction | null => alert.instructions[0] ?? null;

const QUICK: Record<string, ("quickOpen" | "quickStaff" | "quickTraffic" | "quickLook" | "quickCamera")[]> = {
  service_open: ["quickOpen", "quickLook"],
  queue: ["quickStaff", "quickLook"],
  congestion: ["quickTraffic", "quickLook"],
  stopped_vehicle: ["quickTraffic", "quickLook"],
};

export const changedAlerts = (id?: number) => {
  for (const path of ["/alerts?state=open", "/alerts?state=acknowledged,instructed", "/alerts?state=done", ...(id ? [`/alerts/${id}`] : [])]) {
    const found = resource(path, "alerts");
    if (found.isUsed) void found.refresh();
  }
};

export function InstructDialog(props: { title: string; kind: string; send: (body: { to: string; what: string; due_ms: number }) => Promise<unknown>; onClose: () => void }) {
  const [to, setTo] = useState("");
  const [what, setWhat] = useState("");
  const now = hubNow();
  const today = isoDay(now);
  const dayEnd = cityTime(today, "16:00");
  const morning = cityTime(dayAfter(today, 1), "09:00");
  const terms: [string, number][] = [
    [t("in30"), now + 30 * 60_000],
    [t("in120"), now + 120 * 60_000],
    ...(dayEnd > now + 60 * 60_000 ? ([[t("endOfDay", hourMinute(dayEnd)), dayEnd]] as [string, number][]) : []),
    [t("tomorrow", hourMinute(morning)), morning],
  ];
  const [term, setTerm] = useState(0);
  const [day, setDay] = useState(today);
  const [time, setTime] = useState(hourMinute(now + 120 * 60_000));
  const [fault, setFault] = useState<ApiFault | null>(null);
  const [isBusy, setBusy] = useState(false);
  const own = term === terms.length;
  const submit = async (event: Event) => {
    event.preventDefault();
    setBusy(true);
    try {
      await props.send({ to: to.trim(), what: what.trim(), due_ms: Math.round(own ? cityTime(day, time) : terms[term]![1]) });
      props.onClose();
    } catch (error) {
      setFault(error as ApiFault);
    }
    setBusy(false);
  };
  return (
    <Dialog title={t("instructTitle")} onClose={props.onClose}>
      <form class="inside" onSubmit={(event) => void submit(event)}>
        <p>
          <b>{props.title}</b>
        </p>
        <Field label={t("toWhom")}>
          <input required autofocus maxLength={200} placeholder={t("toWhomHint")} value={to} onInput={input(setTo)} name="to" />
        </Field>
        <Field label={t("what")}>
          <textarea required maxLength={2000} value={what} onInput={input(setWhat)} name="what" />
        </Field>
        <div class="quick">
          {(QUICK[props.kind] ?? ["quickLook", "quickCamera"]).map((key) => (
            <button key={key} type="button" onClick={() => setWhat(t(key))}>
              {t(key)}
            </button>
          ))}
        </div>
        <Field label={t("byWhen")}>
          <div class="quick" role="group" aria-label={t("byWhen")}>
            {terms.map(([words], number) => (
              <button key={words} type="button" aria-pressed={term === number} onClick={() => setTerm(number)}>
                {words}
              </button>
            ))}
            <button type="button" aria-pressed={own} onClick={() => setTerm(terms.length)}>
              <Icon name="clock" />
            </button>
          </div>
        </Field>
        {own && (
          <div class="times">
            <input type="date" lang={language.value} required value={day} min={today} onInput={input(setDay)} aria-label={t("byWhen")} />
            <input type="time" required value={time} onInput={input(setTime)} aria-label={t("byWhen")} />
          </div>
        )}
        <Fault fault={fault} />
        <p class="bar end">
          <button type="button" onClick={props.onClose}>
            {t("cancel")}
          </button>
          <button class="main" disabled={isBusy}>
            <Icon name="send" /> {t("sendInstruction")}
          </button>
        </p>
      </form>
    </Dialog>
  );
}

export const InstructAlert = (props: { alert: Alert; onClose: () => void }) => (
  <InstructDialog
    title={`${alertPlace(props.alert)}: ${alertWords(props.alert)}`}
    kind={props.alert.kind}
    onClose={props.onClose}
    send={async (body) => {
      await ask(`/alerts/${props.alert.id}/instruct`, "POST", body);
      changedAlerts(props.alert.id);
    }}
  />
);

/** From a place: on its newest alert that is not done, or on one that is opened for it. */
export function InstructPlace(props: { place: Place; onClose: () => void }) {
  const answer = useAnswer<AlertsAnswer>("/alerts?state=open,acknowledged,instructed", "alerts");
  if (!answer.data) return answer.fault ? null : <Loading />;
  const alert = answer.data.alerts.filter((each) => each.place === props.place.name).sort((a, b) => a.value - b.value || b.last_ms - a.last_ms)[0];
  if (alert) return <InstructAlert alert={alert} onClose={props.onClose} />;
  return (
    <InstructDialog
      title={titled(props.place.title)}
      kind={props.place.service ? "service_open" : "congestion"}
      onClose={props.onClose}
      send={async (body) => {
        await ask("/alerts", "POST", { place: props.place.name, ...body });
        changedAlerts();
      }}
    />
  );
}
