// All cameras at once.

import { useLocation } from "preact-iso";
import { useEffect, useState } from "preact/hooks";
import { may, useAnswer, type WallCamera } from "../api";
import { verdict } from "../judge";
import { Badge, Empty, Shown, Tabs } from "../parts/small";
import { Icon } from "../parts/icon";
import { Tile } from "../parts/tile";
import { shown } from "../stills";
import { hubNow, second } from "../time";
import { t } from "../words";

export interface WallAnswer {
  now_ms: number;
  cameras: WallCamera[];
}

const isTraffic = (camera: WallCamera) => camera.kind === "traffic";

/** Streets first, then the other places, each with its cameras side by side: where one looked yesterday it is today. */
const inPlaces = (cameras: WallCamera[]) =>
  [...cameras].sort((a, b) => Number(isTraffic(b)) - Number(isTraffic(a)) || (a.place ?? "").localeCompare(b.place ?? "") || a.order - b.order || a.id - b.id);

/** A picture that is only not here yet is no trouble of the camera. */
const isWrong = (camera: WallCamera) => {
  const { state } = verdict(camera, shown(camera.id)?.capturedMs ?? (camera.still_ms || null), hubNow());
  return state !== "live";
};

/** How many columns let all tiles fit on the screen at once. */
function columnsFor(count: number, width: number, height: number): number {
  for (let columns = 1; columns <= count; columns++) {
    const tile = width / columns;
    if (Math.ceil(count / columns) * tile * (9 / 16) <= height) return columns;
  }
  return count;
}

function useFit(count: number): [number | null, () => void] {
  const [isFit, setFit] = useState(false);
  const [, redraw] = useState(0);
  useEffect(() => {
    const changed = () => {
      if (!document.fullscreenElement) setFit(false);
      redraw((many) => many + 1);
    };
    document.addEventListener("fullscreenchange", changed);
    window.addEventListener("resize", changed);
    return () => {
      document.removeEventListener("fullscreenchange", changed);
      window.removeEventListener("resize", changed);
    };
  }, []);
  const fit = async () => {
    await document.getElementById("wall")?.requestFullscreen?.();
    setFit(true);
  };
  return [isFit ? columnsFor(count, window.innerWidth, window.innerHeight) : null, () => void fit()];
}

function Tiles(props: { cameras: WallCamera[]; chosen: string }) {
  second.value;
  const { cameras, chosen } = props;
  const wrong = cameras.filter(isWrong);
  const traffic = cameras.filter(isTraffic);
  const sets: Record<string, WallCamera[]> = { all: cameras, wrong, traffic, places: cameras.filter((each) => !isTraffic(each)) };
  const list = sets[chosen] ?? cameras;
  const [columns, fit] = useFit(list.length);
  const good = cameras.length - wrong.length;
  const countAt = (camera: WallCamera) => cameras.filter((each) => each.place === camera.place).length;
  return (
    <>
      <div class="head">
        <h1 class="sum">
          {good === cameras.length ? (
            <Badge tone="good" icon="check" large>
              {t("allLive", good)}
            </Badge>
          ) : (
            <Badge tone={good ? "unsure" : "bad"} icon="warn" large>
              {good ? t("someLive", good, cameras.length) : t("noneLive")}
            </Badge>
          )}
        </h1>
        <Tabs
          label={t("show")}
          chosen={sets[chosen] ? chosen : "all"}
          items={[
            ["all", "/wall", t("filterAll"), cameras.length],
            ["wrong", "/wall?show=wrong", t("filterWrong"), wrong.length],
            ["traffic", "/wall?show=traffic", t("filterTraffic"), traffic.length],
            ["places", "/wall?show=places", t("filterPlaces"), cameras.length - traffic.length],
          ]}
        />
        {document.fullscreenEnabled && (
          <button type="button" class="quiet fit" onClick={fit}>
            <Icon name="wall" /> {t("wholeScreen")}
          </button>
        )}
      </div>
      <div id="wall" class={`wall${columns ? " fitted" : ""}`} style={columns ? { "--columns": String(columns) } : undefined}>
        {list.map((camera) => (
          <Tile key={camera.id} camera={camera} isAlone={countAt(camera) === 1} />
        ))}
        {list.length === 0 && <p class="hint">{t("nothingHere")}</p>}
      </div>
    </>
  );
}

export function Wall() {
  const answer = useAnswer<WallAnswer>("/wall", "wall");
  const { query } = useLocation();
  return (
    <Shown answer={answer}>
      {({ cameras }) =>
        cameras.length ? (
          <Tiles cameras={inPlaces(cameras)} chosen={query.show ?? "all"} />
        ) : (
          <Empty icon="wall" title={t("noCameras")} hint={t("noCamerasHint")} {...(may("administer") ? { link: ["/boxes", t("boxes")] as [string, string] } : {})} />
        )
      }
    </Shown>
  );
}
