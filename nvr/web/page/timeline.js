// One day of one camera on a strip: what was recorded, what is missing and why. Zooms by wheel, pinch, keys and
// buttons; a click asks to play. The strip is drawn, so the same facts also stand in words in the list below it.

import { clock, clockMinutes, el, howLong } from "./dom.js";
import { causeWords, t } from "./words.js";

export const DAY_MS = 86400000;
const SHORTEST_MS = 60000;
const STEPS_MS = [1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 10800, 21600].map((s) => s * 1000);
const HEIGHT = 96;
const BAND_TOP = 26;
const BAND_BOTTOM = 84;
// Not a cause of the ledger: a part of "box off" that nobody misses.
const BEFORE = "before";
const CAUSES = [BEFORE, "camera", "network", "box off", "box busy", "disk slow", "disk full", "disk failed", "recycled", "held back", "clock unknown", "not known"];

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const causeName = (cause) => `cause-${(CAUSES.includes(cause) ? cause : "not known").replaceAll(" ", "-")}`;

export class Timeline {
  constructor(name, onplay, onchoose) {
    this.onplay = onplay;
    this.onchoose = onchoose;
    this.day = { fromMs: 0, toMs: DAY_MS };
    this.view = { fromMs: 0, toMs: DAY_MS };
    this.spans = [];
    this.headMs = null; // what is on screen
    this.cursorMs = null; // where Enter would play
    this.chosen = { fromMs: null, toMs: null };
    this.pointers = new Map();
    this.canvas = el("canvas", {
      class: "strip", tabindex: 0, role: "slider", "aria-label": t("timelineLabel", name), "aria-describedby": "timeline-help",
      onpointerdown: (event) => this.down(event), onpointermove: (event) => this.move(event), onpointerup: (event) => this.up(event),
      onpointercancel: (event) => this.pointers.delete(event.pointerId), onpointerleave: () => this.tell(null), onkeydown: (event) => this.key(event),
    });
    this.canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    this.tip = el("div", { class: "tip", hidden: true });
    this.legend = el("ul", { class: "legend" });
    this.element = el("div", { class: "timeline" }, el("div", { class: "track" }, this.canvas, this.tip), this.legend);
    this.watcher = new ResizeObserver(() => this.draw());
    this.watcher.observe(this.canvas);
    this.scheme = matchMedia("(prefers-color-scheme: dark)");
    this.scheme.onchange = () => this.draw();
  }

  /** Show another day. `spans` are {from_ms, to_ms, cause}; without a cause they are recorded. */
  show(fromMs, toMs, spans, keepView) {
    this.day = { fromMs, toMs };
    this.spans = spans.map((span) => (span.is_before ? { ...span, cause: BEFORE, detail: "" } : span));
    if (!keepView) this.view = { fromMs, toMs };
    const causes = [...new Set(this.spans.filter((span) => span.cause).map((span) => span.cause))];
    this.legend.replaceChildren(
      ...[null, ...causes].map((cause) =>
        el("li", {}, el("i", { class: cause ? causeName(cause) : "cause-none" }), cause ? causeWords(cause) : t("recorded")),
      ),
    );
    this.draw();
  }

  spanAt(ms) {
    return this.spans.find((span) => span.from_ms <= ms && ms < span.to_ms) ?? null;
  }

  xOf(ms) {
    return ((ms - this.view.fromMs) / (this.view.toMs - this.view.fromMs)) * this.canvas.clientWidth;
  }

  msAt(x) {
    return this.view.fromMs + (x / this.canvas.clientWidth) * (this.view.toMs - this.view.fromMs);
  }

  /** Look at `lengthMs` around `aroundMs`, within the day. */
  zoomTo(lengthMs, aroundMs, share = 0.5) {
    const whole = this.day.toMs - this.day.fromMs;
    const length = Math.max(SHORTEST_MS, Math.min(whole, lengthMs));
    const from = Math.max(this.day.fromMs, Math.min(this.day.toMs - length, aroundMs - length * share));
    this.view = { fromMs: from, toMs: from + length };
    this.draw();
  }

  get lengthMs() {
    return this.view.toMs - this.view.fromMs;
  }

  middleMs() {
    const point = this.cursorMs ?? this.headMs;
    const inView = point !== null && point >= this.view.fromMs && point <= this.view.toMs;
    if (inView) return point;
    const lastMs = this.spans.filter((span) => !span.cause).at(-1)?.to_ms ?? 0; // most people look for what was just now
    return lastMs > this.view.fromMs && lastMs <= this.view.toMs ? lastMs - 1000 : (this.view.fromMs + this.view.toMs) / 2;
  }

  pan(byMs) {
    this.zoomTo(this.lengthMs, this.view.fromMs + byMs, 0);
  }

  setHead(ms) {
    if (ms === this.headMs) return;
    const wasInView = this.headMs !== null && this.headMs >= this.view.fromMs && this.headMs <= this.view.toMs;
    this.headMs = ms;
    if (wasInView && ms > this.view.toMs && ms < this.day.toMs && !this.pointers.size) this.pan(this.lengthMs * 0.8);
    else this.draw();
  }

  choose(fromMs, toMs) {
    this.chosen = { fromMs, toMs };
    this.draw();
    this.onchoose(fromMs, toMs);
  }

  // -- drawing

  draw() {
    const width = this.canvas.clientWidth;
    if (!width) return;
    const ratio = devicePixelRatio || 1;
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(HEIGHT * ratio);
    const pen = this.canvas.getContext("2d");
    pen.scale(ratio, ratio);
    pen.clearRect(0, 0, width, HEIGHT);
    pen.fillStyle = colour("track");
    pen.fillRect(0, BAND_TOP, width, BAND_BOTTOM - BAND_TOP);
    for (const span of this.spans) this.drawSpan(pen, span, width);
    this.drawScale(pen, width);
    this.drawChosen(pen);
    if (this.cursorMs !== null && document.activeElement === this.canvas) this.drawLine(pen, this.cursorMs, colour("ink"), [4, 3], 1.5);
    if (this.headMs !== null) this.drawLine(pen, this.headMs, colour("head"), [], 3);
    const ms = this.cursorMs ?? this.headMs ?? this.view.fromMs;
    this.canvas.setAttribute("aria-valuemin", Math.round(this.day.fromMs / 1000));
    this.canvas.setAttribute("aria-valuemax", Math.round(this.day.toMs / 1000));
    this.canvas.setAttribute("aria-valuenow", Math.round(ms / 1000));
    this.canvas.setAttribute("aria-valuetext", this.words(ms));
  }

  drawSpan(pen, span, width) {
    const from = Math.max(0, this.xOf(span.from_ms));
    const to = Math.min(width, this.xOf(span.to_ms));
    if (to < 0 || from > width) return;
    // A gap is never drawn so thin that nobody sees it.
    const wide = span.cause ? Math.max(2, to - from) : to - from;
    pen.fillStyle = colour(span.cause ? causeName(span.cause) : "cause-none");
    pen.fillRect(from, span.cause ? BAND_TOP + 8 : BAND_TOP, wide, BAND_BOTTOM - BAND_TOP - (span.cause ? 16 : 0));
    const words = span.cause ? causeWords(span.cause) : "";
    if (words && wide > 70) {
      pen.save();
      pen.beginPath();
      pen.rect(from + 4, BAND_TOP, wide - 8, BAND_BOTTOM);
      pen.clip();
      pen.fillStyle = colour("on-cause");
      pen.font = "600 13px system-ui, sans-serif";
      pen.textBaseline = "middle";
      pen.textAlign = "left";
      if (pen.measureText(words).width < wide - 12) pen.fillText(words, from + 7, (BAND_TOP + BAND_BOTTOM) / 2);
      pen.restore();
    }
  }

  drawScale(pen, width) {
    const step = STEPS_MS.find((each) => (each / this.lengthMs) * width > 66) ?? STEPS_MS.at(-1);
    pen.fillStyle = colour("soft");
    pen.strokeStyle = colour("line");
    pen.lineWidth = 1;
    pen.font = "12px system-ui, sans-serif";
    pen.textBaseline = "top";
    pen.textAlign = "center";
    const first = this.day.fromMs + Math.ceil((this.view.fromMs - this.day.fromMs) / step) * step;
    for (let ms = first; ms <= this.view.toMs; ms += step) {
      const x = Math.round(this.xOf(ms)) + 0.5;
      pen.beginPath();
      pen.moveTo(x, BAND_TOP - 6);
      pen.lineTo(x, BAND_BOTTOM + 6);
      pen.stroke();
      const words = ms === this.day.toMs && ms - this.day.fromMs >= DAY_MS ? "24:00" : step < 60000 ? clock(ms) : clockMinutes(ms);
      pen.fillText(words, Math.max(20, Math.min(width - 20, x)), 4);
    }
  }

  drawChosen(pen) {
    const { fromMs, toMs } = this.chosen;
    if (fromMs === null && toMs === null) return;
    const from = this.xOf(fromMs ?? toMs);
    const to = this.xOf(toMs ?? fromMs);
    pen.fillStyle = colour("chosen");
    pen.fillRect(from, BAND_TOP - 4, Math.max(2, to - from), BAND_BOTTOM - BAND_TOP + 8);
    pen.strokeStyle = colour("ink");
    pen.lineWidth = 2;
    pen.strokeRect(from, BAND_TOP - 4, Math.max(2, to - from), BAND_BOTTOM - BAND_TOP + 8);
  }

  drawLine(pen, ms, style, dash, wide) {
    const x = this.xOf(ms);
    pen.save();
    pen.strokeStyle = style;
    pen.lineWidth = wide;
    pen.setLineDash(dash);
    pen.beginPath();
    pen.moveTo(x, BAND_TOP - 8);
    pen.lineTo(x, HEIGHT);
    pen.stroke();
    pen.restore();
  }

  // -- words

  words(ms) {
    const span = this.spanAt(ms);
    if (!span) return `${clock(ms)} – ${t("future")}`;
    const what = span.cause ? [causeWords(span.cause), span.detail].filter(Boolean).join(": ") : t("recorded");
    return `${clock(ms)} – ${what}${span.cause ? ` (${clock(span.from_ms)}–${clock(span.to_ms)}, ${howLong(span.to_ms - span.from_ms)})` : ""}`;
  }

  tell(x) {
    this.tip.hidden = x === null;
    if (x === null) return;
    this.tip.textContent = this.words(this.msAt(x));
    const half = this.tip.offsetWidth / 2;
    this.tip.style.left = `${Math.max(half, Math.min(this.canvas.clientWidth - half, x))}px`;
  }

  // -- hands

  down(event) {
    this.canvas.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, { x: event.offsetX, startX: event.offsetX, hasMoved: false });
    this.grabbed = { ...this.view, apart: this.apart() };
  }

  apart() {
    const xs = [...this.pointers.values()].map((pointer) => pointer.x);
    return xs.length === 2 ? Math.max(10, Math.abs(xs[0] - xs[1])) : 0;
  }

  move(event) {
    const pointer = this.pointers.get(event.pointerId);
    if (!pointer) {
      this.tell(event.offsetX);
      return;
    }
    const byX = event.offsetX - pointer.x;
    pointer.x = event.offsetX;
    if (Math.abs(pointer.x - pointer.startX) > 6) pointer.hasMoved = true;
    if (this.pointers.size === 2) {
      for (const each of this.pointers.values()) each.hasMoved = true;
      const xs = [...this.pointers.values()].map((each) => each.x);
      const middle = (xs[0] + xs[1]) / 2;
      const length = (this.grabbed.toMs - this.grabbed.fromMs) * (this.grabbed.apart / this.apart());
      this.zoomTo(length, this.msAt(middle), middle / this.canvas.clientWidth);
    } else if (pointer.hasMoved) {
      this.pan((-byX / this.canvas.clientWidth) * this.lengthMs);
    }
  }

  up(event) {
    const pointer = this.pointers.get(event.pointerId);
    this.pointers.delete(event.pointerId);
    if (!pointer || pointer.hasMoved) return;
    this.cursorMs = this.msAt(event.offsetX);
    this.onplay(this.cursorMs);
    this.draw();
  }

  wheel(event) {
    event.preventDefault();
    if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      this.pan(((event.deltaX || event.deltaY) / this.canvas.clientWidth) * this.lengthMs);
    } else {
      this.zoomTo(this.lengthMs * 1.002 ** event.deltaY, this.msAt(event.offsetX), event.offsetX / this.canvas.clientWidth);
    }
    this.tell(event.offsetX);
  }

  key(event) {
    const step = this.lengthMs / (event.shiftKey ? 10 : 60);
    const point = this.cursorMs ?? this.headMs ?? this.middleMs();
    const go = (ms) => {
      this.cursorMs = Math.max(this.day.fromMs, Math.min(this.day.toMs - 1000, ms));
      if (this.cursorMs < this.view.fromMs || this.cursorMs > this.view.toMs) this.zoomTo(this.lengthMs, this.cursorMs);
      else this.draw();
    };
    const keys = {
      ArrowLeft: () => go(point - step), ArrowRight: () => go(point + step), Home: () => go(this.day.fromMs), End: () => go(this.day.toMs),
      PageUp: () => go(point - this.lengthMs / 2), PageDown: () => go(point + this.lengthMs / 2),
      "+": () => this.zoomTo(this.lengthMs / 2, this.middleMs()), "=": () => this.zoomTo(this.lengthMs / 2, this.middleMs()),
      "-": () => this.zoomTo(this.lengthMs * 2, this.middleMs()), Enter: () => this.onplay(point),
      "[": () => this.mark("fromMs", point), "]": () => this.mark("toMs", point),
    };
    if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    keys[event.key]();
  }

  /** One end of the clip; the other end gives way when it would lie on the wrong side. */
  mark(end, ms) {
    const chosen = { ...this.chosen, [end]: Math.round(ms) };
    if (chosen.fromMs !== null && chosen.toMs !== null && chosen.fromMs >= chosen.toMs) chosen[end === "fromMs" ? "toMs" : "fromMs"] = null;
    this.choose(chosen.fromMs, chosen.toMs);
  }

  close() {
    this.watcher.disconnect();
    this.scheme.onchange = null;
  }
}
