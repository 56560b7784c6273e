// One camera of the wall. What is not of now never looks as if it were: it loses its colour, and a word stands over it.

import { useEffect, useRef } from "preact/hooks";
import { titled, type WallCamera } from "../api";
import { ICON, ageWords, verdict, whyWords } from "../judge";
import { follow, shown, want } from "../stills";
import { hubNow, second } from "../time";
import { said, t } from "../words";
import { Icon } from "./icon";

/** "Utara" for simpang-mardika-utara at simpang-mardika: what its name adds to that of its place. */
export function ownName(camera: WallCamera): string {
  const rest = camera.place && camera.name.startsWith(`${camera.place}-`) ? camera.name.slice(camera.place.length + 1).replaceAll("-", " ") : titled(camera.title);
  return rest.charAt(0).toUpperCase() + rest.slice(1);
}

export function Tile(props: { camera: WallCamera; isAlone?: boolean }) {
  const { camera } = props;
  const place = useRef<HTMLAnchorElement>(null);
  second.value;
  useEffect(() => follow(place.current!, camera.id), [camera.id]);
  useEffect(() => want(camera.id, camera.still_url, camera.still_ms || null), [camera.id, camera.still_url, camera.still_ms]);
  const picture = shown(camera.id);
  const { state, ageMs, why } = verdict(camera, picture?.capturedMs ?? null, hubNow());
  const reason = whyWords(why);
  const isLoading = state === "unknown" && Boolean(camera.still_url && camera.still_ms);
  const word = isLoading ? t("pictureLoading") : state === "unknown" && !reason ? t("noPicture") : said("camera", state);
  // A place is what people know; a camera's own name tells several of one place apart.
  const title = titled(camera.place_title) || titled(camera.title);
  const subtitle = props.isAlone ? "" : ownName(camera);
  return (
    <a
      ref={place}
      class="tile"
      href={`/cameras/${camera.id}`}
      data-state={state}
      data-camera={camera.name}
      data-id={camera.id}
      aria-label={`${title}${subtitle ? `, ${subtitle}` : ""}: ${word}${reason ? `, ${reason}` : ""}${ageMs === null ? "" : `, ${t("pictureAge", ageWords(ageMs))}`}`}
    >
      <div class="screen">
        {picture ? <img src={picture.url} alt="" draggable={false} /> : null}
        {state !== "live" && (
          <div class="over">
            <Icon name={ICON[state]} />
            <b>{word}</b>
            {state === "late" && ageMs !== null ? <span>{t("oldBy", ageWords(ageMs))}</span> : reason && <span>{reason}</span>}
          </div>
        )}
      </div>
      <div class="caption">
        <b>{title}</b>
        <span>
          <small>{subtitle}</small>
          <span class="age">{ageMs === null ? "–" : ageWords(ageMs)}</span>
        </span>
      </div>
    </a>
  );
}
