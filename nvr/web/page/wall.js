// All cameras at once. Only tiles on the screen fetch pictures.

import { el } from "./dom.js";
import { Tile, set } from "./tile.js";
import { t } from "./words.js";

export function wall(box) {
  const summary = el("h1", { class: "summary", role: "status" });
  const wrong = el("p", { class: "wrong", role: "alert" });
  const note = el("p", { class: "note", role: "status" });
  const grid = el("div", { class: "wall" });
  const tiles = box.cameras.map((camera) => {
    const stream = camera.streams.includes("small") ? `${camera.name}/small` : `${camera.name}/main`;
    const tile = new Tile(box.link, stream);
    const link = el(
      "a",
      { class: "words", href: `#/camera/${camera.name}`, "aria-label": t("open", camera.title) },
      el("span", { class: "name" }, camera.title, camera.place ? el("small", {}, camera.place) : null),
      tile.words,
    );
    tile.element.append(link);
    return tile;
  });
  grid.append(...tiles.map((tile) => tile.element));

  const seen = new IntersectionObserver(
    (entries) => {
      for (const entry of entries) {
        const tile = tiles.find((each) => each.element === entry.target);
        if (entry.isIntersecting) tile.show();
        else tile.hide();
      }
    },
    { rootMargin: "100px" },
  );
  for (const tile of tiles) seen.observe(tile.element);

  function tick() {
    for (const tile of tiles) tile.tick();
    const good = tiles.filter((tile) => tile.element.dataset.state === "good").length;
    const text = !tiles.length ? t("noCameras")
      : !box.link.isAlive ? t("boxGone")
      : good === tiles.length ? t("summaryAll", good)
      : good ? t("summarySome", good, tiles.length)
      : t("summaryNone");
    set(summary, text);
    summary.dataset.good = String(good === tiles.length && good > 0);
    set(wrong, box.link.troubles.map((each) => `${t(`trouble.${each.kind}`)}: ${each.detail}`).join("\n"));
    set(note, box.link.skipped > 4 ? t("slowLink", box.link.skipped) : "");
  }

  return {
    title: t("wall"),
    element: el("div", {}, summary, wrong, note, tiles.length ? grid : el("p", { class: "empty card" }, t("noCamerasHint"))),
    tick,
    close() {
      seen.disconnect();
      for (const tile of tiles) tile.hide();
    },
  };
}
