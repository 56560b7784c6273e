// Every box with what it said last: recording, disk, link, what still waits to be sent. A silent one says since when.

import { useState } from "preact/hooks";
import { ApiFault, ask, may, useAnswer } from "../api";
import { Badge, Dialog, Empty, Fault, Field, Shown, input } from "../parts/small";
import { causeWords } from "../parts/strip";
import { Icon } from "../parts/icon";
import { howLong, hubNow, moment, number, second, size } from "../time";
import { isKnown, said, t } from "../words";

interface Heartbeat {
  cameras?: Record<string, { recording?: boolean; cause?: string | null; fps?: number; kbit_s?: number }>;
  ledger?: Record<string, { recorded_s?: number; missing_s?: number }>;
  clock?: { state?: string; error_ms?: number };
  disk?: { total_bytes?: number; free_bytes?: number; written_bytes?: number; life_left_percent?: number | null; trouble?: string };
  temperature_c?: number | null;
  load?: number | number[];
  uplink?: { sent_bytes?: number; resent_bytes?: number; cap_kbit_s?: number | null; rtt_ms?: number | null };
  outbox?: { depth?: number; bytes?: number; oldest_ms?: number | null };
  shed?: string[];
  troubles?: { kind: string; detail: string; since_ms: number }[];
  slot?: string;
  update?: { state?: string; version?: string; reason?: string } | null;
}

interface Box {
  id: string;
  name: string;
  site: string;
  software: string;
  slot: string;
  state: "here" | "silent" | "never heard" | "blocked";
  blocked: boolean;
  seen_ms: number | null;
  silent_since_ms: number | null;
  fingerprint: string;
  heartbeat: Heartbeat | null;
}

const HOT_C = 75;
const WORN_PERCENT = 15;
const FULL_PERCENT = 2;

const LEFT_OUT = "pictures left out of ";

/** What was given up, and of which cameras or why, as nvr/uplink/ladder.py and process.py say it. */
function shedWords(text: string): string {
  const [what, ...rest] = text.split(": ");
  const more = rest.join(": ");
  const about = more.startsWith(LEFT_OUT) ? t("shedOf", more.slice(LEFT_OUT.length)) : more;
  return [said("shed", what), about].filter(Boolean).join(": ");
}

function troubles(box: Box): string[] {
  const heard = box.heartbeat ?? {};
  const found: string[] = [];
  for (const [name, camera] of Object.entries(heard.cameras ?? {})) if (camera.recording === false) found.push(`${name}: ${causeWords(camera.cause)}`);
  for (const each of heard.troubles ?? []) found.push(`${said("trouble", each.kind)}: ${each.detail}`);
  if (heard.disk?.trouble) found.push(heard.disk.trouble);
  if (typeof heard.disk?.life_left_percent === "number" && heard.disk.life_left_percent < WORN_PERCENT) found.push(`${t("cardLife")}: ${number(heard.disk.life_left_percent)} %`);
  if ((heard.temperature_c ?? 0) > HOT_C) found.push(`${t("temperature")}: ${number(heard.temperature_c!)} °C`);
  if (heard.clock?.state && heard.clock.state !== "synced") found.push(`${t("clockState")}: ${said("clock", heard.clock.state)}`);
  return found;
}

function Pair(props: { name: string; isBad?: boolean; children: preact.ComponentChildren }) {
  return (
    <>
      <dt>{props.name}</dt>
      <dd class={props.isBad ? "bad" : ""}>{props.children}</dd>
    </>
  );
}

function BoxCard(props: { box: Box; again: () => void }) {
  const { box } = props;
  const heard = box.heartbeat ?? {};
  const [fault, setFault] = useState<ApiFault | null>(null);
  second.value;
  const bad = box.state === "here" ? troubles(box) : [];
  const cameras = Object.values(heard.cameras ?? {});
  const recording = cameras.filter((each) => each.recording).length;
  const missing_s = Math.max(0, ...Object.values(heard.ledger ?? {}).map((each) => each.missing_s ?? 0)); // of the camera that lacks most
  const { disk, uplink, outbox } = heard;
  const fullPercent = disk?.total_bytes ? (100 * (disk.free_bytes ?? 0)) / disk.total_bytes : 100;
  const load = Array.isArray(heard.load) ? heard.load[0] : heard.load;
  const block = async (blocked: boolean) => {
    if (blocked && !confirm(t("blockSure"))) return;
    try {
      await ask(`/boxes/${box.id}/block`, "POST", { blocked });
      props.again();
    } catch (error) {
      setFault(error as ApiFault);
    }
  };
  return (
    <article class="card" data-box={box.name} data-state={box.state}>
      <div class="bar">
        <h2 class="grow">
          {box.name} <small>{box.site}</small>
        </h2>
        {box.state === "blocked" ? (
          <Badge tone="quiet" icon="lock">
            {t("blocked")}
          </Badge>
        ) : box.state === "never heard" ? (
          <Badge tone="quiet" icon="question">
            {t("why.never heard")}
          </Badge>
        ) : box.state === "silent" ? (
          <Badge tone="bad" icon="silent">
            {t("boxSilent")}
          </Badge>
        ) : (
          <Badge tone={bad.length ? "unsure" : "good"} icon={bad.length ? "warn" : "check"}>
            {bad.length ? t("boxTrouble") : t("boxGood")}
          </Badge>
        )}
      </div>
      {box.state === "silent" && box.seen_ms && <p class="fault">{t("silentSince", moment(box.silent_since_ms ?? box.seen_ms))}</p>}
      {bad.map((each) => (
        <p key={each} class="fault">
          {each}
        </p>
      ))}
      <dl class="pairs">
        <Pair name={t("recording")} isBad={recording < cameras.length}>
          {cameras.length ? t("camerasRecording", recording, cameras.length) : "–"}
        </Pair>
        {missing_s >= 1 && <Pair name="" isBad>{t("missingToday", howLong(missing_s * 1000))}</Pair>}
        {disk && (
          <Pair name={t("disk")} isBad={fullPercent < FULL_PERCENT}>
            {t("freeOf", size(disk.free_bytes), size(disk.total_bytes))}
          </Pair>
        )}
        {typeof disk?.life_left_percent === "number" && (
          <Pair name={t("cardLife")} isBad={disk.life_left_percent < WORN_PERCENT}>
            {number(disk.life_left_percent)} %
          </Pair>
        )}
        {typeof heard.temperature_c === "number" && (
          <Pair name={t("temperature")} isBad={heard.temperature_c > HOT_C}>
            {number(heard.temperature_c, 1)} °C{typeof load === "number" ? ` · ${t("load")} ${number(load, 1)}` : ""}
          </Pair>
        )}
        {heard.clock?.state && (
          <Pair name={t("clockState")} isBad={heard.clock.state !== "synced"}>
            {isKnown("clock", heard.clock.state) ? said("clock", heard.clock.state) : heard.clock.state}
          </Pair>
        )}
        {uplink && (
          <Pair name={t("uplink")}>
            {[
              uplink.cap_kbit_s ? t("cap", number(uplink.cap_kbit_s)) : "",
              typeof uplink.rtt_ms === "number" ? t("rtt", number(uplink.rtt_ms)) : "",
              uplink.sent_bytes ? t("sent", size(uplink.sent_bytes)) : "",
              uplink.resent_bytes ? t("resent", size(uplink.resent_bytes)) : "",
            ]
              .filter(Boolean)
              .join(" · ")}
          </Pair>
        )}
        {outbox && (
          <Pair name={t("outbox")}>
            {outbox.depth ? t("outboxDepth", outbox.depth, size(outbox.bytes)) : t("outboxEmpty")}
            {outbox.depth && outbox.oldest_ms ? ` · ${t("outboxOldest", howLong(hubNow() - outbox.oldest_ms))}` : ""}
          </Pair>
        )}
        {heard.shed && heard.shed.length > 0 && <Pair name={t("shed")}>{heard.shed.map(shedWords).join("; ")}</Pair>}
        <Pair name={t("version")}>
          {box.software}
          {box.slot ? ` · ${t("slot")} ${box.slot}` : ""}
        </Pair>
        {heard.update?.state && heard.update.state !== "none" && (
          <Pair name={t("updateState")}>
            {heard.update.state} {heard.update.version} {heard.update.reason}
          </Pair>
        )}
        {box.seen_ms && <Pair name={t("lastWord")}>{t("ago", howLong(hubNow() - box.seen_ms))}</Pair>}
      </dl>
      <Fault fault={fault} />
      {may("administer") && (
        <p class="bar end">
          <button type="button" class={box.blocked ? "" : "quiet"} onClick={() => void block(!box.blocked)}>
            {box.blocked ? t("unblock") : t("block")}
          </button>
        </p>
      )}
    </article>
  );
}

function CodeDialog(props: { onClose: () => void }) {
  const [box, setBox] = useState("");
  const [site, setSite] = useState("");
  const [made, setMade] = useState<{ code: string; expires_ms: number } | null>(null);
  const [fault, setFault] = useState<ApiFault | null>(null);
  const submit = async (event: Event) => {
    event.preventDefault();
    try {
      setMade(await ask("/codes", "POST", { ...(site ? { site } : {}), ...(box ? { box } : {}) }));
    } catch (error) {
      setFault(error as ApiFault);
    }
  };
  return (
    <Dialog title={t("newCode")} onClose={props.onClose}>
      <div class="inside">
        {made ? (
          <>
            <p>{t("codeMade")}</p>
            <p class="code">{made.code}</p>
            <p class="hint">{t("expires", moment(made.expires_ms))}</p>
          </>
        ) : (
          <form onSubmit={(event) => void submit(event)}>
            <Field label={t("site")}>
              <input pattern="[A-Za-z0-9_\-]{0,63}" value={site} onInput={input(setSite)} />
            </Field>
            <Field label={t("codeFor")}>
              <input pattern="[A-Za-z0-9_\-]{0,63}" value={box} onInput={input(setBox)} />
            </Field>
            <Fault fault={fault} />
            <p class="bar end">
              <button class="main">{t("makeCode")}</button>
            </p>
          </form>
        )}
      </div>
    </Dialog>
  );
}

const ORDER = { silent: 0, here: 1, "never heard": 2, blocked: 3 };

interface Store {
  database: string;
  objects: string;
}

/** What keeps the hub itself from storing; boxes hold on to everything meanwhile. */
function StoreTrouble(props: { store: Store }) {
  const { database, objects } = props.store;
  return (
    <>
      {database !== "ok" && (
        <p class="fault" role="alert">
          {t("hubDatabaseFails")} {t("boxesKeepAll")}
        </p>
      )}
      {objects !== "ok" && (
        <p class="fault" role="alert" data-store={objects}>
          {said("store", objects)} {t("boxesKeepClips")}
        </p>
      )}
    </>
  );
}

export function Boxes() {
  const answer = useAnswer<{ boxes: Box[]; store: Store }>("/boxes", "boxes");
  const [isNew, setNew] = useState(false);
  return (
    <>
      <div class="head">
        <h1>{t("boxes")}</h1>
        {may("administer") && (
          <button type="button" class="main" onClick={() => setNew(true)}>
            <Icon name="plus" /> {t("newCode")}
          </button>
        )}
      </div>
      <Shown answer={answer}>
        {({ boxes, store }) => (
          <>
            <StoreTrouble store={store} />
            {boxes.length === 0 ? (
              <Empty icon="boxes" title={t("noBoxes")} hint={t("noBoxesHint")} />
            ) : (
              <div class="boxes">
                {[...boxes]
                  .sort((a, b) => ORDER[a.state] - ORDER[b.state] || troubles(b).length - troubles(a).length || a.name.localeCompare(b.name))
                  .map((box) => (
                    <BoxCard key={box.id} box={box} again={answer.again} />
                  ))}
              </div>
            )}
          </>
        )}
      </Shown>
      {isNew && <CodeDialog onClose={() => setNew(false)} />}
    </>
  );
}
