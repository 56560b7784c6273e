// Clips at the hub: play, download, and the proof that nobody changed them.

import { useState } from "preact/hooks";
import { ApiFault, ask, may, useAnswer } from "../api";
import { clock, dayWords, howLong, size } from "../time";
import { t } from "../words";
import { Icon } from "./icon";
import { Badge, Dialog, Fault, Field, Loading, input } from "./small";

export interface Clip {
  sha256: string;
  camera_id: number | null;
  from_ms: number;
  to_ms: number;
  size_bytes: number;
  genuine: boolean | null;
  held: boolean;
}

interface Proof {
  sha256: string;
  genuine: boolean | null;
  box: string;
  fingerprint: string;
  proof: { camera?: string; from?: string; to?: string; reasons?: string[] } | null;
}

function ProofDialog(props: { clip: Clip; onClose: () => void }) {
  const { clip } = props;
  const { data, fault } = useAnswer<Proof>(`/clips/${clip.sha256}/proof`, "proof");
  return (
    <Dialog title={t("proofOf")} onClose={props.onClose}>
      <div class="inside">
        <Fault fault={fault} />
        {!data && !fault && <Loading />}
        {data && (
          <>
            <p>
              <Badge tone={data.genuine ? "good" : data.genuine === null ? "unsure" : "bad"} icon={data.genuine ? "seal" : "warn"} large>
                {data.genuine ? t("proofGood") : data.genuine === null ? t("proofChecking") : t("proofBad")}
              </Badge>
            </p>
            <ul>
              {(data.proof?.reasons ?? []).map((each) => (
                <li key={each}>{each}</li>
              ))}
            </ul>
            <dl class="pairs">
              <dt>{t("proofBox")}</dt>
              <dd>
                {data.box} <code>{data.fingerprint}</code>
              </dd>
              <dt>{t("proofSpan")}</dt>
              <dd>
                {dayWords(clip.from_ms)}, {clock(clip.from_ms)} – {clock(clip.to_ms)}
              </dd>
              <dt>SHA-256</dt>
              <dd>
                <code>{clip.sha256}</code>
              </dd>
            </dl>
          </>
        )}
      </div>
    </Dialog>
  );
}

function HoldDialog(props: { clip: Clip; onClose: () => void }) {
  const { clip } = props;
  const [reason, setReason] = useState("");
  const [fault, setFault] = useState<ApiFault | null>(null);
  const submit = async (event: Event) => {
    event.preventDefault();
    try {
      await ask("/holds", "POST", { camera_id: clip.camera_id, from_ms: clip.from_ms, to_ms: clip.to_ms, reason: reason.trim() });
      props.onClose();
    } catch (error) {
      setFault(error as ApiFault);
    }
  };
  return (
    <Dialog title={t("hold")} onClose={props.onClose}>
      <form class="inside" onSubmit={(event) => void submit(event)}>
        <Field label={t("holdReason")}>
          <textarea required minLength={3} autofocus value={reason} onInput={input(setReason)} />
        </Field>
        <Fault fault={fault} />
        <p class="bar end">
          <button class="main">
            <Icon name="lock" /> {t("hold")}
          </button>
        </p>
      </form>
    </Dialog>
  );
}

export function ClipList(props: { clips: Clip[]; onPlay: (clip: Clip) => void }) {
  const [dialog, setDialog] = useState<["proof" | "hold", Clip] | null>(null);
  if (props.clips.length === 0) return <p class="hint">{t("noClips")}</p>;
  return (
    <>
      <ul class="list clips">
        {props.clips.map((clip) => (
          <li key={clip.sha256} style={{ flexWrap: "wrap" }} data-clip={clip.sha256}>
            <div class="words">
              <b class="num">
                {clock(clip.from_ms)} – {clock(clip.to_ms)}
              </b>
              <br />
              <small>
                {howLong(clip.to_ms - clip.from_ms)} · {size(clip.size_bytes)} {clip.genuine === false && `· ${t("proofBad")}`} {clip.held && `· ${t("held")}`}
              </small>
            </div>
            <div class="bar">
              <button type="button" aria-label={t("play")} onClick={() => props.onPlay(clip)}>
                <Icon name="play" />
              </button>
              <a class="button" aria-label={t("download")} title={t("exportBoth")} href={`/api/v1/clips/${clip.sha256}?download=1`} download={`${clip.sha256.slice(0, 12)}.mp4`}>
                <Icon name="download" />
              </a>
              <button type="button" aria-label={t("proof")} title={t("proof")} onClick={() => setDialog(["proof", clip])}>
                <Icon name="seal" />
              </button>
              {may("hold") && !clip.held && (
                <button type="button" aria-label={t("hold")} title={t("hold")} onClick={() => setDialog(["hold", clip])}>
                  <Icon name="lock" />
                </button>
              )}
            </div>
          </li>
        ))}
      </ul>
      {dialog?.[0] === "proof" && <ProofDialog clip={dialog[1]} onClose={() => setDialog(null)} />}
      {dialog?.[0] === "hold" && <HoldDialog clip={dialog[1]} onClose={() => setDialog(null)} />}
    </>
  );
}
