// Clips that were cut here, and spans that are kept from being overwritten.

import { get, send } from "./box.js";
import { dayWords, el, howLong, clock, moment, size } from "./dom.js";
import { t } from "./words.js";

export function clips(box) {
  const titles = new Map(box.cameras.map((camera) => [camera.name, camera.title]));
  const title = (stream) => titles.get(stream.split("/")[0]) ?? stream;
  const list = el("div", {});
  const holds = el("div", {});
  const note = el("p", { class: "note", role: "status" });
  const fail = (error) => (note.textContent = [error.message, error.hint].filter(Boolean).join(". "));

  async function load() {
    try {
      const [cut, held] = await Promise.all([get("/api/clips"), get("/api/holds")]);
      list.replaceChildren(
        ...(cut.clips.length ? cut.clips.map(clip) : [el("div", { class: "card empty" }, el("strong", {}, t("noClips")), el("p", {}, t("clipsHint")))]),
        el("p", { class: "hint" }, t("clipsKept", size(cut.used_bytes), size(cut.quota_bytes))),
      );
      holds.replaceChildren(...(held.holds.length ? held.holds.map(hold) : [el("p", { class: "hint" }, t("noHolds"))]));
    } catch (error) {
      fail(error);
    }
  }

  const act = (work) => async () => {
    try {
      await work();
      await load();
    } catch (error) {
      fail(error);
    }
  };

  const clip = (each) =>
    el("article", { class: "card row" },
      el("div", {}, el("strong", {}, title(each.stream)), el("p", {}, `${dayWords(each.from_ms)}, ${clock(each.from_ms)}–${clock(each.to_ms)} (${howLong(each.to_ms - each.from_ms)})`), el("p", { class: "hint" }, size(each.size_bytes))),
      el("div", { class: "bar" },
        el("a", { class: "button main", href: each.path, download: each.name }, t("download")),
        el("button", { type: "button", onclick: () => confirm(t("deleteSure")) && act(() => send("DELETE", each.path))() }, t("remove"))));

  const hold = (each) =>
    el("article", { class: "card row" },
      el("div", {}, el("strong", {}, title(each.stream)), el("p", {}, `${moment(each.from_ms)} – ${moment(each.to_ms)} (${howLong(each.to_ms - each.from_ms)})`)),
      el("button", { type: "button", onclick: act(() => send("DELETE", "/api/holds", { stream: each.stream, from: each.from_ms, to: each.to_ms, id: each.id })) }, t("release")));

  load();
  return {
    title: t("clips"),
    element: el("div", {}, el("h1", {}, t("clipsHere")), note, list, el("h2", {}, t("holds")), holds),
    tick() {},
    close() {},
  };
}
