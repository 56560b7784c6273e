// The frame around every view: which one the address names, the language, log-out, and the beat of the page.

import { get, send, setCsrf } from "./box.js";
import { el, setTimeZone } from "./dom.js";
import { Link } from "./link.js";
import { wall } from "./wall.js";
import { setLanguage, t } from "./words.js";

const BEAT_MS = 200;
const VIEWS = {
  "": async () => wall,
  camera: async () => (await import("./camera.js")).camera,
  clips: async () => (await import("./clips.js")).clips,
  zones: async () => (await import("./zones.js")).zones,
  health: async () => (await import("./health.js")).health,
};

const main = el("main", { id: "content", tabindex: -1 });
const header = el("header", { class: "top" });
let box;
let view = null;
let showing = 0;

function frame() {
  const here = location.hash.split("/")[1] ?? "";
  const link = (path, words) => el("a", { href: `#/${path}`, "aria-current": here === path || (path === "" && (here === "camera" || here === "zones")) ? "page" : null }, words);
  header.replaceChildren(
    el("a", { class: "skip", href: "#content", onclick: (event) => (event.preventDefault(), main.focus()) }, t("skip")),
    el("a", { class: "site", href: "#/" }, el("img", { src: document.querySelector("link[rel=icon]").href, alt: "", width: 28, height: 28 }), el("span", {}, box.site, el("small", {}, box.box))),
    el("nav", { "aria-label": t("menu") }, link("", t("wall")), link("clips", t("clips")), link("health", t("health"))),
    el("button", { class: "quiet language", lang: t("otherLanguage"), onclick: () => (setLanguage(t("otherLanguage")), show()) }, t("language")),
    el("button", { class: "quiet", onclick: logOut }, t("logOut")),
  );
}

async function logOut() {
  await send("POST", "/api/logout");
  location.replace("/login");
}

async function show() {
  const turn = ++showing;
  const [, name = "", ...rest] = location.hash.split("/");
  const make = await (VIEWS[name] ?? VIEWS[""])();
  if (turn !== showing) return; // somebody went on meanwhile
  view?.close();
  frame();
  view = make(box, ...rest.map(decodeURIComponent));
  document.title = `${view.title} · ${box.site}`;
  main.replaceChildren(view.element);
  view.tick();
}

const session = await get("/api/session");
setCsrf(session.csrf);
setTimeZone(session.time_zone);
box = { ...session, link: new Link() };
document.body.append(header, main);
addEventListener("hashchange", () => {
  show();
  scrollTo(0, 0);
});
document.addEventListener("visibilitychange", () => view?.tick());
await show();
setInterval(() => view?.tick(), BEAT_MS);
