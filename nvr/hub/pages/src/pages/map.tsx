// Where it is. Works without the internet: the coast is our own, tiles come only if the city configured a server of them.

import { useLocation } from "preact-iso";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { session, titled, useAnswer, type Place } from "../api";
import { inOrder, standing, type Standing } from "../board";
import { COAST, NAMES } from "../map/coast";
import { METRES, grouped, smoothPath, tilesOf, viewOf, worldX, worldY, type View } from "../map/view";
import { Badge, Shown } from "../parts/small";
import { Icon } from "../parts/icon";
import { howLong, hubNow, number, second } from "../time";
import { t } from "../words";
import type { PlacesAnswer } from "./places";

const NEAR_PX = 40;
const LOUD: Standing["tone"][] = ["bad", "unsure", "busy", "good", "quiet"];
const MARKS: Record<Standing["icon"], string> = { check: "M-6 0-2 4.500 6-5", bar: "M-6 0H6", question: "M-3-3a3 3 0 1 1 4.400 2.600C0 .3 0 1 0 2M0 6h.01", jam: "M-6-5H6M-6 0H6M-6 5H6", dense: "M-6-3H6M-6 3H6", free: "M-6 0H5M1-4 5 0 1 4", warn: "M0-6V1M0 6h.01" } as Record<Standing["icon"], string>;

const hasPlace = (place: Place): place is Place & { lat: number; lon: number } => typeof place.lat === "number" && typeof place.lon === "number";
const loudest = (places: Place[]) => places.map((each) => standing(each).tone).sort((a, b) => LOUD.indexOf(a) - LOUD.indexOf(b))[0]!;

function useSize(): [{ current: HTMLDivElement | null }, number, number] {
  const place = useRef<HTMLDivElement>(null);
  const [[width, height], setSize] = useState<[number, number]>([0, 0]);
  useEffect(() => {
    const watcher = new ResizeObserver(([entry]) => setSize([entry!.contentRect.width, entry!.contentRect.height]));
    watcher.observe(place.current!);
    return () => watcher.disconnect();
  }, []);
  return [place, width, height];
}

function scaleBar(view: View, lat: number): [number, string] {
  const metresPerPixel = (METRES * Math.cos((lat * Math.PI) / 180)) / view.scale;
  const wanted = metresPerPixel * 110;
  const power = 10 ** Math.floor(Math.log10(wanted));
  const metres = [5, 2, 1].map((each) => each * power).find((each) => each <= wanted) ?? power;
  return [metres / metresPerPixel, metres >= 1000 ? t("kilometres", number(metres / 1000)) : t("metres", number(metres))];
}

function Pin(props: { x: number; y: number; places: Place[]; isNamed: boolean; side: "start" | "middle" | "end"; onMany: () => void }) {
  const { route } = useLocation();
  const { places, x, y } = props;
  const only = places.length === 1 ? places[0]! : null;
  const so = only ? standing(only) : null;
  const tone = so?.tone ?? loudest(places);
  const act = () => (only ? route(`/places/${encodeURIComponent(only.name)}`) : props.onMany());
  const label = only ? `${titled(only.title)}: ${so!.words}` : `${t("placesHere", places.length)}: ${places.map((each) => `${titled(each.title)} ${standing(each).words}`).join(", ")}`;
  return (
    <g
      class={`pin ${tone}`}
      transform={`translate(${x.toFixed(1)} ${y.toFixed(1)})`}
      role="link"
      tabIndex={0}
      aria-label={label}
      data-place={only?.name}
      onClick={act}
      onKeyDown={(event) => (event.key === "Enter" || event.key === " ") && (event.preventDefault(), act())}
    >
      <title>{label}</title>
      <circle class="halo" r="21" />
      <circle class="ring" r={only ? 13 : 16} />
      {only ? <path class="mark" d={MARKS[so!.icon]} /> : <text class="many">{places.length}</text>}
      {only && props.isNamed && <text y="29" x={props.side === "middle" ? 0 : props.side === "start" ? -13 : 13} text-anchor={props.side}>{titled(only.title)}</text>}
    </g>
  );
}

function Chart(props: { places: (Place & { lat: number; lon: number })[] }) {
  const [place, width, height] = useSize();
  const city = session.value!.city;
  const origin = useMemo<[number, number]>(() => [worldX(city.lon), worldY(city.lat)], [city.lon, city.lat]);
  const paths = useMemo(() => COAST.map((ring) => smoothPath(ring, origin)), [origin]);
  const [chosen, setChosen] = useState<View | null>(null);
  const drag = useRef(new Map<number, [number, number]>());
  const points = props.places.map((each) => [each.lon, each.lat] as [number, number]);
  const whole = width ? viewOf(points.length ? points : [[city.lon - 0.05, city.lat - 0.05], [city.lon + 0.05, city.lat + 0.05]], width, height) : null;
  const view = chosen ?? whole;
  const zoom = (by: number, at: [number, number] = [width / 2, height / 2]) => {
    const now = view!;
    const scale = Math.max(2 ** 15, Math.min(2 ** 26, now.scale * by));
    const [dx, dy] = [at[0] - width / 2, at[1] - height / 2];
    setChosen({ x: now.x + dx / now.scale - dx / scale, y: now.y + dy / now.scale - dy / scale, scale });
  };
  const local = (event: PointerEvent | WheelEvent): [number, number] => {
    const rect = place.current!.getBoundingClientRect();
    return [event.clientX - rect.left, event.clientY - rect.top];
  };
  const moved = (event: PointerEvent) => {
    const before = drag.current.get(event.pointerId);
    if (!before || !view) return;
    const after = local(event);
    const others = [...drag.current].filter(([id]) => id !== event.pointerId).map(([, at]) => at);
    drag.current.set(event.pointerId, after);
    if (others[0]) {
      const [far, was] = [Math.hypot(after[0] - others[0][0], after[1] - others[0][1]), Math.hypot(before[0] - others[0][0], before[1] - others[0][1])];
      if (was > 10) zoom(far / was, [(after[0] + others[0][0]) / 2, (after[1] + others[0][1]) / 2]);
    } else setChosen({ ...view, x: view.x - (after[0] - before[0]) / view.scale, y: view.y - (after[1] - before[1]) / view.scale });
  };
  const onKey = (event: KeyboardEvent) => {
    if (!view) return;
    const step = 80 / view.scale;
    const move: Record<string, [number, number]> = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
    const by = move[event.key];
    if (by) setChosen({ ...view, x: view.x + by[0], y: view.y + by[1] });
    else if (event.key === "+" || event.key === "=") zoom(1.6);
    else if (event.key === "-") zoom(1 / 1.6);
    else return;
    event.preventDefault();
  };
  useEffect(() => {
    // A wheel over the map zooms and does not scroll; listeners of Preact are passive for wheels in some browsers.
    const element = place.current!;
    const onWheel = (event: WheelEvent) => (event.preventDefault(), zoom(event.deltaY < 0 ? 1.25 : 0.8, local(event)));
    element.addEventListener("wheel", onWheel, { passive: false });
    return () => element.removeEventListener("wheel", onWheel);
  });
  const px = (lon: number, lat: number): [number, number] => [(worldX(lon) - view!.x) * view!.scale + width / 2, (worldY(lat) - view!.y) * view!.scale + height / 2];
  let inside = null;
  if (view && width) {
    const groups = grouped(
      inOrder(props.places).map((each) => ({ ...((([x, y]) => ({ x, y }))(px((each as { lon: number }).lon, (each as { lat: number }).lat))), item: each })),
      NEAR_PX,
    );
    const k = view.scale / 1e6;
    const [x0, y0] = [(origin[0] - view.x) * view.scale + width / 2, (origin[1] - view.y) * view.scale + height / 2];
    const level = Math.log2(view.scale / 2 ** 19); // about 0 when all of the island is on the screen
    const isFree = (x: number, y: number) => groups.every((each) => (each.x === x && each.y === y) || Math.abs(each.y - y - 22) > 24 || Math.abs(each.x - x) > 95);
    const [barPx, barWords] = scaleBar(view, city.lat);
    inside = (
      <>
        <svg
          role="application"
          aria-label={t("mapOf", titled(city.title))}
          tabIndex={0}
          onKeyDown={onKey}
          onPointerDown={(event) => drag.current.set(event.pointerId, local(event))}
          onPointerMove={moved}
          onPointerUp={(event) => drag.current.delete(event.pointerId)}
          onPointerCancel={(event) => drag.current.delete(event.pointerId)}
          onPointerLeave={(event) => drag.current.delete(event.pointerId)}
        >
          {city.tiles
            ? tilesOf(view, width, height, city.tiles.url).map((each) => <image key={each.key} href={each.url} x={each.x} y={each.y} width={each.size + 0.5} height={each.size + 0.5} />)
            : paths.map((path, index) => <path key={index} class="land" d={path} transform={`translate(${x0} ${y0}) scale(${k})`} vector-effect="non-scaling-stroke" />)}
          {!city.tiles &&
            NAMES.filter((each) => level >= each.from).map((each) => {
              const [x, y] = px(...each.at);
              return (
                <text key={each.words} class={`label${each.isLand ? " on-land" : ""}`} x={x} y={y}>
                  {each.words}
                </text>
              );
            })}
          <g class="pins">
            {groups.map((each) => (
              <Pin
                key={each.items.map((item) => item.name).join()}
                x={each.x}
                y={each.y}
                places={each.items}
                isNamed={isFree(each.x, each.y)}
                side={each.x < 100 ? "start" : each.x > width - 100 ? "end" : "middle"}
                onMany={() => setChosen(viewOf(each.items.map((item) => [item.lon!, item.lat!] as [number, number]), width, height, 110))}
              />
            ))}
          </g>
        </svg>
        <div class="tools">
          <button type="button" aria-label={t("zoomIn")} onClick={() => zoom(1.6)}>
            <Icon name="plus" />
          </button>
          <button type="button" aria-label={t("zoomOut")} onClick={() => zoom(1 / 1.6)}>
            <Icon name="minus" />
          </button>
          <button type="button" aria-label={t("wholeCity")} title={t("wholeCity")} onClick={() => setChosen(null)}>
            <Icon name="map" />
          </button>
        </div>
        <div class="scale" style={{ width: `${barPx}px` }}>
          {barWords}
        </div>
      </>
    );
  }
  return (
    <div class="mapbox" ref={place}>
      {inside}
    </div>
  );
}

export function MapPage() {
  const answer = useAnswer<PlacesAnswer>("/places", "places");
  second.value;
  const city = session.value?.city;
  return (
    <Shown answer={answer}>
      {({ places }) => (
        <>
          <div class="head">
            <h1>{t("mapOf", titled(city?.title))}</h1>
          </div>
          <div class="two map">
            <div>
              <Chart places={places.filter(hasPlace)} />
              <p class="hint">{city?.tiles ? city.tiles.attribution : t("mapDrawn")}</p>
            </div>
            <ul class="list card">
              {inOrder(places).map((place) => {
                const so = standing(place);
                return (
                  <li key={place.name}>
                    <Badge tone={so.tone} icon={so.icon}>
                      {so.words}
                    </Badge>
                    <div class="words">
                      <a href={`/places/${encodeURIComponent(place.name)}`}>{titled(place.title)}</a>
                      <br />
                      <small>{[so.note, so.sinceMs ? t("for", howLong(hubNow() - so.sinceMs)) : "", hasPlace(place) ? "" : t("unplaced")].filter(Boolean).join(" · ")}</small>
                    </div>
                  </li>
                );
              })}
            </ul>
          </div>
        </>
      )}
    </Shown>
  );
}
