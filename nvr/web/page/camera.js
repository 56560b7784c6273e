// One camera: live on top, its days on a timeline below, playback from any second, and clips cut out of them.

import { get, send } from "./box.js";
import { boxNow, clock, dayWords, el, howLong, isoDay, moment } from "./dom.js";
import { now } from "./player.js";
import { RecordedPlayer } from "./recorded.js";
import { SeeingPanel } from "./seeing.js";
import { Tile, set } from "./tile.js";
import { DAY_MS, Timeline } from "./timeline.js";
import { causeWords, t } from "./words.js";

const RELOAD_MS = 10000; // of a day that is not over
const GAPS_SHOWN = 200;
const EVENT_BEFORE_MS = 2000;
const EVENT_AFTER_MS = 2000;
const NEARLY_LIVE_MS = 3000; // who has played up to here goes on live

export function camera(box, name) {
  const settings = box.cameras.find((each) => each.name === name);
  if (!settings) {
    location.replace("#/");
    return { title: "", element: el("div"), tick() {}, close() {} };
  }
  return new CameraView(box, settings);
}

class CameraView {
  constructor(box, settings) {
    this.box = box;
    this.settings = settings;
    this.title = settings.title;
    this.stream = `${settings.name}/main`;
    this.dayMs = boxNow();
    this.tile = new Tile(box.link, this.stream, { class: "tile big" });
    this.tile.isDetailed = true;
    this.tile.element.append(this.tile.words);
    this.tile.show();
    this.video = el("video", { playsinline: true, muted: true, hidden: true, "aria-label": t("played") });
    this.video.muted = true;
    this.playedAt = el("span", { class: "played", hidden: true });
    this.tile.screen.append(this.video, this.playedAt);
    this.player = new RecordedPlayer(this.video, this.stream, {
      ongap: (gap) => this.notice(t("jumped", moment(gap.fromMs), moment(gap.toMs), this.causeOf(gap))),
      onend: () => this.notice(t("ended")),
      onfault: (error) => this.notice([error.message, error.hint].filter(Boolean).join(". ")),
    });
    this.timeline = new Timeline(settings.title, (ms) => this.play(ms), (fromMs, toMs) => this.showChosen(fromMs, toMs));
    this.note = el("p", { class: "note", role: "status" });
    this.seeing = new SeeingPanel(this.tile, settings, (ms) => this.playEvent(ms));
    this.build();
    this.onkey = (event) => this.key(event);
    document.addEventListener("keydown", this.onkey);
    this.load();
  }

  build() {
    const button = (words, onclick, attributes = {}) => el("button", { type: "button", onclick, ...attributes }, words);
    this.pauseButton = button(t("pause"), () => this.toggle());
    this.speeds = [1, 2, 4, 8].map((speed) => button(`${speed}×`, () => this.setSpeed(speed), { "aria-pressed": String(speed === 1) }));
    this.controls = el(
      "div",
      { class: "bar", hidden: true },
      button(t("toLive"), () => this.toLive(), { class: "main" }),
      this.pauseButton,
      button("−1", () => this.step(-1), { "aria-label": t("stepBack"), title: t("stepBack") }),
      button("+1", () => this.step(1), { "aria-label": t("stepOn"), title: t("stepOn") }),
      el("span", { class: "group", role: "group", "aria-label": t("speed") }, this.speeds),
    );
    this.dayTitle = el("h2", {});
    this.dayInput = el("input", { type: "date", "aria-label": t("day"), max: isoDay(boxNow()), onchange: () => this.dayInput.value && this.goTo(this.dayInput.value) });
    this.dayFacts = el("p", { class: "hint" });
    const zoom = (words, ms) => button(words, () => this.timeline.zoomTo(ms, this.timeline.middleMs()));
    const days = el(
      "div",
      { class: "bar" },
      button("‹", () => this.move(-1), { "aria-label": t("previousDay"), title: t("previousDay") }),
      this.dayInput,
      button("›", () => this.move(1), { "aria-label": t("nextDay"), title: t("nextDay") }),
      button(t("today"), () => this.goTo(isoDay(boxNow()))),
      el("span", { class: "group" }, zoom(t("day"), 2 * DAY_MS), zoom(t("hour"), 3600000), zoom(t("tenMinutes"), 600000)),
    );
    this.gaps = el("details", { class: "card gaps" });
    this.loose = el("section", { class: "card", hidden: true });
    this.element = el(
      "div",
      { class: "camera" },
      el("p", {}, el("a", { href: "#/" }, `‹ ${t("back")}`)),
      el("h1", {}, this.settings.title, this.settings.place ? el("small", {}, ` ${this.settings.place}`) : null),
      this.tile.element,
      this.controls,
      this.note,
      this.seeing.element,
      this.dayTitle,
      days,
      this.timeline.element,
      this.dayFacts,
      el("p", { class: "hint keys", id: "timeline-help" }, t("timelineHelp")),
      this.clipForm(),
      this.seeing.events,
      this.gaps,
      this.loose,
    );
  }

  // -- days

  async load(keepView = false) {
    const day = isoDay(this.dayMs);
    try {
      const answer = await get("/api/day", { stream: this.stream, date: day });
      if (day !== isoDay(this.dayMs) || this.isClosed) return;
      this.loadedMs = now();
      this.isToday = answer.to_ms > boxNow();
      this.spans = answer.spans;
      set(this.dayTitle, dayWords(answer.from_ms + 1000));
      this.dayInput.value = day;
      this.timeline.show(answer.from_ms, answer.to_ms, answer.spans, keepView);
      // A box that was started an hour ago: its footage would be a hair on a whole day.
      if (!keepView && this.isToday && answer.recorded_ms < 3600000) this.timeline.zoomTo(3600000, boxNow(), 0.9);
      const gaps = answer.spans.filter((span) => span.cause && !span.is_before);
      const missingMs = gaps.reduce((sum, gap) => sum + gap.to_ms - gap.from_ms, 0);
      set(this.dayFacts, answer.recorded_ms ? t("dayRecorded", howLong(answer.recorded_ms), howLong(missingMs)) : t("nothingDay"));
      this.showGaps(gaps);
      this.showLoose(answer.clock_unknown);
    } catch (error) {
      if (error.status !== 401 && !this.isClosed) this.notice([error.message, error.hint].filter(Boolean).join(". "));
    }
  }

  move(days) {
    const middle = this.timeline.day.fromMs + DAY_MS / 2; // noon: days may have 23 or 25 hours
    this.goTo(isoDay(middle + days * DAY_MS));
  }

  goTo(day) {
    if (day > isoDay(boxNow())) return;
    this.dayMs = Date.parse(`${day}T12:00:00Z`);
    // Noon UTC lies on another day where the zone is more than 12 hours away.
    for (const shift of [0, -DAY_MS / 2, DAY_MS / 2]) if (isoDay(this.dayMs + shift) === day) { this.dayMs += shift; break; }
    this.load();
  }

  showGaps(gaps) {
    const isOpen = this.gaps.open;
    const row = (gap) =>
      el("tr", {},
        el("td", {}, el("button", { type: "button", class: "quiet", onclick: () => this.timeline.zoomTo(Math.max(600000, 3 * (gap.to_ms - gap.from_ms)), gap.from_ms) }, clock(gap.from_ms))),
        el("td", {}, clock(gap.to_ms)), el("td", {}, howLong(gap.to_ms - gap.from_ms)),
        el("td", {}, [causeWords(gap.cause), gap.detail].filter(Boolean).join(": ")));
    const head = el("tr", {}, [t("from"), t("to"), t("length"), t("cause")].map((words) => el("th", { scope: "col" }, words)));
    this.gaps.replaceChildren(
      el("summary", {}, gaps.length ? `${t("gaps")} (${gaps.length})` : t("noGaps")),
      gaps.length ? el("div", { class: "scroll" }, el("table", {}, el("thead", {}, head), el("tbody", {}, gaps.slice(0, GAPS_SHOWN).map(row)))) : "",
    );
    this.gaps.open = isOpen;
  }

  /** Footage whose time nobody knows is shown apart, never on a day. */
  showLoose(spans) {
    this.loose.hidden = !spans.length;
    const item = (span) => el("li", {}, el("button", { type: "button", onclick: () => this.play(span.from_ms) }, t("play")), ` ${moment(span.from_ms)} · ${howLong(span.to_ms - span.from_ms)}`);
    this.loose.replaceChildren(el("h2", {}, t("noClock")), el("p", { class: "hint" }, t("noClockHint")), el("ul", { class: "plain" }, spans.map(item)));
  }

  causeOf(gap) {
    const span = (this.spans ?? []).find((each) => each.cause && each.from_ms < gap.toMs && each.to_ms > gap.fromMs);
    return causeWords(span?.cause);
  }

  // -- playing

  play(ms) {
    if (ms > boxNow() - 2 * NEARLY_LIVE_MS) this.toLive();
    else this.replay(ms);
  }

  /** Play from `ms`, however short ago: what is not on disk yet is waited for. Not live before `untilMs` was shown. */
  replay(ms, untilMs = ms) {
    this.replayedMs = untilMs;
    this.notice("");
    const wasOn = this.player.isOn;
    this.player.wants = true;
    if (wasOn) this.player.seek(ms);
    else {
      this.tile.hide();
      this.player.play(ms);
    }
    this.tile.element.classList.add("replays");
    for (const each of [this.video, this.playedAt, this.controls]) each.hidden = false;
    set(this.pauseButton, t("pause"));
    set(this.playedAt, t("loading"));
    this.timeline.setHead(ms);
  }

  /** An event is looked at from a little before it, on the timeline of its day; also one of a second ago, which live would miss. */
  playEvent(ms) {
    if (isoDay(ms) !== isoDay(this.dayMs)) this.goTo(isoDay(ms));
    this.replay(ms - EVENT_BEFORE_MS, ms + EVENT_AFTER_MS);
    this.tile.element.scrollIntoView({ block: "nearest" });
  }

  toLive() {
    this.player.stop();
    this.tile.element.classList.remove("replays");
    for (const each of [this.video, this.playedAt, this.controls]) each.hidden = true;
    this.timeline.setHead(null);
    this.notice("");
    this.tile.show();
  }

  toggle() {
    this.player.toggle();
    set(this.pauseButton, t(this.player.wants ? "pause" : "play"));
  }

  step(by) {
    this.player.step(by);
    set(this.pauseButton, t("play"));
  }

  setSpeed(speed) {
    this.player.setSpeed(speed);
    for (const each of this.speeds) each.setAttribute("aria-pressed", String(each.textContent === `${speed}×`));
  }

  key(event) {
    if (event.target.matches?.("input, textarea, select, button, a, summary") || event.ctrlKey || event.metaKey || event.altKey || !this.player.isOn) return;
    const keys = { " ": () => this.toggle(), ",": () => this.step(-1), ".": () => this.step(1), 1: () => this.setSpeed(1), 2: () => this.setSpeed(2), 4: () => this.setSpeed(4), 8: () => this.setSpeed(8), Escape: () => this.toLive() };
    if (!keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  }

  notice(words) {
    set(this.note, words);
  }

  // -- clips

  clipForm() {
    // Not type=time: browsers would write it with am and pm where their owner's language does.
    const input = (label) => el("input", { class: "time", inputmode: "numeric", placeholder: "09:30:00", maxlength: 8, "aria-label": label, onchange: () => this.typed() });
    this.fromInput = input(t("from"));
    this.toInput = input(t("to"));
    this.clipLength = el("span", { class: "hint" });
    this.clipNote = el("p", { class: "note", role: "status" });
    this.cutButton = el("button", { type: "submit", class: "main", disabled: true }, t("cut"));
    this.holdButton = el("button", { type: "button", disabled: true, onclick: () => this.holdChosen() }, t("hold"));
    const at = () => this.player.timeMs?.() ?? this.timeline.cursorMs ?? boxNow() - NEARLY_LIVE_MS;
    return el(
      "form",
      { class: "card clip", onsubmit: (event) => (event.preventDefault(), this.cutChosen()) },
      el("h2", {}, t("clip")),
      el("p", { class: "hint" }, t("clipHelp")),
      el("div", { class: "bar" },
        el("button", { type: "button", onclick: () => this.timeline.mark("fromMs", at()) }, t("clipFrom")), this.fromInput,
        el("button", { type: "button", onclick: () => this.timeline.mark("toMs", at()) }, t("clipTo")), this.toInput, this.clipLength),
      el("div", { class: "bar" }, this.cutButton, this.holdButton),
      this.clipNote,
    );
  }

  showChosen(fromMs, toMs) {
    this.fromInput.value = fromMs === null ? "" : clock(fromMs);
    this.toInput.value = toMs === null ? "" : clock(toMs);
    const isWhole = fromMs !== null && toMs !== null;
    set(this.clipLength, isWhole ? howLong(toMs - fromMs) : "");
    this.cutButton.disabled = this.holdButton.disabled = !isWhole;
  }

  /** Times typed by hand belong to the day that is shown. */
  typed() {
    const at = (value) => {
      const match = /^(\d{1,2})[:.](\d{1,2})(?:[:.](\d{1,2}))?$/.exec(value.trim());
      if (!match) return null;
      const [h, m, s] = match.slice(1).map((digits) => Number(digits ?? 0));
      return this.timeline.day.fromMs + ((h * 60 + m) * 60 + s) * 1000;
    };
    const [fromMs, toMs] = [at(this.fromInput.value), at(this.toInput.value)];
    this.timeline.choose(fromMs, toMs !== null && fromMs !== null && toMs <= fromMs ? null : toMs);
  }

  async cutChosen() {
    const { fromMs, toMs } = this.timeline.chosen;
    this.cutButton.disabled = true;
    this.clipNote.replaceChildren(t("cutting"));
    try {
      const clip = await send("POST", "/api/clips", { stream: this.stream, from: Math.floor(fromMs), to: Math.ceil(toMs) });
      const link = el("a", { href: clip.path, download: clip.name, class: "button" }, `${t("download")}: ${clip.name}`);
      this.clipNote.replaceChildren(`${t("clipReady")}. `, link);
      link.click();
    } catch (error) {
      this.clipNote.replaceChildren([error.message, error.hint].filter(Boolean).join(". "));
    }
    this.cutButton.disabled = false;
  }

  async holdChosen() {
    const { fromMs, toMs } = this.timeline.chosen;
    try {
      await send("POST", "/api/holds", { stream: this.stream, from: Math.floor(fromMs), to: Math.ceil(toMs) });
      this.clipNote.replaceChildren(t("held"));
    } catch (error) {
      this.clipNote.replaceChildren([error.message, error.hint].filter(Boolean).join(". "));
    }
  }

  // -- the beat

  tick() {
    this.tile.tick();
    this.player.tick();
    if (this.player.isOn) {
      const ms = this.player.timeMs();
      if (ms !== null) {
        set(this.playedAt, `${t("played")} · ${moment(ms)}`);
        this.timeline.setHead(ms);
        if (this.player.wants && ms > Math.max(this.replayedMs, boxNow() - NEARLY_LIVE_MS)) this.toLive();
      }
    }
    if (this.isToday && now() - this.loadedMs > RELOAD_MS && !document.hidden) {
      this.loadedMs = now();
      this.load(true);
    }
  }

  close() {
    this.isClosed = true;
    document.removeEventListener("keydown", this.onkey);
    this.player.stop();
    this.tile.hide();
    this.timeline.close();
    this.seeing.close();
  }
}
