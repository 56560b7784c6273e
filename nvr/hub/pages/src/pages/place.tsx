// One place: how it is, its cameras, what happened there.

import { useState } from "preact/hooks";
import { titled, useAnswer, type Place } from "../api";
import { EventList, type EventsAnswer } from "../parts/events";
import { InstructPlace } from "../parts/instruct";
import { PlaceCard } from "../parts/placecard";
import { Shown } from "../parts/small";
import { Tile } from "../parts/tile";
import { t } from "../words";
import type { WallAnswer } from "./wall";

export function PlacePage(props: { name: string }) {
  const name = decodeURIComponent(props.name);
  const answer = useAnswer<Place>(`/places/${encodeURIComponent(name)}`, "places");
  const wall = useAnswer<WallAnswer>("/wall", "wall");
  const events = useAnswer<EventsAnswer>(`/events?place=${encodeURIComponent(name)}&limit=40`, "places");
  const [asked, setAsked] = useState<Place | null>(null);
  return (
    <Shown answer={answer}>
      {(place) => {
        const cameras = wall.data?.cameras.filter((each) => each.place === place.name) ?? [];
        return (
          <>
            <p class="bar">
              <a class="button quiet" href="/places">
                ‹ {t("places")}
              </a>
            </p>
            <h1 style={{ marginBottom: ".6rem" }}>{titled(place.title)}</h1>
            {place.address && <p class="hint">{place.address}</p>}
            <div class="two">
              <div>
                <PlaceCard place={place} onInstruct={setAsked} />
                <div class="wall" style={{ marginTop: ".8rem" }}>
                  {cameras.map((camera) => (
                    <Tile key={camera.id} camera={camera} />
                  ))}
                </div>
              </div>
              <section class="card">
                <h2>{t("events")}</h2>
                <EventList events={events.data?.events ?? []} />
              </section>
            </div>
            {asked && <InstructPlace place={asked} onClose={() => setAsked(null)} />}
          </>
        );
      }}
    </Shown>
  );
}
