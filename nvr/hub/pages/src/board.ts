// What a place says of itself in one word, how loud, and in which order places ask for somebody.

import type { Place } from "./api";
import type { IconName } from "./parts/icon";
import type { Tone } from "./parts/small";
import { said, t } from "./words";

export interface Standing {
  tone: Tone;
  icon: IconName;
  words: string; // the state
  sinceMs: number | null;
  note: string; // what it should be
  group: "needsYou" | "cannotSee" | "isGood" | "isQuiet";
}

const LONG_WAIT_S = 45 * 60;

export function standing(place: Place): Standing {
  const { service, traffic, queue } = place;
  const hasIncident = place.incidents.length > 0;
  if (service) {
    const isDue = service.due === "open";
    const since = service.since_ms || null;
    if (service.state === "closed" && isDue) return { tone: "bad", icon: "bar", words: t("service.closed"), sinceMs: since, note: t("dueOpen"), group: "needsYou" };
    if (service.state === "closed") return { tone: "quiet", icon: "bar", words: t("service.closed"), sinceMs: since, note: service.due === "closed" ? t("dueClosed") : "", group: hasIncident ? "needsYou" : "isQuiet" };
    if (service.state === "open") {
      const isLong = (queue?.wait_s ?? 0) >= LONG_WAIT_S;
      return { tone: "good", icon: "check", words: t("service.open"), sinceMs: since, note: service.due === "closed" ? t("dueClosed") : "", group: hasIncident || isLong ? "needsYou" : "isGood" };
    }
    const isOff = service.due === "closed";
    return { tone: isOff ? "quiet" : "unsure", icon: "question", words: t("service.cannot tell"), sinceMs: since, note: isDue ? t("dueOpen") : isOff ? t("dueClosed") : "", group: hasIncident ? "needsYou" : isOff ? "isQuiet" : "cannotSee" };
  }
  if (traffic) {
    const since = traffic.since_ms || null;
    if (traffic.state === "jam") return { tone: "bad", icon: "jam", words: t("traffic.jam"), sinceMs: since, note: "", group: "needsYou" };
    if (traffic.state === "dense") return { tone: "busy", icon: "dense", words: t("traffic.dense"), sinceMs: since, note: "", group: hasIncident ? "needsYou" : "isGood" };
    if (traffic.state === "free") return { tone: "good", icon: "free", words: t("traffic.free"), sinceMs: since, note: "", group: hasIncident ? "needsYou" : "isGood" };
    return { tone: "unsure", icon: "question", words: t("traffic.cannot tell"), sinceMs: since, note: "", group: hasIncident ? "needsYou" : "cannotSee" };
  }
  const first = place.incidents[0];
  if (first) return { tone: "bad", icon: "warn", words: said("event", first.kind), sinceMs: first.since_ms, note: "", group: "needsYou" };
  const live = place.state_of_cameras.live ?? 0;
  const all = place.cameras.length;
  if (all > 0 && live === 0) return { tone: "unsure", icon: "question", words: t("service.cannot tell"), sinceMs: null, note: "", group: "cannotSee" };
  return { tone: "good", icon: "check", words: t("calm.public"), sinceMs: null, note: "", group: "isGood" };
}

export const GROUPS = ["needsYou", "cannotSee", "isGood", "isQuiet"] as const;
const LOUD: Record<Tone, number> = { bad: 0, unsure: 1, busy: 2, good: 3, quiet: 4 };

/** Who needs somebody first: by group, then by how loud, then who has waited longest. */
export function inOrder(places: Place[]): Place[] {
  const key = (place: Place) => {
    const so = standing(place);
    return [GROUPS.indexOf(so.group), LOUD[so.tone], so.sinceMs ?? Infinity] as const;
  };
  return [...places].sort((a, b) => {
    const [x, y] = [key(a), key(b)];
    return x[0] - y[0] || x[1] - y[1] || x[2] - y[2] || a.name.localeCompare(b.name);
  });
}
