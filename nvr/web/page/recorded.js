// Recorded footage into a <video>: asks the box which fragments there are, fetches their bytes, and goes on over
// gaps and segment borders. What time is on screen stands beside every fragment, not in the video.

import { bytes, get } from "./box.js";
import { boxNow } from "./dom.js";
import { Feed } from "./player.js";

const WINDOW_MS = 120000; // of footage asked for at once
const AHEAD_S = 8;
const FETCH_BYTES = 1 << 20; // neighbours are fetched together up to this
const GAP_MS = 1500; // shorter holes are between two runs and nobody's concern
const LIVE_EDGE_MS = 6000;

export class RecordedPlayer {
  /** `ongap({fromMs, toMs})` when playing jumped; `onend()` at the end of all footage; `onfault(error)`. */
  constructor(video, stream, { ongap, onend, onfault }) {
    Object.assign(this, { video, stream, ongap, onend, onfault });
    this.speed = 1;
    this.wants = true; // to play, as opposed to pause
  }

  /** Play from `ms`, or from the next picture after it. */
  async play(ms) {
    this.stop();
    this.isOn = true;
    const turn = (this.turn = new AbortController());
    this.feed = new Feed(this.video, (reason) => turn.signal.aborted || this.broken(reason));
    this.feed.keepBehindS = 30;
    this.list = []; // {startS, fromMs, toMs, stepS}, in order
    this.coming = [];
    this.nextMs = ms;
    this.startMs = ms;
    this.initOf = null;
    this.inits = new Map();
    this.isAtEnd = false;
    this.toldGap = -1;
    try {
      await this.fill(turn.signal);
    } catch (error) {
      if (!turn.signal.aborted) this.onfault(error);
    }
  }

  async fill(signal) {
    while (!signal.aborted) {
      const aheadS = this.feed.endS - this.video.currentTime;
      if (aheadS > AHEAD_S * Math.max(1, this.speed) || this.feed.queue.length > 30) {
        await pause(250, signal);
        continue;
      }
      if (!this.coming.length && !(await this.ask(signal))) {
        await pause(1000, signal);
        continue;
      }
      await this.fetch(signal);
    }
  }

  /** Ask for the fragments that come next; false when there are none (yet). */
  async ask(signal) {
    const answer = await get(`/api/fragments`, { stream: this.stream, from: Math.round(this.nextMs), to: Math.round(this.nextMs + WINDOW_MS) }, signal);
    let fragments = answer.fragments;
    if (!this.list.length) {
      // The first may begin earlier, at the keyframe that is needed; never with a picture that needs one before it.
      const first = fragments.findIndex((fragment) => fragment.is_keyframe);
      fragments = first < 0 ? [] : fragments.slice(first);
    } else {
      const last = this.list.at(-1).sequence;
      fragments = fragments.filter((fragment) => fragment.sequence > last);
    }
    if (fragments.length) {
      this.isAtEnd = false;
      this.coming = fragments;
      this.nextMs = fragments.at(-1).to_ms;
      return true;
    }
    if (answer.next_ms !== null) {
      this.nextMs = Math.max(answer.next_ms, this.nextMs + 1);
      return true;
    }
    this.isAtEnd = true;
    return false;
  }

  async fetch(signal) {
    if (!this.coming.length) return;
    const group = [this.coming.shift()];
    let sizeBytes = group[0].size_bytes;
    while (this.coming.length) {
      const [last, next] = [group.at(-1), this.coming[0]];
      const isNeighbour = next.segment === last.segment && next.lap === last.lap && next.offset === last.offset + last.size_bytes;
      if (!isNeighbour || sizeBytes + next.size_bytes > FETCH_BYTES) break;
      sizeBytes += next.size_bytes;
      group.push(this.coming.shift());
    }
    const path = `/media/${this.stream}/${group[0].segment}/${group[0].lap}`;
    let init = null;
    if (this.initOf !== path) {
      init = await bytes(path, 0, group[0].init_bytes, signal);
      this.initOf = path;
    }
    const data = await bytes(path, group[0].offset, sizeBytes, signal);
    for (const fragment of group) {
      const at = fragment.offset - group[0].offset;
      this.add(fragment, init, data.subarray(at, at + fragment.size_bytes));
      init = null;
    }
  }

  add(fragment, init, data) {
    const startS = this.feed.append(init, data, fragment.duration_ticks);
    const isFirst = !this.list.length;
    const stepS = fragment.duration_ticks / 90000 / Math.max(1, fragment.pictures);
    this.list.push({ startS, fromMs: fragment.from_ms, toMs: fragment.to_ms, sequence: fragment.sequence, stepS });
    while (this.list.length > 600) this.list.shift();
    if (isFirst) {
      const intoS = (this.startMs - fragment.from_ms) / 1000;
      const lengthS = fragment.duration_ticks / 90000;
      if (intoS > 0 && intoS < lengthS) this.video.currentTime = intoS;
      this.skipToMs = intoS >= lengthS ? this.startMs : null;
      this.setSpeed(this.speed);
      if (this.wants) this.video.play().catch(() => {});
    } else if (this.skipToMs && this.skipToMs >= fragment.from_ms && this.skipToMs < fragment.to_ms) {
      this.video.currentTime = startS + (this.skipToMs - fragment.from_ms) / 1000; // a long GOP: decode from its keyframe
      this.skipToMs = null;
    }
  }

  entry() {
    const timeS = this.video.currentTime + 0.0005;
    let found = null;
    for (const entry of this.list ?? []) {
      if (entry.startS > timeS) break;
      found = entry;
    }
    return found;
  }

  /** The wall time of the picture on screen; null before there is one. */
  timeMs() {
    const entry = this.entry();
    if (!entry || this.video.readyState < 2) return null;
    return entry.fromMs + Math.min(entry.toMs - entry.fromMs, (this.video.currentTime - entry.startS) * 1000);
  }

  /** To be called some five times a second: gaps that were jumped over, holes in the buffer, the end. */
  tick() {
    if (!this.isOn) return;
    const entry = this.entry();
    if (entry) {
      const at = this.list.indexOf(entry);
      const before = at > 0 ? this.list[at - 1] : null;
      if (before && entry.fromMs - before.toMs > GAP_MS && this.toldGap !== entry.sequence) {
        this.toldGap = entry.sequence;
        this.ongap({ fromMs: before.toMs, toMs: entry.fromMs });
      } else if (!before && entry.fromMs - this.startMs > GAP_MS && this.toldGap !== entry.sequence) {
        this.toldGap = entry.sequence;
        this.ongap({ fromMs: this.startMs, toMs: entry.fromMs });
      }
    }
    const { video } = this;
    for (let i = 0; i < video.buffered.length; i++) {
      if (video.buffered.start(i) > video.currentTime && video.buffered.start(i) - video.currentTime < 0.5) video.currentTime = video.buffered.start(i) + 0.001;
    }
    if (this.isAtEnd && this.wants && this.feed.isIdle && this.feed.endS - video.currentTime < 0.3) {
      const lastMs = this.list.at(-1)?.toMs ?? this.startMs;
      if (boxNow() - lastMs > LIVE_EDGE_MS) this.onend();
    }
  }

  /** Show another moment; what is in the buffer is not fetched again. */
  seek(ms) {
    const entry = this.list?.find((each) => each.fromMs <= ms && ms < each.toMs);
    const timeS = entry ? entry.startS + (ms - entry.fromMs) / 1000 : -1;
    const ranges = this.video.buffered;
    for (let i = 0; i < ranges.length; i++) {
      if (entry && !this.feed.isBroken && timeS >= ranges.start(i) && timeS < ranges.end(i)) {
        this.video.currentTime = timeS;
        if (this.wants) this.video.play().catch(() => {});
        return;
      }
    }
    this.play(ms);
  }

  setSpeed(speed) {
    this.speed = speed;
    this.video.defaultPlaybackRate = speed;
    this.video.playbackRate = speed;
  }

  toggle() {
    this.wants = !this.wants;
    if (this.wants) this.video.play().catch(() => {});
    else this.video.pause();
  }

  /** One picture on (1) or back (-1). */
  step(by) {
    this.wants = false;
    this.video.pause();
    const entry = this.entry();
    if (entry) this.video.currentTime = Math.max(0, this.video.currentTime + by * entry.stepS);
  }

  broken(reason) {
    const ms = this.timeMs() ?? this.startMs;
    this.faults = (this.faults ?? []).filter((atMs) => Date.now() - atMs < 20000);
    this.faults.push(Date.now());
    if (this.faults.length > 3) this.onfault(new Error(reason));
    else setTimeout(() => this.isOn && this.play(ms + 1000 * this.faults.length), 200); // step over what cannot be shown
  }

  stop() {
    this.isOn = false;
    this.turn?.abort();
    this.feed?.close();
    this.feed = null;
    this.list = [];
  }
}

function pause(ms, signal) {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}
