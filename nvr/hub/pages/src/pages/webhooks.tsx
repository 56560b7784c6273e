// Webhooks: other programs that are told when something happens. Each delivery is signed; what the receiver said last is here.

import { useState } from "preact/hooks";
import { ApiFault, ask, useAnswer } from "../api";
import { Icon } from "../parts/icon";
import { Once } from "../parts/once";
import { Sections } from "../parts/sections";
import { Badge, Dialog, Empty, Fault, Field, Shown, input } from "../parts/small";
import { moment } from "../time";
import { said, t } from "../words";

interface Webhook {
  id: number;
  title: string;
  url: string;
  what: ("alerts" | "events")[];
  is_on: boolean;
  by: string;
  waiting: number;
  failed: number;
  trouble: string;
  last_ms: number | null;
  last_trouble: string;
}

const WHAT = ["alerts", "events"] as const;

function NewWebhook(props: { onClose: () => void; again: () => void }) {
  const [title, setTitle] = useState("");
  const [url, setUrl] = useState("https://");
  const [what, setWhat] = useState<string[]>(["alerts"]);
  const [secret, setSecret] = useState("");
  const [fault, setFault] = useState<ApiFault | null>(null);
  const submit = async (event: Event) => {
    event.preventDefault();
    if (what.length === 0) return setFault(new ApiFault(0, t("whatNeeded")));
    try {
      setSecret((await ask<{ secret: string }>("/webhooks", "POST", { title: title.trim(), url: url.trim(), what })).secret);
      props.again();
    } catch (error) {
      setFault(error as ApiFault);
    }
  };
  return (
    <Dialog title={t("newWebhook")} onClose={props.onClose}>
      {secret ? (
        <div class="inside">
          <Once words={t("webhookMade")} secret={secret} onClose={props.onClose} />
        </div>
      ) : (
        <form class="inside" onSubmit={(event) => void submit(event)}>
          <Field label={t("webhookName")}>
            <input required autofocus maxLength={200} value={title} onInput={input(setTitle)} name="title" />
          </Field>
          <Field label={t("webhookUrl")} hint={t("webhookUrlHint")}>
            <input type="url" required maxLength={2000} pattern="https?://.+" value={url} onInput={input(setUrl)} name="url" />
          </Field>
          <fieldset class="choices">
            <legend>{t("webhookWhat")}</legend>
            {WHAT.map((each) => (
              <label key={each} class="check">
                <input
                  type="checkbox"
                  checked={what.includes(each)}
                  onChange={() => setWhat(what.includes(each) ? what.filter((other) => other !== each) : [...what, each])}
                  name={each}
                />
                <span>{said("hook", each)}</span>
              </label>
            ))}
          </fieldset>
          <Fault fault={fault} />
          <p class="bar end">
            <button type="button" onClick={props.onClose}>
              {t("cancel")}
            </button>
            <button class="main">{t("makeWebhook")}</button>
          </p>
        </form>
      )}
    </Dialog>
  );
}

function Last(props: { hook: Webhook }) {
  const { hook } = props;
  if (!hook.is_on)
    return (
      <Badge tone="quiet" icon="minus">
        {t("isOff")}
      </Badge>
    );
  if (hook.last_ms === null)
    return (
      <Badge tone="quiet" icon="question">
        {t("notCalledYet")}
      </Badge>
    );
  return hook.last_trouble ? (
    <Badge tone="bad" icon="warn">
      {t("lastFailed", moment(hook.last_ms))}
    </Badge>
  ) : (
    <Badge tone="good" icon="check">
      {t("lastTaken", moment(hook.last_ms))}
    </Badge>
  );
}

function WebhookCard(props: { hook: Webhook; again: () => void }) {
  const { hook } = props;
  const [fault, setFault] = useState<ApiFault | null>(null);
  const [isTrying, setTrying] = useState(false);
  const doing = async (method: string, path: string, body?: object) => {
    try {
      await ask(`/webhooks/${hook.id}${path}`, method, body);
      setFault(null);
    } catch (error) {
      if ((error as ApiFault).key !== "not delivered") setFault(error as ApiFault); // that one stands on the card
    }
    props.again();
  };
  const tryIt = async () => {
    setTrying(true);
    await doing("POST", "/try");
    setTrying(false);
  };
  return (
    <article class="card" data-webhook={hook.id}>
      <div class="bar">
        <h2 class="grow">{hook.title || t("untitled")}</h2>
        <Last hook={hook} />
      </div>
      <p>
        <code>{hook.url}</code>
      </p>
      {hook.is_on && hook.last_trouble && <p class="fault">{hook.last_trouble}</p>}
      <dl class="pairs">
        <dt>{t("webhookWhat")}</dt>
        <dd>{(hook.what.length ? hook.what : WHAT).map((each) => said("hook", each)).join(", ")}</dd>
        <dt>{t("hookQueue")}</dt>
        <dd class={hook.failed ? "bad" : ""}>{hook.waiting || hook.failed ? t("hookWaiting", hook.waiting, hook.failed) : t("hookNothing")}</dd>
        <dt>{t("madeBy")}</dt>
        <dd>{hook.by || "–"}</dd>
      </dl>
      <Fault fault={fault} />
      <p class="bar end">
        <button type="button" class="danger" onClick={() => confirm(t("removeSure", hook.title)) && void doing("DELETE", "")}>
          {t("remove")}
        </button>
        <button type="button" onClick={() => void doing("PATCH", "", { is_on: !hook.is_on })}>
          {hook.is_on ? t("switchOff") : t("switchOn")}
        </button>
        <button type="button" class="main" disabled={isTrying} onClick={() => void tryIt()}>
          <Icon name="send" /> {isTrying ? t("trying") : t("tryHook")}
        </button>
      </p>
    </article>
  );
}

export function Webhooks() {
  const answer = useAnswer<{ webhooks: Webhook[] }>("/webhooks", "webhooks");
  const [isNew, setNew] = useState(false);
  return (
    <>
      <Sections here="webhooks" />
      <div class="head">
        <h1>{t("webhooks")}</h1>
        <button type="button" class="main" onClick={() => setNew(true)}>
          <Icon name="plus" /> {t("newWebhook")}
        </button>
      </div>
      <p class="hint lead">{t("webhooksHint")}</p>
      <Shown answer={answer}>
        {({ webhooks }) =>
          webhooks.length === 0 ? (
            <Empty icon="send" title={t("noWebhooks")} hint={t("noWebhooksHint")} />
          ) : (
            <div class="boxes">
              {webhooks.map((hook) => (
                <WebhookCard key={hook.id} hook={hook} again={answer.again} />
              ))}
            </div>
          )
        }
      </Shown>
      {isNew && <NewWebhook onClose={() => setNew(false)} again={answer.again} />}
    </>
  );
}
