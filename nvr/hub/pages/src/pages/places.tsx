// The places of the city as they are now; whoever needs somebody stands first. This is what the mayor's phone opens with.

import { useState } from "preact/hooks";
import { titled, useAnswer, type Place } from "../api";
import { GROUPS, inOrder, standing } from "../board";
import { PlaceCard } from "../parts/placecard";
import { InstructPlace } from "../parts/instruct";
import { Badge, Empty, Shown, input } from "../parts/small";
import { second } from "../time";
import { t } from "../words";

export interface PlacesAnswer {
  now_ms: number;
  places: Place[];
}

function Sum(props: { places: Place[] }) {
  const count = (group: string) => props.places.filter((each) => standing(each).group === group).length;
  const needs = count("needsYou");
  const unsure = count("cannotSee");
  const good = count("isGood");
  return (
    <h1 class="sum bar">
      {needs > 0 && (
        <Badge tone="bad" icon="warn" large>
          {t("attentionSum", needs)}
        </Badge>
      )}
      {unsure > 0 && (
        <Badge tone="unsure" icon="question" large>
          {t("unsureSum", unsure)}
        </Badge>
      )}
      <Badge tone={good ? "good" : "quiet"} icon="check" large>
        {needs + unsure === 0 && good ? t("allGood") : t("goodSum", good)}
      </Badge>
    </h1>
  );
}

export function Places() {
  const answer = useAnswer<PlacesAnswer>("/places", "places");
  const [wanted, setWanted] = useState("");
  const [asked, setAsked] = useState<Place | null>(null);
  second.value;
  return (
    <Shown answer={answer}>
      {({ places }) => {
        if (places.length === 0) return <Empty icon="places" title={t("noPlaces")} hint={t("noPlacesHint")} />;
        const words = wanted.trim().toLowerCase();
        const found = inOrder(places).filter((each) => titled(each.title).toLowerCase().includes(words));
        return (
          <>
            <div class="head">
              <Sum places={places} />
              <input class="search" type="search" aria-label={t("searchPlace")} placeholder={t("searchPlace")} value={wanted} onInput={input(setWanted)} />
            </div>
            {GROUPS.map((group) => {
              const list = found.filter((each) => standing(each).group === group);
              return list.length === 0 ? null : (
                <section key={group} class="group" data-group={group}>
                  <h2>
                    {t(group)} <small>{list.length}</small>
                  </h2>
                  <div class="places">
                    {list.map((place) => (
                      <PlaceCard key={place.name} place={place} onInstruct={setAsked} />
                    ))}
                  </div>
                </section>
              );
            })}
            {found.length === 0 && <p class="hint">{t("noMatch")}</p>}
            {asked && <InstructPlace place={asked} onClose={() => setAsked(null)} />}
          </>
        );
      }}
    </Shown>
  );
}
