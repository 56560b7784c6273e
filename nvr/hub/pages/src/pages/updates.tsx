// Updates of boxes: what lies here, and how it goes: one box, a tenth of them, all. It stops by itself where one fails.

import { useState } from "preact/hooks";
import { ApiFault, ask, session, useAnswer } from "../api";
import { Icon, type IconName } from "../parts/icon";
import { ReasonDialog } from "../parts/reason";
import { Sections } from "../parts/sections";
import { Badge, Dialog, Empty, Fault, Field, Shown, input, type Tone } from "../parts/small";
import { moment, size } from "../time";
import { said, t } from "../words";

interface Bundle {
  sha256: string;
  version: string;
  size_bytes: number;
  by: string;
  stored_ms: number;
}

interface RolloutBox {
  id: string;
  name: string;
  site: string;
  stage: number;
  state: "waiting" | "asked" | "busy" | "good" | "failed" | "skipped";
  detail: string;
  is_here: boolean;
  software: string;
}

interface Rollout {
  id: number;
  version: string;
  sha256: string;
  state: "running" | "stopped" | "done";
  stage: number;
  by: string;
  created_ms: number;
  ended_ms: number | null;
  why: string;
  boxes: RolloutBox[];
}

interface KnownBox {
  id: string;
  name: string;
  state: string;
}

/** A whole file with its progress, which fetch() does not tell. Raises ApiFault. */
function sendFile(path: string, file: File, onProgress: (share: number) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", `/api/v1${path}`);
    request.setRequestHeader("X-CSRF", session.value?.csrf ?? "");
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.upload.onprogress = (event) => event.lengthComputable && onProgress(event.loaded / event.total);
    request.onerror = () => reject(new ApiFault(0, t("noAnswer")));
    request.onload = () => {
      if (request.status === 201) return resolve();
      let body: { error?: string; key?: string } = {};
      try {
        body = JSON.parse(request.responseText);
      } catch {
        // a proxy's own page
      }
      const words = body.key ? said("fault", body.key) : "";
      reject(new ApiFault(request.status, words && words !== body.key ? words : body.error || t("failedWith", request.status)));
    };
    request.send(file);
  });
}

function NewBundle(props: { onClose: () => void; again: () => void }) {
  const [version, setVersion] = useState("");
  const [file, setFile] = useState<File | null>(null);
  const [share, setShare] = useState<number | null>(null);
  const [fault, setFault] = useState<ApiFault | null>(null);
  const choose = (chosen: File | null) => {
    setFile(chosen);
    const found = /(\d[\w.+~]*\w)(?=\.raucb$)/.exec(chosen?.name ?? "");
    if (found && !version) setVersion(found[1]!);
  };
  const submit = async (event: Event) => {
    event.preventDefault();
    if (!file) return;
    setFault(null);
    setShare(0);
    try {
      await sendFile(`/bundles?version=${encodeURIComponent(version.trim())}`, file, setShare);
      props.again();
      props.onClose();
    } catch (error) {
      setFault(error as ApiFault);
      setShare(null);
    }
  };
  return (
    <Dialog title={t("newBundle")} onClose={props.onClose}>
      <form class="inside" onSubmit={(event) => void submit(event)}>
        <Field label={t("bundleFile")} hint={t("bundleFileHint")}>
          <input type="file" required accept=".raucb" onChange={(event) => choose(event.currentTarget.files?.[0] ?? null)} name="file" />
        </Field>
        <Field label={t("version")}>
          <input required pattern="[A-Za-z0-9._+~\-]{1,64}" value={version} onInput={input(setVersion)} name="version" />
        </Field>
        {share !== null && <progress value={share} max={1} aria-label={t("sendingBundle")} />}
        <Fault fault={fault} />
        <p class="bar end">
          <button type="button" onClick={props.onClose}>
            {t("cancel")}
          </button>
          <button class="main" disabled={share !== null}>
            {share === null ? t("storeBundle") : `${t("sendingBundle")} ${Math.floor(share * 100)} %`}
          </button>
        </p>
      </form>
    </Dialog>
  );
}

function Begin(props: { bundle: Bundle; onClose: () => void; again: () => void }) {
  const boxes = (useAnswer<{ boxes: KnownBox[] }>("/boxes", "boxes").data?.boxes ?? []).filter((each) => each.state !== "blocked");
  const [first, setFirst] = useState("");
  const [fault, setFault] = useState<ApiFault | null>(null);
  const tenth = Math.max(1, Math.round(boxes.length / 10));
  const submit = async (event: Event) => {
    event.preventDefault();
    try {
      await ask("/rollouts", "POST", { sha256: props.bundle.sha256, ...(first ? { first } : {}) });
      props.again();
      props.onClose();
    } catch (error) {
      setFault(error as ApiFault);
    }
  };
  return (
    <Dialog title={t("beginRollout", props.bundle.version)} onClose={props.onClose}>
      <form class="inside" onSubmit={(event) => void submit(event)}>
        <p>{t("rolloutPlan", Math.min(tenth, Math.max(0, boxes.length - 1)), Math.max(0, boxes.length - 1 - tenth))}</p>
        <Field label={t("firstBox")} hint={t("firstBoxHint")}>
          <select value={first} onChange={(event) => setFirst(event.currentTarget.value)} name="first">
            <option value="">{t("anyGoodBox")}</option>
            {boxes
              .filter((each) => each.state === "here")
              .map((each) => (
                <option key={each.id} value={each.id}>
                  {each.name}
                </option>
              ))}
          </select>
        </Field>
        <Fault fault={fault} />
        <p class="bar end">
          <button type="button" onClick={props.onClose}>
            {t("cancel")}
          </button>
          <button class="main">{t("begin")}</button>
        </p>
      </form>
    </Dialog>
  );
}

function StopDialog(props: { rollout: Rollout; onClose: () => void; again: () => void }) {
  const send = (reason: string) => ask(`/rollouts/${props.rollout.id}/stop`, "POST", { reason }).then(props.again);
  return (
    <ReasonDialog title={t("stopRollout")} label={t("reason")} button={t("stopRollout")} isDanger most={500} send={send} onClose={props.onClose}>
      <p>{t("stopRolloutHint")}</p>
    </ReasonDialog>
  );
}

const TONES: Record<RolloutBox["state"], [Tone, IconName]> = {
  waiting: ["quiet", "clock"],
  asked: ["busy", "send"],
  busy: ["busy", "download"],
  good: ["good", "check"],
  failed: ["bad", "warn"],
  skipped: ["quiet", "minus"],
};

const stageWords = (stage: number) => t(stage === 0 ? "stageOne" : stage === 1 ? "stageTenth" : "stageAll");

function Stage(props: { rollout: Rollout; stage: number }) {
  const { rollout, stage } = props;
  const boxes = rollout.boxes.filter((each) => each.stage === stage);
  if (boxes.length === 0) return null;
  const good = boxes.filter((each) => each.state === "good").length;
  const isNow = rollout.state === "running" && stage === rollout.stage;
  return (
    <details open={isNow || boxes.some((each) => each.state === "failed" || each.state === "busy" || each.state === "asked")} data-stage={stage}>
      <summary>
        <b>{stageWords(stage)}</b> <span class="num">{t("stageDone", good, boxes.length)}</span> {isNow && <small>{t("stageNow")}</small>}
      </summary>
      <ul class="list rows">
        {boxes.map((each) => {
          const [tone, icon] = TONES[each.state];
          return (
            <li key={each.id} data-box={each.name} data-state={each.state}>
              <div class="words">
                <b>{each.name}</b> <small>{each.site}</small>
                {each.detail && (
                  <>
                    <br />
                    <small>{each.detail}</small>
                  </>
                )}
              </div>
              <Badge tone={tone} icon={icon}>
                {each.state === "waiting" && !each.is_here ? t("waitsAway") : said("rollout", each.state)}
              </Badge>
            </li>
          );
        })}
      </ul>
    </details>
  );
}

function RolloutCard(props: { rollout: Rollout; again: () => void; onStop: () => void; mayGoOn: boolean }) {
  const { rollout } = props;
  const [fault, setFault] = useState<ApiFault | null>(null);
  const hasFailed = rollout.boxes.some((each) => each.state === "failed");
  const goOn = async (retry: boolean) => {
    try {
      await ask(`/rollouts/${rollout.id}/go-on`, "POST", { retry });
      setFault(null);
    } catch (error) {
      setFault(error as ApiFault);
    }
    props.again();
  };
  return (
    <article class="card" data-rollout={rollout.id} data-state={rollout.state}>
      <div class="bar">
        <h2 class="grow">{t("updateTo", rollout.version)}</h2>
        {rollout.state === "running" ? (
          <Badge tone="busy" icon="send">
            {t("rolloutRunning")}
          </Badge>
        ) : rollout.state === "done" ? (
          <Badge tone="good" icon="check">
            {t("rolloutDone")}
          </Badge>
        ) : (
          <Badge tone="bad" icon="stop">
            {t("rolloutStopped")}
          </Badge>
        )}
      </div>
      <p class="hint">
        {t("begunBy", rollout.by, moment(rollout.created_ms))}
        {rollout.ended_ms ? ` · ${t("endedAt", moment(rollout.ended_ms))}` : ""}
      </p>
      {rollout.why && <p class="fault">{rollout.why}</p>}
      {[0, 1, 2].map((stage) => (
        <Stage key={stage} rollout={rollout} stage={stage} />
      ))}
      <Fault fault={fault} />
      {rollout.state === "running" && (
        <p class="bar end">
          <button type="button" class="danger" onClick={props.onStop}>
            {t("stopRollout")}
          </button>
        </p>
      )}
      {rollout.state === "stopped" && props.mayGoOn && (
        <p class="bar end">
          {hasFailed && (
            <button type="button" onClick={() => void goOn(false)}>
              {t("goOnWithout")}
            </button>
          )}
          <button type="button" class="main" onClick={() => void goOn(hasFailed)}>
            {hasFailed ? t("goOnRetry") : t("goOn")}
          </button>
        </p>
      )}
    </article>
  );
}

export function Updates() {
  const bundles = useAnswer<{ bundles: Bundle[] }>("/bundles", "boxes");
  const rollouts = useAnswer<{ rollouts: Rollout[] }>("/rollouts", "boxes");
  const [dialog, setDialog] = useState<{ begin: Bundle } | { stop: Rollout } | "store" | null>(null);
  const [fault, setFault] = useState<ApiFault | null>(null);
  const close = () => setDialog(null);
  const isRunning = rollouts.data?.rollouts.some((each) => each.state === "running") ?? true;
  const remove = async (bundle: Bundle) => {
    if (!confirm(t("removeBundleSure", bundle.version))) return;
    try {
      await ask(`/bundles/${bundle.sha256}`, "DELETE");
      setFault(null);
    } catch (error) {
      setFault(error as ApiFault);
    }
    bundles.again();
  };
  return (
    <>
      <Sections here="updates" />
      <div class="head">
        <h1>{t("updates")}</h1>
        <button type="button" class="main" onClick={() => setDialog("store")}>
          <Icon name="plus" /> {t("newBundle")}
        </button>
      </div>
      <p class="hint lead">{t("updatesHint")}</p>
      <Fault fault={fault} />
      <Shown answer={bundles}>
        {({ bundles: stored }) =>
          stored.length === 0 && !rollouts.data?.rollouts.length ? (
            <Empty icon="download" title={t("noBundles")} hint={t("noBundlesHint")} />
          ) : (
            <ul class="list rows card">
              {stored.map((bundle) => (
                <li key={bundle.sha256} data-bundle={bundle.version}>
                  <div class="words">
                    <b>{bundle.version}</b> <small>{size(bundle.size_bytes)}</small>
                    <br />
                    <small>
                      {t("storedBy", bundle.by, moment(bundle.stored_ms))} · <code>{bundle.sha256.slice(0, 16)}…</code>
                    </small>
                  </div>
                  <button type="button" class="quiet" onClick={() => void remove(bundle)}>
                    {t("remove")}
                  </button>
                  <button type="button" disabled={isRunning} onClick={() => setDialog({ begin: bundle })}>
                    <Icon name="send" /> {t("rollOut")}
                  </button>
                </li>
              ))}
            </ul>
          )
        }
      </Shown>
      <div class="rollouts">
        {rollouts.data?.rollouts.map((rollout, number) => (
          <RolloutCard key={rollout.id} rollout={rollout} again={rollouts.again} onStop={() => setDialog({ stop: rollout })} mayGoOn={number === 0} />
        ))}
      </div>
      {dialog === "store" && <NewBundle onClose={close} again={bundles.again} />}
      {dialog && dialog !== "store" && "begin" in dialog && <Begin bundle={dialog.begin} onClose={close} again={rollouts.again} />}
      {dialog && dialog !== "store" && "stop" in dialog && <StopDialog rollout={dialog.stop} onClose={close} again={rollouts.again} />}
    </>
  );
}
