// One camera as a tile: its live picture, and in words whether it is recorded and whether the picture is of now.

import { clock, el, howLong, moment } from "./dom.js";
import { LivePlayer, canPlay } from "./player.js";
import { causeWords, t } from "./words.js";

// A picture is called old when it was taken 5 s ago. The last picture of a camera that stops reaches us about
// 1 s after it was taken and the page looks five times a second, so 4.6 s keeps the promise with room to spare.
const OLD_MS = 4600;
const RECORDER_SILENT_S = 4;
const DEAD_MS = 8000;

export class Tile {
  constructor(link, stream, attributes = {}) {
    this.link = link;
    this.stream = stream;
    this.isDetailed = false; // the technical reason as well; it is English
    this.video = el("video", { muted: true, playsinline: true, tabindex: -1, "aria-hidden": "true" });
    this.cover = el("div", { class: "cover" });
    this.age = el("span", { class: "age" });
    this.badge = el("strong", { class: "badge" });
    this.why = el("span", { class: "why" });
    // If this page's own script ever stops, nobody is left to say that the picture is old: this animation does.
    this.dead = el("div", { class: "cover dead" }, el("strong", {}, t("noLive")));
    this.screen = el("div", { class: "screen" }, this.video, this.cover, this.dead, this.age);
    this.words = el("div", { class: "words", role: "status" }, this.badge, this.why);
    this.element = el("article", { class: "tile", "data-stream": stream, "data-state": "wait", ...attributes }, this.screen);
    this.deadman = this.dead.animate?.([{ visibility: "visible" }, { visibility: "visible" }], { delay: DEAD_MS, duration: 1, fill: "forwards" });
    this.take = (header, init, fragment) => this.player?.take(header, init, fragment);
  }

  /** Begin to fetch pictures; a tile that nobody sees does not. */
  show() {
    if (this.player || !canPlay()) return;
    this.player = new LivePlayer(this.video, () => this.link.again(this.stream));
    this.link.watch(this.stream, this.take);
  }

  hide() {
    if (!this.player) return;
    this.link.unwatch(this.stream, this.take);
    this.player.close();
    this.player = null;
  }

  /** What there is to say, most important first: [state, badge, why]. */
  verdict() {
    const { link } = this;
    if (!link.isAlive) return ["gone", t("boxGone"), t("for", howLong(link.silentMs()))];
    const status = link.streams[this.stream];
    if (link.recorderSilentS > RECORDER_SILENT_S) return ["gone", t("recorderSilent"), t("for", howLong(link.recorderSilentS * 1000))];
    if (!status || (!status.recording && !status.cause)) return ["wait", t("starting"), ""];
    const since = status.since_ms ? t("since", moment(status.since_ms)) : "";
    if (status.recording) return ["good", t("recording"), ""];
    const why = [causeWords(status.cause), this.isDetailed && status.detail].filter(Boolean).join(": ");
    return ["down", t("notRecording"), `${why} · ${since}`];
  }

  /** Bring words and looks up to date; called five times a second. */
  tick() {
    this.player?.tick();
    if (this.deadman) this.deadman.currentTime = 0;
    const [state, badge, why] = this.verdict();
    const ageMs = this.player?.ageMs() ?? null;
    const isOld = ageMs !== null && ageMs > OLD_MS;
    set(this.badge, badge);
    set(this.why, why);
    this.element.dataset.state = state;
    this.element.dataset.picture = ageMs === null ? "none" : isOld ? "old" : "live";
    if (!canPlay()) set(this.cover, t("cannotPlay"));
    else if (ageMs === null) set(this.cover, t("noPicture"));
    else set(this.cover, isOld ? t("oldBy", howLong(ageMs)) : "");
    const header = this.player?.header();
    const isTimed = header && header.clock_state > 0;
    set(this.age, ageMs === null || isOld ? "" : isTimed ? clock(header.wall_ms) : t("clockUnknown"));
  }
}

/** Change text only when it changes: screen readers repeat it otherwise. */
export function set(node, text) {
  if (node.textContent !== text) node.textContent = text;
}
