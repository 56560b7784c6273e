// What the box sees, drawn over a live picture: zones, lines, things that are followed. Aligned by the time of the pictures, not
// by when a message came; between two looks a thing goes on as it went.

import { el } from "./dom.js";
import { now } from "./player.js";
import { kindWords } from "./seeing-words.js";
import { t } from "./words.js";

const KEPT = 80; // looks: a slow page shows pictures of some seconds ago
const STALE_MS = 1500; // older than this against the picture, a thing is not where it was
const FRAME_MS = 66;
const RETRY_MS = 2000;
const PALETTE = { person: "#ffc400", moving: "#ffffff", animal: "#c9a2ff", "two-wheeler": "#ff9ff3", car: "#4fd2ff", truck: "#4fd2ff", bus: "#4fd2ff" };
const PLACE = { zone: "#40c8eb", line: "#40c8eb", mask: "#000000", bad: "#ff6b5e", good: "#58d68d", wait: "#ffcf5c" };

/** The rect of the picture inside an element that shows it with object-fit: contain. */
export function pictureRect(video, width, height) {
  const wide = video.videoWidth || 16;
  const high = video.videoHeight || 9;
  const scale = Math.min(width / wide, height / high);
  return { x: (width - wide * scale) / 2, y: (height - high * scale) / 2, width: wide * scale, height: high * scale };
}

/** A canvas that covers its parent, sharp on any screen: [pen, width, height]; null while it has no size. */
export function sharpPen(canvas) {
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  if (!width || !height) return null;
  const ratio = devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  return [pen, width, height];
}

const LABEL_PX = 20;

/** Words on a dark ground, inside the picture and none over another. */
export class Labels {
  constructor(bounds) {
    this.bounds = bounds;
    this.list = [];
  }

  put(text, x, y, colour = "#fff") {
    this.list.push({ text, x, y, colour });
  }

  draw(pen) {
    const { bounds } = this;
    const taken = [];
    pen.font = "600 13px system-ui, sans-serif";
    for (const { text, x, y, colour } of this.list) {
      const width = Math.min(pen.measureText(text).width + 10, bounds.width);
      const left = Math.max(bounds.x, Math.min(x, bounds.x + bounds.width - width));
      const lowest = bounds.y + bounds.height - LABEL_PX;
      let top = Math.max(bounds.y, Math.min(y, lowest));
      const isTaken = (each) => each.left < left + width && left < each.left + each.width && Math.abs(each.top - top) < LABEL_PX;
      while (taken.some(isTaken) && top + LABEL_PX < lowest) top += LABEL_PX + 1;
      taken.push({ left, width, top });
      pen.fillStyle = "rgb(10 18 23 / 78%)";
      pen.fillRect(left, top, width, LABEL_PX);
      pen.fillStyle = colour;
      pen.fillText(text, left + 5, top + 14.5, bounds.width - 10);
    }
  }
}

export function tracePlace(pen, points, at, isClosed) {
  pen.beginPath();
  points.forEach((point, number) => (number ? pen.lineTo(...at(point)) : pen.moveTo(...at(point))));
  if (isClosed) pen.closePath();
}

/** Where a line points to: half an arrow at its end says which way it was drawn. */
export function traceArrow(pen, [x0, y0], [x1, y1]) {
  const angle = Math.atan2(y1 - y0, x1 - x0);
  pen.beginPath();
  for (const side of [2.6, -2.6]) {
    pen.moveTo(x1, y1);
    pen.lineTo(x1 + 12 * Math.cos(angle + side), y1 + 12 * Math.sin(angle + side));
  }
  pen.stroke();
}

export class Overlay {
  /** `hear(message)` gets states and events of the camera. */
  constructor(tile, camera, hear) {
    this.tile = tile;
    this.camera = camera;
    this.hear = hear;
    this.looks = [];
    this.scene = { zones: [], masks: [], lines: [] };
    this.states = [];
    this.isShown = true;
    this.canvas = el("canvas", { class: "overlay", "aria-hidden": "true" });
    tile.screen.insertBefore(this.canvas, tile.cover);
    this.open();
    this.drawnMs = 0;
    const frame = () => {
      if (this.isClosed) return;
      requestAnimationFrame(frame);
      if (now() - this.drawnMs >= FRAME_MS) this.draw();
    };
    requestAnimationFrame(frame);
    // Where the browser tells which picture is on screen; its clock runs ahead of that when the computer is busy.
    const { video } = tile;
    const shown = (_, picture) => {
      if (this.isClosed) return;
      this.pictureS = picture.mediaTime;
      video.requestVideoFrameCallback(shown);
    };
    video.requestVideoFrameCallback?.(shown);
  }

  open() {
    const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/seen?camera=${encodeURIComponent(this.camera)}`);
    this.socket = socket;
    socket.onmessage = (event) => {
      const message = JSON.parse(event.data);
      if (message.kind === "seen") {
        this.looks.push(message);
        if (this.looks.length > KEPT) this.looks.shift();
        return;
      }
      if (message.kind === "states") this.states = message.states;
      this.hear(message);
    };
    socket.onclose = () => {
      this.looks = [];
      if (!this.isClosed) this.retry = setTimeout(() => this.open(), RETRY_MS);
    };
  }

  /** By the box's clock, when the picture on screen was taken; null without one. */
  shownMs() {
    const player = this.tile.player;
    if (!player) return null;
    const clockS = player.video.currentTime;
    const timeS = this.pictureS !== undefined && Math.abs(this.pictureS - clockS) < 2 ? this.pictureS : clockS;
    let found = null;
    for (const entry of player.headers) if (entry[0] <= timeS + 0.01) found = entry;
    return found ? found[1].wall_ms + (timeS - found[0]) * 1000 : null;
  }

  lookAt(ms) {
    let found = null;
    for (const look of this.looks) if (look.at_ms <= ms + 40) found = look;
    return found && ms - found.at_ms < STALE_MS && found.has_picture ? found : null;
  }

  draw() {
    this.drawnMs = now();
    const sharp = sharpPen(this.canvas);
    if (!sharp || !this.isShown || this.tile.element.dataset.picture !== "live" || this.tile.element.classList.contains("replays")) return;
    const [pen, width, height] = sharp;
    const bounds = pictureRect(this.tile.video, width, height);
    const at = ([x, y]) => [bounds.x + x * bounds.width, bounds.y + y * bounds.height];
    for (const mask of this.scene.masks) {
      tracePlace(pen, mask.points, at, true);
      pen.fillStyle = "rgb(0 0 0 / 55%)";
      pen.fill();
    }
    const labels = new Labels(bounds);
    for (const zone of this.scene.zones) {
      const colour = PLACE[this.moodOf(zone.name)] ?? PLACE.zone;
      tracePlace(pen, zone.points, at, true);
      pen.fillStyle = `${colour}1f`;
      pen.fill();
      pen.strokeStyle = colour;
      pen.lineWidth = 2;
      pen.stroke();
      const top = zone.points.reduce((best, point) => (point[1] < best[1] ? point : best));
      labels.put([zone.name, this.wordsOf(zone.name)].filter(Boolean).join(": "), at(top)[0] + 2, at(top)[1] + 3, colour);
    }
    for (const line of this.scene.lines) {
      pen.strokeStyle = PLACE.line;
      pen.lineWidth = 3;
      tracePlace(pen, line.points, at, false);
      pen.stroke();
      traceArrow(pen, at(line.points[0]), at(line.points[1]));
      labels.put(line.name, at(line.points[0])[0] + 2, at(line.points[0])[1] + 3, PLACE.line);
    }
    const shownMs = this.shownMs();
    const look = shownMs === null ? null : this.lookAt(shownMs);
    for (const track of look?.tracks ?? []) this.drawTrack(pen, track, (shownMs - look.at_ms) / 1000, at, labels);
    labels.draw(pen);
  }

  drawTrack(pen, [number, kind, left, top, right, bottom, dx, dy, hasMoved, missedMs], dtS, at, labels) {
    const { bounds } = labels;
    const goesOn = hasMoved && missedMs < 1000 ? Math.max(0, dtS) : 0;
    const [x0, y0] = at([left + dx * goesOn, top + dy * goesOn]);
    const [x1, y1] = at([right + dx * goesOn, bottom + dy * goesOn]);
    if (x1 < bounds.x || x0 > bounds.x + bounds.width) return;
    pen.globalAlpha = missedMs > 0 ? 0.55 : 1;
    pen.setLineDash(hasMoved ? [] : [4, 4]);
    pen.lineWidth = 4;
    pen.strokeStyle = "rgb(0 0 0 / 55%)";
    pen.strokeRect(x0, y0, x1 - x0, y1 - y0);
    pen.lineWidth = 2;
    pen.strokeStyle = hasMoved ? PALETTE[kind] ?? "#fff" : "#c4ced4";
    pen.strokeRect(x0, y0, x1 - x0, y1 - y0);
    pen.setLineDash([]);
    if (hasMoved && missedMs === 0 && bounds.width > 420) labels.put(kind === "moving" ? `${number}` : `${kindWords(kind)} ${number}`, x0, y0 - LABEL_PX - 1, PALETTE[kind]);
    pen.globalAlpha = 1;
  }

  statesOf(place) {
    return this.states.filter((state) => state.is_now && state.zone === place);
  }

  /** Where several rules judge one place, each is named: "open, cannot tell" would contradict itself. */
  wordsOf(place) {
    const states = this.statesOf(place);
    return states.map((state) => (states.length > 1 ? `${t(`rule.${state.kind}`)} ${shortState(state)}` : shortState(state))).join(", ");
  }

  moodOf(place) {
    const moods = this.statesOf(place).map(mood);
    return moods.includes("bad") ? "bad" : moods.includes("wait") ? "wait" : moods.includes("good") ? "good" : "zone";
  }

  close() {
    this.isClosed = true;
    clearTimeout(this.retry);
    this.socket.close();
    this.canvas.remove();
  }
}

const BAD = new Set(["closed", "jam", "stopped", "intrusion", "loitering", "crowd", "long queue", "covered", "out of focus", "moved", "frozen", "looped", "down"]);
const GOOD = new Set(["open", "free"]);

/** bad, good, wait (nobody can tell, or something is not quite well) or none. */
export function mood(state) {
  if (BAD.has(state.state)) return "bad";
  if (GOOD.has(state.state)) return "good";
  return state.state === "cannot tell" || state.state === "dense" || state.kind === "camera" ? "wait" : "none";
}

/** A state in a word or two: "open", "3 waiting". */
export function shortState(state) {
  if (state.kind === "queue" && /^\d/.test(state.state)) return t("waiting", state.state.replace("or more", t("orMore")));
  const words = t(`state.${state.state}`);
  return state.open > 1 ? `${words} (${state.open})` : words;
}
