// What is seen by one camera, in words: the states of now, how well it is looked at, and the last events with their stills.

import { get } from "./box.js";
import { boxNow, clockMinutes, el, howLong, moment, number } from "./dom.js";
import { Overlay, mood, shortState } from "./overlay.js";
import { kindWords } from "./seeing-words.js";
import { detailWords } from "./sentences.js";
import { set } from "./tile.js";
import { t } from "./words.js";

const EVENTS_AT_ONCE = 20;
const SHOWN_MOST = 200;
const REMEMBERED = "nvr.overlay";
const NUMBERS = ["waiting", "longest_s", "dwell_s", "stood_s", "stayed_s", "people", "occupancy", "vehicles", "speed_m_s"];

/** What a rule and its place are called: "Queue · counter". */
const title = (event) => [t(`rule.${event.kind}`), event.zone].filter(Boolean).join(" · ");

export class SeeingPanel {
  /** `onplay(ms)`: somebody wants to see that moment. */
  constructor(tile, settings, onplay) {
    this.camera = settings.name;
    this.onplay = onplay;
    this.list = []; // events, newest first
    this.withMoments = false;
    this.overlay = new Overlay(tile, settings.name, (message) => this.hear(message));
    this.states = el("ul", { class: "states", "aria-live": "polite" });
    this.how = el("p", { class: "hint" });
    this.showButton = el("button", { type: "button", onclick: () => this.show(!this.overlay.isShown) }, t("showSeen"));
    this.element = el(
      "section",
      { class: "card seeing" },
      el("h2", {}, t("seeing")),
      this.states,
      this.how,
      el("div", { class: "bar" }, this.showButton, el("a", { class: "button", href: `#/zones/${settings.name}` }, t("editZones"))),
    );
    this.rows = el("ol", { class: "plain events" });
    this.momentsBox = el("input", { type: "checkbox", onchange: () => this.choose(this.momentsBox.checked) });
    this.olderButton = el("button", { type: "button", hidden: true, onclick: () => this.load(this.list.at(-1)?.number) }, t("older"));
    this.fault = el("p", { class: "note", role: "status" });
    this.events = el(
      "section",
      { class: "card" },
      el("div", { class: "row" }, el("h2", {}, t("events")), el("label", { class: "check" }, this.momentsBox, ` ${t("withMoments")}`)),
      this.rows,
      this.olderButton,
      this.fault,
    );
    this.show(this.remembered());
    this.loadScene();
    this.load();
  }

  remembered() {
    try {
      return localStorage.getItem(REMEMBERED) !== "off";
    } catch {
      return true;
    }
  }

  show(isShown) {
    this.overlay.isShown = isShown;
    this.showButton.setAttribute("aria-pressed", String(isShown));
    try {
      localStorage.setItem(REMEMBERED, isShown ? "on" : "off");
    } catch {
      // then only for this visit
    }
  }

  async loadScene() {
    try {
      this.scene = await get("/api/scene", { camera: this.camera });
      this.overlay.scene = this.scene;
      this.showHow();
    } catch (error) {
      if (!this.isClosed) set(this.how, error.message);
    }
  }

  hear(message) {
    if (message.kind === "states") {
      this.told = message;
      this.showStates();
      this.showHow();
    } else if (message.kind === "event" && (this.withMoments || !message.event.is_moment)) {
      this.list = [message.event, ...this.list.filter((each) => each.number !== message.event.number)].slice(0, SHOWN_MOST);
      this.showEvents();
    }
  }

  // -- states

  showStates() {
    const item = (state) => {
      const since = state.from_ms === null ? "" : t("since", moment(state.from_ms));
      const words = [shortState(state), interval(state)].filter(Boolean).join(", ");
      return el("li", { "data-mood": state.is_now ? mood(state) : "old" },
        el("strong", {}, words), el("span", {}, title(state)), el("small", {}, [state.is_now ? "" : t("asOf"), since, sureUntil(state), state.words.by === "motion" ? t("byMotion") : "", detailWords(state.detail)].filter(Boolean).join(" · ")));
    };
    const states = [...this.told.states].sort((a, b) => Number(b.is_now) - Number(a.is_now) || b.number - a.number);
    const text = JSON.stringify([states, states.map(sureUntil)]); // which goes on every minute
    if (text === this.statesText) return;
    this.statesText = text;
    this.states.replaceChildren(...states.map(item));
    this.states.hidden = !states.length;
  }

  showHow() {
    const { told, scene } = this;
    if (!told || !scene) return;
    const status = told.status;
    if (!scene.is_looked_at) return set(this.how, t("nothingToDo"));
    if (!told.is_looking) return set(this.how, t("notLooking"));
    const parts = [status?.looks_per_s ? t("looking", number(status.looks_per_s, 1)) : t("lookingSome")];
    if (status?.is_keyframes_only) parts.push(t("keyframesOnly"));
    parts.push(told.model ? t("byModel", told.model) : t("noModel"));
    if (status?.shed) parts.push(t("shed", number(status.shed)));
    if (status?.trouble) parts.push(status.trouble);
    set(this.how, `${parts.join(" · ")}${told.states.length ? "" : ` · ${t("noStates")}`}`);
  }

  // -- events

  choose(withMoments) {
    this.withMoments = withMoments;
    this.list = [];
    this.load();
  }

  async load(before = undefined) {
    const asked = this.withMoments;
    try {
      const answer = await get("/api/events", { camera: this.camera, limit: EVENTS_AT_ONCE, moments: String(asked), ...(before ? { before } : {}) });
      if (this.isClosed || asked !== this.withMoments) return;
      const known = new Set(this.list.map((each) => each.number));
      this.list = [...this.list, ...answer.events.filter((each) => !known.has(each.number))].sort((a, b) => b.number - a.number);
      this.olderButton.hidden = answer.events.length < EVENTS_AT_ONCE || this.list.length >= SHOWN_MOST;
      this.showEvents();
    } catch (error) {
      if (error.status !== 401 && !this.isClosed) set(this.fault, [error.message, error.hint].filter(Boolean).join(". "));
    }
  }

  /** Rows are kept: a still that was fetched is not fetched again. */
  showEvents() {
    const rows = new Map([...this.rows.children].map((row) => [row.dataset.number, row]));
    this.rows.replaceChildren(...this.list.map((event) => rows.get(String(event.number)) ?? this.row(event)));
    if (!this.list.length) this.rows.replaceChildren(el("li", { class: "hint" }, t("noEvents")));
  }

  row(event) {
    const words = event.kind === "line_crossing" ? [kindWords(event.words.class), t(`direction.${event.words.direction}`)] : [shortState(event), event.is_end ? t("over") : ""];
    const facts = [...NUMBERS.filter((name) => name in event.numbers).map((name) => numberWords(name, event)), event.words.class && event.kind !== "line_crossing" ? kindWords(event.words.class) : "", detailWords(event.detail)];
    const when = event.from_ms === null ? t("timeUnknown") : moment(event.from_ms);
    const play = event.from_ms !== null && (() => this.onplay(event.from_ms));
    const picture = event.has_still
      ? el("img", { src: `/api/events/${event.number}/still`, alt: t("stillOf", `${title(event)}, ${when}`), loading: "lazy", width: 160, height: 90 })
      : el("span", { class: "nostill", "aria-hidden": "true" });
    return el("li", { "data-number": String(event.number), "data-mood": event.is_end ? "none" : mood(event) },
      play ? el("button", { type: "button", class: "still", onclick: play, "aria-label": `${t("playEvent", when)}: ${title(event)}` }, picture) : picture,
      el("div", {},
        el("strong", {}, [title(event), words.filter(Boolean).join(", ")].join(": ")),
        el("span", { class: "when" }, event.to_ms - event.from_ms > 2000 ? `${when} · ${howLong(event.to_ms - event.from_ms)}` : when),
        el("small", {}, facts.filter(Boolean).join(" · "))));
  }

  close() {
    this.isClosed = true;
    this.overlay.close();
  }
}

/** `closed` is said of a time that ended a while ago, because a frozen picture is noticed late. */
function sureUntil(state) {
  const behind = state.numbers.behind_s;
  return behind === undefined || !state.is_now ? "" : t("sureUntil", clockMinutes(boxNow() - behind * 1000));
}

/** A number that is not sure is told with its interval. */
function interval(event) {
  const { waiting_least: least, waiting_most: most } = event.numbers;
  if (least === undefined || least === most) return "";
  return most === undefined ? "" : t("uncertain", number(least), number(most));
}

function numberWords(name, event) {
  const value = event.numbers[name];
  if (name === "waiting") return [`${number(value)} ${t("number.waiting")}`, interval(event) && `(${interval(event)})`].filter(Boolean).join(" ");
  if (name === "occupancy") return `${t(`number.${name}`)} ${number(value * 100)} %`;
  if (name.endsWith("_s") && name !== "speed_m_s") return `${t(`number.${name}`)} ${howLong(value * 1000)}`;
  return `${number(value, 1)} ${t(`number.${name}`)}`;
}
