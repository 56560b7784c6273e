// The large picture of one camera: its newest still, live when somebody asks for it, or a stored clip. It always says which.

import { useEffect, useRef, useState } from "preact/hooks";
import { ApiFault, ask, type WallCamera } from "../api";
import { ageWords, ICON, verdict, whyWords } from "../judge";
import { beginning, step, type Fall } from "../fall";
import { Live, canPlay, type LiveState } from "../live";
import { shown, follow, want } from "../stills";
import { clock, dayWords, hubNow, now, number, second } from "../time";
import { said, t } from "../words";
import { Icon } from "./icon";

const WATCH_MS = 5 * 60_000; // then it stops by itself: the link is the citizens' Wi-Fi too
const OLD_LIVE_MS = 6_000;
const GONE_LIVE_MS = 15_000; // then the newest still is newer than what stands in the video

export interface Stored {
  url: string;
  title: string;
  atMs: number;
}

/** `small`: the stream for links that do not carry `stream`; the same where there is none. */
export function Viewer(props: { camera: WallCamera; stream: string; small: string; stored: Stored | null; onLive: () => void }) {
  const { camera, stored } = props;
  const place = useRef<HTMLDivElement>(null);
  const video = useRef<HTMLVideoElement>(null);
  const live = useRef<Live | null>(null);
  const [state, setState] = useState<LiveState | null>(null);
  const [fault, setFault] = useState("");
  const [stream, setStream] = useState(props.stream);
  const fall = useRef<Fall | null>(null);
  second.value;
  useEffect(() => follow(place.current!, camera.id), [camera.id]);
  useEffect(() => want(camera.id, camera.still_url, camera.still_ms || null), [camera.id, camera.still_url, camera.still_ms]);
  const stop = () => {
    live.current?.close();
    live.current = null;
    fall.current = null;
    setState(null);
  };
  useEffect(() => stop, [camera.id]);
  useEffect(() => {
    if (stored) stop();
  }, [stored?.url]);
  useEffect(() => {
    if (!state) return;
    const timer = setTimeout(stop, WATCH_MS);
    return () => clearTimeout(timer);
  }, [state === null]);

  const start = async () => {
    setFault("");
    props.onLive();
    fall.current = props.small === props.stream ? null : beginning(now());
    await watch(props.stream);
  };

  const watch = async (wanted: string) => {
    setStream(wanted);
    setState({ what: "opening" });
    live.current?.close();
    live.current = null;
    let address = "";
    try {
      const kind = wanted.slice(wanted.indexOf("/") + 1);
      address = (await ask<{ url: string }>(`/cameras/${camera.id}/live?stream=${kind}`, "POST")).url;
    } catch (error) {
      setState(null);
      return setFault(t("liveRefused", (error as ApiFault).message));
    }
    if (!video.current) return;
    let toldMs = 0;
    live.current = new Live(video.current, address, wanted, (said) => {
      if ((said.what === "playing" || said.what === "opening") && hubNow() - toldMs < 400) return;
      toldMs = hubNow();
      setState(said);
      if (said.what === "refused") {
        live.current?.close();
        live.current = null;
        setState(null);
        setFault(t("liveRefused", said.reason));
      } else consider(said);
    });
  };

  const consider = (said: LiveState) => {
    const before = fall.current;
    if (!before) return;
    fall.current = said.what === "playing" ? step(before, said.ageMs, said.skipped, now()) : step(before, null, before.skipped, now());
    if (fall.current.isSmall !== before.isSmall) void watch(fall.current.isSmall ? props.small : props.stream);
  };

  const picture = shown(camera.id);
  const found = verdict(camera, picture?.capturedMs ?? null, hubNow());
  const isPlaying = state?.what === "playing" && state.ageMs <= GONE_LIVE_MS;
  const isBroken = state?.what === "broken" || (state?.what === "playing" && !isPlaying);
  const isOld = stored ? false : isPlaying ? state.ageMs > OLD_LIVE_MS : state ? true : found.state !== "live";
  const reason = whyWords(found.why);
  const hints = [state && stream !== props.stream && t("liveSmall"), isPlaying && state.skipped > 0 && t("liveSkipped", state.skipped)].filter(Boolean);
  return (
    <div class={`viewer${isOld ? " old" : ""}`} ref={place} data-live={isBroken ? "broken" : (state?.what ?? "")} data-stream={state ? stream : ""}>
      <div class="screen tile-like">
        {stored ? (
          <video key={stored.url} src={stored.url} controls autoplay muted playsInline />
        ) : (
          <>
            <video ref={video} hidden={!isPlaying} muted playsInline />
            {!isPlaying && picture && <img src={picture.url} alt="" />}
          </>
        )}
        {!stored && (state?.what === "opening" || isBroken) && (
          <div class="over">
            <b>{isBroken ? t("liveBroken") : t("liveOpening")}</b>
          </div>
        )}
        {!stored && !state && found.state !== "live" && (
          <div class="over">
            <Icon name={ICON[found.state]} />
            <b>{said("camera", found.state)}</b>
            {found.state === "late" && found.ageMs !== null ? <span>{t("oldBy", ageWords(found.ageMs))}</span> : reason && <span>{reason}</span>}
          </div>
        )}
      </div>
      {stored ? (
        <span class="tag stored">
          {t("liveWarning")} {dayWords(stored.atMs)}, {clock(stored.atMs)}
        </span>
      ) : isPlaying ? (
        <span class="tag live">
          {t("live")} · {t("liveAge", t("seconds", number(Math.max(0, state.ageMs / 1000), 1)))}
        </span>
      ) : (
        picture && <span class="tag">{t("oldBy", ageWords(found.ageMs))}</span>
      )}
      <div class="bar controls">
        {state || stored ? (
          <button type="button" onClick={() => (stop(), props.onLive())}>
            <Icon name="stop" /> {t("liveStop")}
          </button>
        ) : canPlay() ? (
          <button type="button" class="main" onClick={() => void start()}>
            <Icon name="play" /> {t("liveStart")}
          </button>
        ) : (
          <span>{t("cannotPlay")}</span>
        )}
        {!stored && <small>{hints.join(". ") || t("liveHint")}</small>}
        {fault && (
          <span class="fault" role="alert">
            {fault}
          </span>
        )}
      </div>
    </div>
  );
}
