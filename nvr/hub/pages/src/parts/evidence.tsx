// The proof of what the page claims: the picture it rests on, when it was taken, and the way to the footage.

import { useState } from "preact/hooks";
import type { Evidence } from "../api";
import { dayWords, clock, moment } from "../time";
import { t } from "../words";
import { Icon } from "./icon";
import { Dialog } from "./small";

export function EvidenceDialog(props: { title: string; claim: string; evidence: Evidence; onClose: () => void }) {
  const { evidence } = props;
  const [isMissing, setMissing] = useState(false);
  const at = evidence.at_ms ?? null;
  return (
    <Dialog title={t("evidenceOf", props.title)} onClose={props.onClose} wide>
      <div class="inside">
        <p>
          <b>{props.claim}</b>
          {at !== null && <span class="hint"> · {t("evidenceAt", `${dayWords(at)}, ${clock(at)}`)}</span>}
        </p>
        <div class="evidence">
          {evidence.still_url && !isMissing ? (
            <img src={evidence.still_url} alt={props.claim} onError={() => setMissing(true)} />
          ) : (
            <p class="missing">{evidence.still_url ? t("evidenceGone") : t("evidenceNone")}</p>
          )}
        </div>
        {evidence.camera_id && (
          <p class="bar end">
            <a class="button main" href={`/cameras/${evidence.camera_id}${at !== null ? `?at=${at}` : ""}`}>
              <Icon name="play" /> {t("goMoment")}
            </a>
          </p>
        )}
      </div>
    </Dialog>
  );
}

export function EvidenceButton(props: { title: string; claim: string; evidence: Evidence | null | undefined; words?: string }) {
  const [isOpen, setOpen] = useState(false);
  if (!props.evidence?.event && !props.evidence?.camera_id) return null;
  return (
    <>
      <button type="button" class="evidence-button" aria-label={t("evidenceOf", props.claim)} onClick={() => setOpen(true)}>
        <Icon name="seal" /> {props.words ?? t("evidence")}
      </button>
      {isOpen && <EvidenceDialog title={props.title} claim={props.claim} evidence={props.evidence} onClose={() => setOpen(false)} />}
    </>
  );
}

export const claimAt = (words: string, sinceMs: number | null | undefined) => (sinceMs ? `${words}, ${t("since", moment(sinceMs))}` : words);
