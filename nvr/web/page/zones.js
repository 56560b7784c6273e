// Zones, lines and hidden areas of one camera, drawn on its live picture with mouse, finger or keyboard, and saved into the
// site file of the box. Nothing is changed before "save"; who leaves without it finds the drawing again.

import { get, send } from "./box.js";
import { el } from "./dom.js";
import { Labels, pictureRect, sharpPen, traceArrow, tracePlace } from "./overlay.js";
import "./seeing-words.js";
import { Tile, set } from "./tile.js";
import { t } from "./words.js";

const GROUPS = ["zones", "lines", "masks"];
const SINGULAR = { zones: "zone", lines: "line", masks: "mask" };
const COLOURS = { zones: "#40c8eb", lines: "#ffcf5c", masks: "#ff9d94" };
const NAME = /^[a-z0-9]([a-z0-9_\-]{0,38}[a-z0-9])?$/;
const CORNERS_MOST = 64;
const NEAR_PX = { mouse: 11, touch: 24, pen: 16 };
const MIDDLE = { zones: [[0.35, 0.35], [0.65, 0.35], [0.65, 0.65], [0.35, 0.65]], masks: [[0.35, 0.35], [0.65, 0.35], [0.65, 0.65], [0.35, 0.65]], lines: [[0.25, 0.5], [0.75, 0.5]] };
const drafts = new Map(); // camera -> what was drawn and not saved

const inPicture = (value) => Math.round(Math.max(0, Math.min(1, value)) * 10000) / 10000;
const between = (a, b) => [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2];

function isInside(points, [x, y]) {
  let inside = false;
  points.forEach(([x1, y1], number) => {
    const [x0, y0] = points.at(number - 1);
    if (y1 > y !== y0 > y && x < ((x0 - x1) * (y - y1)) / (y0 - y1) + x1) inside = !inside;
  });
  return inside;
}

export function zones(box, name) {
  const settings = box.cameras.find((each) => each.name === name);
  if (!settings) {
    location.replace("#/");
    return { title: "", element: el("div"), tick() {}, close() {} };
  }
  return new Editor(box, settings);
}

class Editor {
  constructor(box, settings) {
    this.settings = settings;
    this.title = t("zonesOf", settings.title);
    this.places = [];
    this.chosen = null;
    this.corner = 0;
    this.drawing = null; // {group, points} while a new one is drawn
    this.tile = new Tile(box.link, settings.streams.includes("main") ? `${settings.name}/main` : `${settings.name}/small`, { class: "tile" });
    this.tile.show();
    this.build();
    this.watcher = new ResizeObserver(() => this.draw());
    this.watcher.observe(this.canvas);
    this.onkey = (event) => this.key(event);
    document.addEventListener("keydown", this.onkey);
    this.load();
  }

  build() {
    const button = (words, onclick, attributes = {}) => el("button", { type: "button", onclick, ...attributes }, words);
    this.canvas = el("canvas", {
      tabindex: 0, role: "application", "aria-label": t("picture"), "aria-describedby": "zones-help",
      onpointerdown: (event) => this.down(event), onpointermove: (event) => this.move(event), onpointerup: (event) => this.up(event),
      onpointercancel: () => (this.held = null), ondblclick: () => this.drawing && this.finish(),
    });
    this.stage = el("div", { class: "stage" }, this.tile.element, this.canvas);
    this.help = el("p", { class: "hint", id: "zones-help" });
    this.where = el("span", { class: "hint", role: "status" });
    this.addBar = el("div", { class: "bar" }, button(t("addZone"), () => this.begin("zones"), { class: "main" }), button(t("addLine"), () => this.begin("lines")), button(t("addMask"), () => this.begin("masks")), this.where);
    this.finishButton = button(t("finish"), () => this.finish(), { class: "main" });
    this.drawBar = el("div", { class: "bar", hidden: true }, this.finishButton, button(t("middle"), () => this.middle()), button(t("cancel"), () => this.cancel()));
    this.cornerButton = button(t("removeCorner"), () => this.removeCorner(), { hidden: true });
    this.addBar.insertBefore(this.cornerButton, this.where);
    this.lists = el("div", { class: "places" });
    this.state = el("span", { class: "state", role: "status" });
    this.saveButton = button(t("save"), () => this.save(), { class: "main", disabled: true });
    this.undoButton = button(t("undo"), () => (drafts.delete(this.settings.name), this.load()), { disabled: true });
    this.fault = el("p", { class: "note", role: "alert" });
    this.element = el("div", { class: "camera editor" },
      el("p", {}, el("a", { href: `#/camera/${this.settings.name}` }, `‹ ${this.settings.title}`)),
      el("h1", {}, this.title), this.addBar, this.drawBar, this.stage, this.help, this.lists,
      el("p", { class: "hint" }, t("masksHint")), el("div", { class: "save" }, this.fault, el("div", { class: "bar" }, this.saveButton, this.undoButton, this.state)));
  }

  async load() {
    try {
      const scene = await get("/api/scene", { camera: this.settings.name });
      if (this.isClosed) return;
      this.version = scene.version;
      this.saved = GROUPS.flatMap((group) => scene[group].map((place) => ({ group, name: place.name, was: place.name, points: place.points, rules: place.rules })));
      const draft = drafts.get(this.settings.name);
      this.places = draft?.version === this.version ? draft.places : structuredClone(this.saved);
      this.chosen = null;
      set(this.fault, "");
      this.show();
    } catch (error) {
      if (error.status !== 401) set(this.fault, [error.message, error.hint].filter(Boolean).join(". "));
    }
  }

  get isChanged() {
    return this.saved !== undefined && JSON.stringify(this.places) !== JSON.stringify(this.saved);
  }

  // -- lists

  show() {
    const section = (group) => {
      const places = this.places.filter((place) => place.group === group);
      return el("section", { class: "card" }, el("h2", {}, t(group)), places.length ? places.map((place) => this.row(place)) : el("p", { class: "hint" }, t("nothingDrawn")));
    };
    this.lists.replaceChildren(...GROUPS.map(section));
    this.update();
  }

  row(place) {
    const input = el("input", {
      value: place.name, maxlength: 40, pattern: NAME.source.slice(1, -1), title: t("nameHelp"), "aria-label": t("name"), autocapitalize: "none", autocomplete: "off", spellcheck: "false",
      onfocus: () => this.choose(place), oninput: () => ((place.name = input.value.trim()), this.update()),
    });
    const row = el("div", { class: "place" }, input,
      el("button", { type: "button", class: "quiet", "aria-label": t("removePlace", place.name), onclick: () => this.remove(place) }, t("remove")),
      place.rules.length ? el("small", {}, t("usedBy", place.rules.map((rule) => t(`rule.${rule}`)).join(", "))) : null);
    row.addEventListener("click", () => this.choose(place));
    Object.defineProperty(place, "row", { value: row, enumerable: false, writable: true, configurable: true });
    return row;
  }

  choose(place, corner = 0) {
    this.chosen = place;
    this.corner = corner;
    this.update();
  }

  remove(place) {
    this.places = this.places.filter((each) => each !== place);
    if (this.chosen === place) this.chosen = null;
    this.show();
  }

  /** Everything but the lists, which would lose the focus. */
  update() {
    for (const place of this.places) if (place.row) place.row.dataset.chosen = String(place === this.chosen);
    const isDrawing = Boolean(this.drawing);
    this.addBar.hidden = isDrawing;
    this.drawBar.hidden = !isDrawing;
    this.stage.classList.toggle("draws", isDrawing);
    set(this.help, isDrawing ? t(this.drawing.group === "lines" ? "drawLineHelp" : "drawHelp") : t("zonesHelp"));
    if (isDrawing) this.finishButton.disabled = this.drawing.points.length < (this.drawing.group === "lines" ? 2 : 3);
    this.cornerButton.hidden = !this.chosen || this.chosen.group === "lines" || this.chosen.points.length < 4;
    set(this.where, this.chosen ? `${this.chosen.name}: ${t("corner", this.corner + 1, this.chosen.points.length)}` : "");
    const isGood = this.places.every((place) => NAME.test(place.name));
    this.saveButton.disabled = !this.isChanged || !isGood || this.isSaving;
    this.undoButton.disabled = !this.isChanged;
    if (this.isChanged) set(this.state, isGood ? t("unsaved") : `${t("name")}: ${t("nameHelp")}`);
    else if (this.state.textContent !== t("saved")) set(this.state, "");
    this.draw();
  }

  // -- drawing new ones

  begin(group) {
    this.drawing = { group, points: [] };
    this.chosen = null;
    this.canvas.focus({ preventScroll: true });
    this.stage.scrollIntoView({ block: "nearest" });
    this.update();
  }

  cancel() {
    this.drawing = null;
    this.update();
  }

  middle() {
    this.drawing.points = structuredClone(MIDDLE[this.drawing.group]);
    this.finish();
  }

  finish() {
    const { group, points } = this.drawing;
    // A double click puts its last corner twice.
    const clean = points.filter((point, number) => number === 0 || Math.hypot(point[0] - points[number - 1][0], point[1] - points[number - 1][1]) > 0.004);
    if (clean.length < (group === "lines" ? 2 : 3)) return;
    let number = 1;
    while (this.places.some((place) => place.name === `${SINGULAR[group]}-${number}`)) number++;
    const place = { group, name: `${SINGULAR[group]}-${number}`, was: "", points: group === "lines" ? clean.slice(0, 2) : clean, rules: [] };
    this.places.push(place);
    this.drawing = null;
    this.chosen = place;
    this.corner = 0;
    this.show();
  }

  removeCorner() {
    const { chosen } = this;
    if (!chosen || chosen.group === "lines" || chosen.points.length < 4) return;
    chosen.points.splice(this.corner, 1);
    this.corner = Math.min(this.corner, chosen.points.length - 1);
    this.update();
  }

  // -- pointer

  get bounds() {
    return pictureRect(this.tile.video, this.canvas.clientWidth, this.canvas.clientHeight);
  }

  pointOf(event) {
    const rect = this.canvas.getBoundingClientRect();
    const { bounds } = this;
    return [inPicture((event.clientX - rect.left - bounds.x) / bounds.width), inPicture((event.clientY - rect.top - bounds.y) / bounds.height)];
  }

  isNear(a, b, event) {
    const { bounds } = this;
    return Math.hypot((a[0] - b[0]) * bounds.width, (a[1] - b[1]) * bounds.height) <= (NEAR_PX[event.pointerType] ?? 14);
  }

  down(event) {
    if (event.button > 0 || !event.isPrimary) return;
    const point = this.pointOf(event);
    this.canvas.setPointerCapture(event.pointerId);
    if (this.drawing) return this.putCorner(point, event);
    this.canvas.focus({ preventScroll: true });
    const inTurn = [this.chosen, ...this.places.filter((place) => place !== this.chosen)].filter(Boolean);
    for (const place of inTurn) {
      const corner = place.points.findIndex((each) => this.isNear(each, point, event));
      if (corner >= 0) {
        this.choose(place, corner);
        this.held = { place, corner };
        return;
      }
    }
    if (this.chosen && this.chosen.group !== "lines" && this.chosen.points.length < CORNERS_MOST) {
      const { points } = this.chosen;
      const side = points.findIndex((each, number) => this.isNear(between(each, points[(number + 1) % points.length]), point, event));
      if (side >= 0) {
        points.splice(side + 1, 0, point);
        this.choose(this.chosen, side + 1);
        this.held = { place: this.chosen, corner: side + 1 };
        return;
      }
    }
    const hit = inTurn.find((place) => (place.group === "lines" ? this.isNear(between(...place.points), point, event) : isInside(place.points, point)));
    this.choose(hit ?? null);
    if (hit) this.held = { place: hit, from: point, points: structuredClone(hit.points) };
  }

  putCorner(point, event) {
    const { drawing } = this;
    if (drawing.group !== "lines" && drawing.points.length > 2 && this.isNear(drawing.points[0], point, event)) return this.finish();
    if (drawing.points.length < CORNERS_MOST) drawing.points.push(point);
    if (drawing.group === "lines" && drawing.points.length === 2) return this.finish();
    this.update();
  }

  move(event) {
    const point = this.pointOf(event);
    if (this.drawing) {
      this.hover = point;
      return this.draw();
    }
    if (!this.held) return;
    const { place, corner, from, points } = this.held;
    if (corner !== undefined) place.points[corner] = point;
    else {
      // The whole of it, as far as none of its corners leaves the picture.
      const by = [0, 1].map((axis) => {
        const values = points.map((each) => each[axis]);
        return Math.max(-Math.min(...values), Math.min(1 - Math.max(...values), point[axis] - from[axis]));
      });
      place.points = points.map((each) => [inPicture(each[0] + by[0]), inPicture(each[1] + by[1])]);
    }
    this.update();
  }

  up() {
    this.held = null;
    this.update();
  }

  // -- keyboard

  key(event) {
    if (event.target.matches?.("input, textarea, select") || event.ctrlKey || event.metaKey || event.altKey) return;
    if (this.drawing && event.key === "Escape") return this.cancel();
    if (event.target !== this.canvas) return;
    if (this.drawing && event.key === "Enter") return this.finish();
    const { chosen } = this;
    if (!chosen) return;
    const step = event.shiftKey ? 0.002 : 0.01;
    const by = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[event.key];
    const count = chosen.points.length;
    if (by) chosen.points[this.corner] = chosen.points[this.corner].map((value, axis) => inPicture(value + by[axis]));
    else if (event.key === "]") this.corner = (this.corner + 1) % count;
    else if (event.key === "[") this.corner = (this.corner + count - 1) % count;
    else if (event.key === "Delete") return this.removeCorner();
    else return;
    event.preventDefault();
    this.update();
  }

  // -- the picture

  draw() {
    const sharp = sharpPen(this.canvas);
    if (!sharp) return;
    const [pen] = sharp;
    const { bounds } = this;
    const at = ([x, y]) => [bounds.x + x * bounds.width, bounds.y + y * bounds.height];
    this.labels = new Labels(bounds);
    for (const place of this.places) if (place !== this.chosen) this.drawPlace(pen, place, at);
    if (this.chosen) this.drawPlace(pen, this.chosen, at);
    if (this.drawing) this.drawNew(pen, at);
    this.labels.draw(pen);
  }

  drawPlace(pen, place, at) {
    const isChosen = place === this.chosen;
    const isLine = place.group === "lines";
    const colour = COLOURS[place.group];
    tracePlace(pen, place.points, at, !isLine);
    if (!isLine) {
      pen.fillStyle = place.group === "masks" ? "rgb(0 0 0 / 70%)" : isChosen ? `${colour}44` : `${colour}22`;
      pen.fill();
    }
    pen.strokeStyle = colour;
    pen.lineWidth = isChosen ? 3.5 : 2;
    pen.stroke();
    if (isLine) traceArrow(pen, at(place.points[0]), at(place.points[1]));
    const top = place.points.reduce((best, point) => (point[1] < best[1] ? point : best));
    this.labels.put(place.name, at(top)[0] + 12, at(top)[1] + 6, colour);
    place.points.forEach((point, number) => {
      const [x, y] = at(point);
      pen.beginPath();
      pen.arc(x, y, isChosen && number === this.corner ? 9 : isChosen ? 7 : 4, 0, 7);
      pen.fillStyle = isChosen && number === this.corner ? colour : "#fff";
      pen.fill();
      pen.lineWidth = 2;
      pen.strokeStyle = isChosen && number === this.corner ? "#fff" : colour;
      pen.stroke();
    });
    if (!isChosen || isLine) return;
    place.points.forEach((point, number) => {
      pen.beginPath();
      pen.arc(...at(between(point, place.points[(number + 1) % place.points.length])), 4, 0, 7);
      pen.fillStyle = colour;
      pen.fill();
    });
  }

  drawNew(pen, at) {
    const { points, group } = this.drawing;
    const shown = this.hover && points.length ? [...points, this.hover] : points;
    pen.strokeStyle = COLOURS[group];
    pen.lineWidth = 2.5;
    pen.setLineDash([6, 4]);
    tracePlace(pen, shown, at, false);
    pen.stroke();
    pen.setLineDash([]);
    points.forEach((point, number) => {
      pen.beginPath();
      pen.arc(...at(point), number === 0 ? 8 : 5, 0, 7);
      pen.fillStyle = number === 0 ? COLOURS[group] : "#fff";
      pen.fill();
    });
  }

  // -- saving

  async save() {
    const of = (group) => this.places.filter((place) => place.group === group).map(({ name, was, points }) => ({ name, was, points }));
    this.isSaving = true;
    set(this.fault, "");
    this.update();
    try {
      const answer = await send("POST", "/api/scene", { camera: this.settings.name, version: this.version, zones: of("zones"), masks: of("masks"), lines: of("lines") });
      this.version = answer.version;
      drafts.delete(this.settings.name);
      for (const place of this.places) place.was = place.name;
      this.saved = structuredClone(this.places);
      set(this.state, t("saved"));
    } catch (error) {
      const words = [error.message, error.hint].filter(Boolean).join(". ");
      if (error.status === 409) this.fault.replaceChildren(`${words} `, el("button", { type: "button", onclick: () => this.load() }, t("reload")));
      else set(this.fault, words);
    }
    this.isSaving = false;
    this.update();
  }

  tick() {
    this.tile.tick();
    const shape = `${this.tile.video.videoWidth}x${this.tile.video.videoHeight}`;
    if (shape !== this.shape) {
      this.shape = shape;
      this.draw();
    }
  }

  close() {
    this.isClosed = true;
    if (this.isChanged) drafts.set(this.settings.name, { version: this.version, places: this.places });
    document.removeEventListener("keydown", this.onkey);
    this.watcher.disconnect();
    this.tile.hide();
  }
}
