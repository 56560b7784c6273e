// Footage that must not be deleted, whatever its age and whoever asks: by whom, why, how much; and why it was let go.

import { useState } from "preact/hooks";
import { ApiFault, ask, may, titled, useAnswer, type Place, type WallCamera } from "../api";
import { Icon } from "../parts/icon";
import { ReasonDialog } from "../parts/reason";
import { Sections } from "../parts/sections";
import { Badge, Dialog, Empty, Fault, Field, Shown, input } from "../parts/small";
import { SpanFields, spanOf, spanWords, typedSpan } from "../parts/span";
import { hubNow, moment, number, size } from "../time";
import { t } from "../words";

interface Hold {
  id: number;
  place: string | null;
  camera_id: number | null;
  from_ms: number;
  to_ms: number;
  reason: string;
  by: string;
  created_ms: number;
  released_ms: number | null;
  released_by: string;
  release_reason: string;
  kept: { count: number; size_bytes: number } | null;
}

function NewHold(props: { places: Place[]; cameras: WallCamera[]; onClose: () => void; again: () => void }) {
  const [place, setPlace] = useState("");
  const [camera, setCamera] = useState("");
  const [typed, setTyped] = useState(() => typedSpan(hubNow() - 3_600_000, hubNow()));
  const [reason, setReason] = useState("");
  const [fault, setFault] = useState<ApiFault | null>(null);
  const here = props.cameras.filter((each) => each.place === place);
  const submit = async (event: Event) => {
    event.preventDefault();
    const span = spanOf(typed);
    if (!span) return setFault(new ApiFault(0, t("endAfterStart")));
    try {
      await ask("/holds", "POST", { ...span, reason: reason.trim(), ...(place ? { place } : {}), ...(camera ? { camera_id: Number(camera) } : {}) });
      props.again();
      props.onClose();
    } catch (error) {
      setFault(error as ApiFault);
    }
  };
  return (
    <Dialog title={t("newHold")} onClose={props.onClose}>
      <form class="inside" onSubmit={(event) => void submit(event)}>
        <Field label={t("place")}>
          <select value={place} onChange={(event) => (setPlace(event.currentTarget.value), setCamera(""))} name="place">
            <option value="">{t("allPlaces")}</option>
            {props.places.map((each) => (
              <option key={each.name} value={each.name}>
                {titled(each.title)}
              </option>
            ))}
          </select>
        </Field>
        {here.length > 1 && (
          <Field label={t("camera")}>
            <select value={camera} onChange={(event) => setCamera(event.currentTarget.value)} name="camera">
              <option value="">{t("allCameras")}</option>
              {here.map((each) => (
                <option key={each.id} value={each.id}>
                  {titled(each.title) || each.name}
                </option>
              ))}
            </select>
          </Field>
        )}
        <SpanFields typed={typed} onChange={setTyped} />
        <Field label={t("holdReason")} hint={t("holdReasonHint")}>
          <textarea required minLength={3} maxLength={1000} value={reason} onInput={input(setReason)} name="reason" />
        </Field>
        <Fault fault={fault} />
        <p class="bar end">
          <button type="button" onClick={props.onClose}>
            {t("cancel")}
          </button>
          <button class="main">
            <Icon name="lock" /> {t("makeHold")}
          </button>
        </p>
      </form>
    </Dialog>
  );
}

function Release(props: { hold: Hold; onClose: () => void; again: () => void }) {
  const send = (reason: string) => ask(`/holds/${props.hold.id}/release`, "POST", { reason }).then(props.again);
  return (
    <ReasonDialog title={t("releaseHold")} label={t("releaseReason")} hint={t("releaseReasonHint")} button={t("release")} isDanger send={send} onClose={props.onClose}>
      <p>{t("releaseWarning")}</p>
    </ReasonDialog>
  );
}

export const keptWords = (kept: { count: number; size_bytes: number }): string => t("keptThings", number(kept.count), size(kept.size_bytes));

function HoldRow(props: { hold: Hold; places: Place[]; cameras: WallCamera[]; onRelease: () => void }) {
  const { hold } = props;
  const place = props.places.find((each) => each.name === hold.place);
  const camera = props.cameras.find((each) => each.id === hold.camera_id);
  const where = hold.place === null ? t("allPlaces") : titled(place?.title) || hold.place;
  return (
    <li data-hold={hold.id} data-released={hold.released_ms !== null}>
      <div class="words">
        <b>
          {where}
          {camera ? ` · ${titled(camera.title) || camera.name}` : ""}
        </b>{" "}
        <span class="num">{spanWords(hold.from_ms, hold.to_ms)}</span>
        <br />
        {hold.reason}
        <br />
        <small>
          {t("heldBy", hold.by, moment(hold.created_ms))}
          {hold.released_ms !== null && ` · ${t("releasedBy", hold.released_by, moment(hold.released_ms))}${hold.release_reason ? `: ${hold.release_reason}` : ""}`}
        </small>
      </div>
      {hold.kept && (
        <Badge tone={hold.kept.count ? "busy" : "quiet"} icon="lock">
          {hold.kept.count ? keptWords(hold.kept) : t("keptNothing")}
        </Badge>
      )}
      {hold.released_ms === null && may("administer") && (
        <button type="button" onClick={props.onRelease}>
          {t("release")}
        </button>
      )}
    </li>
  );
}

export function Holds() {
  const answer = useAnswer<{ holds: Hold[] }>("/holds", "holds");
  const places = useAnswer<{ places: Place[] }>("/places", "places").data?.places ?? [];
  const cameras = useAnswer<{ cameras: WallCamera[] }>("/wall", "wall").data?.cameras ?? [];
  const [dialog, setDialog] = useState<Hold | "new" | null>(null);
  const close = () => setDialog(null);
  return (
    <>
      <Sections here="holds" />
      <div class="head">
        <h1>{t("holdsTitle")}</h1>
        <button type="button" class="main" onClick={() => setDialog("new")}>
          <Icon name="lock" /> {t("newHold")}
        </button>
      </div>
      <p class="hint lead">{t("holdsHint")}</p>
      <Shown answer={answer}>
        {({ holds }) => {
          const groups = [
            ["holdsNow", holds.filter((each) => each.released_ms === null)],
            ["holdsReleased", holds.filter((each) => each.released_ms !== null)],
          ] as const;
          if (holds.length === 0) return <Empty icon="lock" title={t("noHolds")} hint={t("noHoldsHint")} />;
          return (
            <>
              {groups.map(
                ([key, some]) =>
                  some.length > 0 && (
                    <section key={key} class="group">
                      <h2>
                        {t(key)} <small>{some.length}</small>
                      </h2>
                      <ul class="list rows card">
                        {some.map((hold) => (
                          <HoldRow key={hold.id} hold={hold} places={places} cameras={cameras} onRelease={() => setDialog(hold)} />
                        ))}
                      </ul>
                    </section>
                  ),
              )}
            </>
          );
        }}
      </Shown>
      {dialog === "new" && <NewHold places={places} cameras={cameras} onClose={close} again={answer.again} />}
      {dialog && dialog !== "new" && <Release hold={dialog} onClose={close} again={answer.again} />}
    </>
  );
}
