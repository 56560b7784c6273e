// Notifications: which people are told what, by which service, and when not. The address holds keys of that service and is never shown again.

import { useState } from "preact/hooks";
import { ApiFault, ask, titled, useAnswer, type Place } from "../api";
import { Icon } from "../parts/icon";
import { Sections } from "../parts/sections";
import { Badge, Dialog, Empty, Fault, Field, Shown, input } from "../parts/small";
import { said, t } from "../words";

interface Notification {
  id: number;
  title: string;
  service: string;
  language: "id" | "en";
  quiet: string; // "22:00-06:00" in the city's time, or ""
  families: string[]; // none: all
  places: string[] | null; // null: all
  is_on: boolean;
  by: string;
  waiting: number;
  failed: number;
  trouble: string;
}

const FAMILIES = ["service", "queue", "traffic", "incident", "people", "picture", "footage", "box", "asked"];

const toggled = (list: string[], each: string): string[] => (list.includes(each) ? list.filter((other) => other !== each) : [...list, each]);

/** All of them, or these: a choice that cannot mean "none" by accident. */
function Some(props: { legend: string; all: string; some: string; name: string; items: [string, string][]; chosen: string[] | null; onChange: (chosen: string[] | null) => void }) {
  const { chosen } = props;
  return (
    <fieldset class="choices">
      <legend>{props.legend}</legend>
      <label class="check">
        <input type="radio" name={props.name} value="all" checked={chosen === null} onChange={() => props.onChange(null)} />
        <span>{props.all}</span>
      </label>
      <label class="check">
        <input type="radio" name={props.name} value="some" checked={chosen !== null} onChange={() => props.onChange(chosen ?? [])} />
        <span>{props.some}</span>
      </label>
      {chosen !== null && (
        <div class="choices scrolling">
          {props.items.map(([key, words]) => (
            <label key={key} class="check">
              <input type="checkbox" name={`${props.name}-${key}`} checked={chosen.includes(key)} onChange={() => props.onChange(toggled(chosen, key))} />
              <span>{words}</span>
            </label>
          ))}
        </div>
      )}
    </fieldset>
  );
}

function NotificationDialog(props: { known: Notification | null; places: Place[]; onClose: () => void; again: () => void }) {
  const { known } = props;
  const [title, setTitle] = useState(known?.title ?? "");
  const [address, setAddress] = useState("");
  const [language, setLanguage] = useState<string>(known?.language ?? "id");
  const [isQuiet, setQuiet] = useState(known ? known.quiet !== "" : true);
  const [from, setFrom] = useState(known?.quiet.slice(0, 5) || "22:00");
  const [to, setTo] = useState(known?.quiet.slice(6) || "06:00");
  const [families, setFamilies] = useState<string[] | null>(known?.families.length ? known.families : null);
  const [places, setPlaces] = useState<string[] | null>(known?.places ?? null);
  const [fault, setFault] = useState<ApiFault | null>(null);
  const submit = async (event: Event) => {
    event.preventDefault();
    if (families?.length === 0 || places?.length === 0) return setFault(new ApiFault(0, t("whatNeeded")));
    const body = { title: title.trim(), language, quiet: isQuiet ? `${from}-${to}` : "", families: families ?? [], places };
    try {
      if (known) await ask(`/notifications/${known.id}`, "PATCH", body);
      else await ask("/notifications", "POST", { ...body, address: address.trim() });
      props.again();
      props.onClose();
    } catch (error) {
      setFault(error as ApiFault);
    }
  };
  return (
    <Dialog title={known ? t("changeNotification") : t("newNotification")} onClose={props.onClose}>
      <form class="inside" onSubmit={(event) => void submit(event)}>
        <Field label={t("notificationFor")} hint={t("notificationForHint")}>
          <input required autofocus maxLength={200} value={title} onInput={input(setTitle)} name="title" />
        </Field>
        {known ? (
          <p class="hint">{t("addressKept", known.service)}</p>
        ) : (
          <Field label={t("appriseAddress")} hint={t("appriseHint")}>
            <input required maxLength={1000} pattern="[A-Za-z0-9+]+://.+" autocomplete="off" autocapitalize="none" spellcheck={false} value={address} onInput={input(setAddress)} name="address" />
          </Field>
        )}
        <Field label={t("messageLanguage")}>
          <select value={language} onChange={input(setLanguage)} name="language">
            <option value="id">Bahasa Indonesia</option>
            <option value="en">English</option>
          </select>
        </Field>
        <Some legend={t("aboutWhat")} all={t("aboutAll")} some={t("aboutThese")} name="families" items={FAMILIES.map((each) => [each, said("family", each)])} chosen={families} onChange={setFamilies} />
        <Some legend={t("fromWhere")} all={t("allPlaces")} some={t("thesePlaces")} name="places" items={props.places.map((each) => [each.name, titled(each.title)])} chosen={places} onChange={setPlaces} />
        <fieldset class="choices">
          <legend>{t("quietHours")}</legend>
          <label class="check">
            <input type="checkbox" name="quiet" checked={isQuiet} onChange={() => setQuiet(!isQuiet)} />
            <span>{t("quietOn")}</span>
          </label>
          {isQuiet && (
            <div class="bar">
              <Field label={t("from")}>
                <input type="time" required value={from} onInput={input(setFrom)} name="quiet-from" />
              </Field>
              <Field label={t("to")}>
                <input type="time" required value={to} onInput={input(setTo)} name="quiet-to" />
              </Field>
            </div>
          )}
          <p class="hint">{t("quietHint")}</p>
        </fieldset>
        <Fault fault={fault} />
        <p class="bar end">
          <button type="button" onClick={props.onClose}>
            {t("cancel")}
          </button>
          <button class="main">{known ? t("save") : t("makeNotification")}</button>
        </p>
      </form>
    </Dialog>
  );
}

function NotificationCard(props: { each: Notification; places: Place[]; again: () => void }) {
  const { each } = props;
  const [fault, setFault] = useState<ApiFault | null>(null);
  const [isTrying, setTrying] = useState(false);
  const [isTaken, setTaken] = useState(false);
  const [isChanging, setChanging] = useState(false);
  const doing = async (method: string, path: string, body?: object): Promise<boolean> => {
    setTaken(false);
    setFault(null);
    try {
      await ask(`/notifications/${each.id}${path}`, method, body);
      return true;
    } catch (error) {
      setFault(error as ApiFault);
      return false;
    } finally {
      props.again();
    }
  };
  const tryIt = async () => {
    setTrying(true);
    setTaken(await doing("POST", "/try"));
    setTrying(false);
  };
  const nameOf = (name: string) => {
    const place = props.places.find((other) => other.name === name);
    return place ? titled(place.title) : name;
  };
  return (
    <article class="card" data-notification={each.id}>
      <div class="bar">
        <h2 class="grow">
          {each.title || t("untitled")} <small>{each.service}</small>
        </h2>
        {!each.is_on ? (
          <Badge tone="quiet" icon="minus">
            {t("isOff")}
          </Badge>
        ) : each.trouble ? (
          <Badge tone="bad" icon="warn">
            {t("notArriving")}
          </Badge>
        ) : (
          <Badge tone="good" icon="check">
            {t("isOn")}
          </Badge>
        )}
      </div>
      {each.is_on && each.trouble && <p class="fault">{each.trouble}</p>}
      <dl class="pairs">
        <dt>{t("aboutWhat")}</dt>
        <dd>{each.families.length ? each.families.map((family) => said("family", family)).join(", ") : t("aboutAll")}</dd>
        <dt>{t("fromWhere")}</dt>
        <dd>{each.places === null ? t("allPlaces") : each.places.map(nameOf).join(", ") || t("noneOfThem")}</dd>
        <dt>{t("quietHours")}</dt>
        <dd>{each.quiet ? each.quiet.replace("-", "–") : t("noQuiet")}</dd>
        <dt>{t("messageLanguage")}</dt>
        <dd>{each.language === "id" ? "Bahasa Indonesia" : "English"}</dd>
        <dt>{t("hookQueue")}</dt>
        <dd class={each.failed ? "bad" : ""}>{each.waiting || each.failed ? t("hookWaiting", each.waiting, each.failed) : t("hookNothing")}</dd>
        <dt>{t("madeBy")}</dt>
        <dd>{each.by || "–"}</dd>
      </dl>
      <Fault fault={fault} />
      {typeof fault?.body.trouble === "string" && <p class="hint">{t("serviceSaid", fault.body.trouble)}</p>}
      {isTaken && (
        <p class="note" role="status">
          {t("messageTaken", each.service)}
        </p>
      )}
      <p class="bar end">
        <button type="button" class="danger" onClick={() => confirm(t("removeNotificationSure", each.title)) && void doing("DELETE", "")}>
          {t("remove")}
        </button>
        <button type="button" onClick={() => void doing("PATCH", "", { is_on: !each.is_on })}>
          {each.is_on ? t("switchOff") : t("switchOn")}
        </button>
        <button type="button" onClick={() => setChanging(true)}>
          {t("change")}
        </button>
        <button type="button" class="main" disabled={isTrying} onClick={() => void tryIt()}>
          <Icon name="send" /> {isTrying ? t("trying") : t("tryMessage")}
        </button>
      </p>
      {isChanging && <NotificationDialog known={each} places={props.places} onClose={() => setChanging(false)} again={props.again} />}
    </article>
  );
}

export function Notifications() {
  const answer = useAnswer<{ notifications: Notification[] }>("/notifications", "notifications");
  const places = useAnswer<{ places: Place[] }>("/places", "places");
  const [isNew, setNew] = useState(false);
  const all = places.data?.places ?? [];
  return (
    <>
      <Sections here="notifications" />
      <div class="head">
        <h1>{t("notifications")}</h1>
        <button type="button" class="main" onClick={() => setNew(true)}>
          <Icon name="plus" /> {t("newNotification")}
        </button>
      </div>
      <p class="hint lead">{t("notificationsHint")}</p>
      <Shown answer={answer}>
        {({ notifications }) =>
          notifications.length === 0 ? (
            <Empty icon="alerts" title={t("noNotifications")} hint={t("noNotificationsHint")} />
          ) : (
            <div class="boxes">
              {notifications.map((each) => (
                <NotificationCard key={each.id} each={each} places={all} again={answer.again} />
              ))}
            </div>
          )
        }
      </Shown>
      {isNew && <NotificationDialog known={null} places={all} onClose={() => setNew(false)} again={answer.again} />}
    </>
  );
}
