// One alert in a list, with what can be done about it. None goes away without a word.

import { useState } from "preact/hooks";
import { ApiFault, ask } from "../api";
import { howLong, hubNow, moment, second } from "../time";
import { said, t } from "../words";
import { Icon } from "./icon";
import { InstructAlert, alertPlace, alertWords, changedAlerts, lastInstruction, type Alert } from "./instruct";
import { ReasonDialog } from "./reason";
import { Badge, Fault, type Tone } from "./small";

const TONE: Record<Alert["state"], Tone> = { open: "bad", acknowledged: "busy", instructed: "busy", done: "quiet" };

function DoneDialog(props: { alert: Alert; onClose: () => void }) {
  const send = (note: string) => ask(`/alerts/${props.alert.id}/done`, "POST", { note }).then(() => changedAlerts(props.alert.id));
  const button = (
    <>
      <Icon name="check" /> {t("markDone")}
    </>
  );
  return (
    <ReasonDialog title={t("doneTitle")} label={t("doneNote")} hint={t("doneNoteHint")} name="note" button={button} send={send} onClose={props.onClose}>
      <p>
        <b>
          {alertPlace(props.alert)}: {alertWords(props.alert)}
        </b>
      </p>
    </ReasonDialog>
  );
}

export function AlertActions(props: { alert: Alert }) {
  const { alert } = props;
  const [dialog, setDialog] = useState<"" | "instruct" | "done">("");
  const [fault, setFault] = useState<ApiFault | null>(null);
  if (!alert.may_act || alert.state === "done") return null;
  const acknowledge = async () => {
    try {
      await ask(`/alerts/${alert.id}/acknowledge`, "POST", {});
      setFault(null);
    } catch (error) {
      setFault(error as ApiFault);
    }
    changedAlerts(alert.id);
  };
  return (
    <div class="do">
      {alert.state === "open" && (
        <button type="button" data-do="acknowledge" onClick={() => void acknowledge()}>
          <Icon name="check" /> {t("acknowledge")}
        </button>
      )}
      <button type="button" class={alert.state === "instructed" ? "" : "main"} data-do="instruct" onClick={() => setDialog("instruct")}>
        <Icon name="send" /> {t("instruct")}
      </button>
      {alert.state !== "open" && (
        <button type="button" class={alert.state === "instructed" ? "main" : ""} data-do="done" onClick={() => setDialog("done")}>
          {t("done")}
        </button>
      )}
      <Fault fault={fault} />
      {dialog === "instruct" && <InstructAlert alert={alert} onClose={() => setDialog("")} />}
      {dialog === "done" && <DoneDialog alert={alert} onClose={() => setDialog("")} />}
    </div>
  );
}

export function OrderWords(props: { alert: Alert }) {
  second.value;
  const order = lastInstruction(props.alert);
  if (!order) return null;
  const lateMs = hubNow() - order.due_ms;
  const isLate = props.alert.state !== "done" && !order.done_ms && lateMs > 0;
  return (
    <div class={`order${isLate ? " late" : ""}`}>
      <b>
        <Icon name="send" /> {order.to}
      </b>
      {order.what}
      <br />
      <small>
        {isLate ? t("overdue", howLong(lateMs)) : t("dueBy", moment(order.due_ms))} · {order.by}
      </small>
    </div>
  );
}

export function AlertCard(props: { alert: Alert }) {
  const { alert } = props;
  const [noShot, setNoShot] = useState(false);
  second.value;
  const still = alert.still_url;
  const isOver = Boolean(alert.over_ms);
  return (
    <article class={`alert ${alert.state}`} data-alert={alert.id} data-kind={alert.kind}>
      <a class="shot" href={`/alerts/${alert.id}`} tabIndex={-1} aria-hidden="true">
        {still && !noShot ? <img src={still} alt="" loading="lazy" onError={() => setNoShot(true)} /> : <Icon name={alert.camera_id ? "down" : "boxes"} />}
      </a>
      <div>
        <p class="bar">
          <Badge tone={TONE[alert.state]} icon={alert.state === "open" ? "warn" : alert.state === "done" ? "check" : "send"}>
            {said("alert", alert.state)}
          </Badge>
          {alert.state !== "done" && <small>{isOver ? t("ended") : t("happening")}</small>}
        </p>
        <h3>
          <a href={`/alerts/${alert.id}`}>
            {alertPlace(alert)}: {alertWords(alert)}
          </a>
        </h3>
        <p class="hint">
          {t("since", moment(alert.first_ms))}
          {alert.count > 1 && ` · ${t("times", alert.count)}, ${t("lastSeen", moment(alert.last_ms))}`}
        </p>
        <OrderWords alert={alert} />
      </div>
      <AlertActions alert={alert} />
    </article>
  );
}
