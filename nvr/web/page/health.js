// How the cameras and the box are: numbers with words beside them.

import { get } from "./box.js";
import { clock, dayWords, el, howLong, moment, number, size } from "./dom.js";
import { causeWords, t } from "./words.js";

const EVERY_MS = 3000;

export function health(box) {
  const boxCards = el("div", { class: "facts" });
  const cameras = el("div", { class: "facts cameras" });
  const note = el("p", { class: "note", role: "status" });
  let askedMs = 0;
  let isClosed = false;

  const fact = (name, value, state = "", kind = "fact") => el("div", { class: kind, "data-state": state }, el("dt", {}, name), el("dd", {}, value ?? "–"));

  const faultWords = (fault) => (fault ? `${moment(fault.since_ms)} · ${[causeWords(fault.cause), fault.detail].filter(Boolean).join(": ")}` : "–");

  function clockFact(said) {
    if (said.state === 2) return fact(t("clock"), t("clockSynced", number(said.error_ns / 1e9, 2)), "good");
    if (said.state === 1) return fact(t("clock"), t("clockPlausible"), "wait");
    return fact(t("clock"), t("clockUnset"), "down");
  }

  function diskFact(disk) {
    if (disk.cause) return fact(t("disk"), [causeWords(disk.cause), disk.detail].filter(Boolean).join(": "), "down");
    const words = disk.total_bytes ? t("free", size(disk.free_bytes), size(disk.total_bytes)) : t("diskGood");
    return fact(t("disk"), words, "good");
  }

  // "return": the box went back by itself; "refused": it never began. Both need somebody to look.
  const UPDATE_LOOKS = { committed: "good", return: "down", refused: "down", stay: "down" };

  function updateFact(update) {
    const words = [t(`update.${update.state}`), update.version, update.reason].filter(Boolean).join(" · ");
    return fact(t("lastUpdate"), words, UPDATE_LOOKS[update.state] ?? "wait", "fact long");
  }

  function cameraCard(camera, answer) {
    const cards = camera.streams.map((kind) => {
      const name = `${camera.name}/${kind}`;
      const stream = answer.streams[name] ?? {};
      const isSilent = answer.recorder_silent_s > 4;
      const isGood = stream.recording && !isSilent;
      const state = isSilent ? t("recorderSilent") : stream.recording ? t("recording") : stream.cause ? t("notRecording") : t("starting");
      const why = stream.recording ? "" : [stream.cause && causeWords(stream.cause), stream.detail].filter(Boolean).join(": ");
      const since = stream.since_ms ? t("since", moment(stream.since_ms)) : "";
      const ring = stream.ring ?? {};
      const has = (value) => value !== null && value !== undefined;
      return el("section", { class: "card", "data-state": isGood ? "good" : stream.cause || isSilent ? "down" : "wait" },
        el("h3", {}, camera.streams.length > 1 ? t(kind) : null, " ", el("strong", { class: "badge" }, state), " ", el("small", {}, since)),
        why ? el("p", { class: "why" }, why) : null,
        el("dl", {},
          fact(t("bitrate"), has(stream.bits_per_s) ? `${number(stream.bits_per_s / 1e6, 2)} Mbit/s` : t("unknown")),
          fact(t("pictures"), has(stream.pictures_per_s) ? t("perSecond", number(stream.pictures_per_s, 1)) : t("unknown")),
          fact(t("lost"), has(stream.lost_packets) ? number(stream.lost_packets) : t("unknown"), stream.lost_packets > 0 ? "wait" : ""),
          fact(t("reconnects"), has(stream.reconnects) ? number(stream.reconnects) : t("unknown")),
          fact(t("offset"), has(stream.clock_offset_s) ? t("offsetBy", number(stream.clock_offset_s, 1)) : t("unknown"), Math.abs(stream.clock_offset_s) > 5 ? "wait" : ""),
          fact(t("ring"), has(ring.budget_bytes) && ring.budget_bytes ? `${size(ring.used_bytes)} / ${size(ring.budget_bytes)}` : t("unknown")),
          fact(t("oldest"), has(ring.from_ms) ? `${moment(ring.from_ms)} (${howLong(answer.now_ms - ring.from_ms)})` : t("unknown")),
          fact(t("lastFault"), faultWords(stream.last_fault), "", "fact long")));
    });
    return el("article", {}, el("h2", {}, el("a", { href: `#/camera/${camera.name}` }, camera.title)), cards);
  }

  async function load() {
    try {
      const answer = await get("/api/status");
      if (isClosed) return;
      note.textContent = "";
      boxCards.replaceChildren(
        el("dl", { class: "card" },
          fact(t("seenAt", box.time_zone), `${dayWords(answer.now_ms)}, ${clock(answer.now_ms)}`),
          clockFact(answer.clock),
          diskFact(answer.disk),
          ...answer.troubles.map((each) => fact(t(`trouble.${each.kind}`), [each.since_ms ? moment(each.since_ms) : "", each.detail].filter(Boolean).join(" · "), "down", "fact long")),
          fact(t("version"), [answer.system.version, answer.system.slot && t("slot", answer.system.slot)].filter(Boolean).join(" · ")),
          answer.update.state ? updateFact(answer.update) : null,
        ),
      );
      cameras.replaceChildren(...box.cameras.map((camera) => cameraCard(camera, answer)));
    } catch (error) {
      if (error.status !== 401) note.textContent = [error.message, error.hint].filter(Boolean).join(". ");
    }
  }

  return {
    title: t("health"),
    element: el("div", {}, el("h1", {}, t("health")), note, boxCards, cameras),
    tick() {
      if (Date.now() - askedMs < EVERY_MS || document.hidden) return;
      askedMs = Date.now();
      load();
    },
    close() {
      isClosed = true;
    },
  };
}
