// The pulse of the page. A style sheet draws a veil over everything after twelve seconds unless the script starts its animation
// anew each second: so a page whose script has died, hung or been frozen says so, although no script runs any more that could.

import { now, second } from "./time";

const BEAT_MS = 1000;

export function beat(): void {
  const veil = document.createElement("div");
  veil.className = "veil";
  veil.setAttribute("aria-hidden", "true");
  const words = document.createElement("p");
  // Both languages: which one is chosen is known to a script only.
  words.append("Halaman ini berhenti; gambarnya bukan keadaan sekarang. Muat ulang.", document.createElement("br"), "This page has stopped; its pictures are not now. Load it again.");
  veil.append(words);
  document.body.append(veil);
  let isOdd = false;
  const tick = () => {
    isOdd = !isOdd;
    veil.dataset.beat = isOdd ? "odd" : "even"; // another animation name: it begins anew
    second.value = Math.floor(now() / 1000);
  };
  tick();
  setInterval(tick, BEAT_MS);
}
