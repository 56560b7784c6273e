// Fragments into a <video>: `Feed` puts them one behind the other, `LivePlayer` keeps close to now.
//
// The decode time in a fragment starts anew in every segment, and runs begin whenever a camera comes back. So
// every fragment is simply placed where the one before it ended (timestampOffset); what time it really was is
// kept beside it, in the header that came with it.

import { codecOf, decodeTicks } from "./mp4.js";

const TICKS_PER_S = 90000;
const Source = window.ManagedMediaSource ?? window.MediaSource; // iPhones know only the managed one

export const canPlay = () => Boolean(Source && Source.isTypeSupported('video/mp4; codecs="avc1.42e01e"'));

/** Appends fragments to one video element, in order; `onbroken(reason)` when the element gave up. */
export class Feed {
  constructor(video, onbroken) {
    this.video = video;
    this.onbroken = onbroken;
    this.queue = [];
    this.endTicks = 0;
    this.codec = null;
    this.keepBehindS = 8;
    this.isBroken = false;
    this.source = new Source();
    this.buffer = null;
    this.ended = new AbortController();
    const signal = this.ended.signal;
    video.disableRemotePlayback = true;
    video.addEventListener("error", () => this.broken(video.error?.message || "decoder"), { signal });
    this.source.addEventListener("sourceopen", () => this.work(), { signal, once: true });
    this.url = URL.createObjectURL(this.source);
    video.src = this.url;
  }

  /** End of what has been given so far, in seconds of the video element. */
  get endS() {
    return this.endTicks / TICKS_PER_S;
  }

  /** Put a fragment behind the last one; returns where it starts, in seconds. `init` is null while it stays the same. */
  append(init, fragment, durationTicks) {
    const startTicks = this.endTicks;
    const ticks = decodeTicks(fragment);
    if (ticks === null) {
      this.broken("not a fragment");
      return startTicks / TICKS_PER_S;
    }
    if (init) this.queue.push({ init });
    this.queue.push({ data: fragment, offsetS: (startTicks - ticks) / TICKS_PER_S });
    this.endTicks += durationTicks;
    if (this.queue.length > 120) this.broken("the decoder does not keep up");
    else this.work();
    return startTicks / TICKS_PER_S;
  }

  /** Whether everything that was given is in the buffer. */
  get isIdle() {
    return this.queue.length === 0 && Boolean(this.buffer) && !this.buffer.updating;
  }

  work() {
    if (this.isBroken || this.source.readyState !== "open" || this.buffer?.updating) return;
    try {
      while (this.queue.length && this.queue[0].init) {
        const init = this.queue[0].init;
        const codec = codecOf(init);
        const type = `video/mp4; codecs="${codec}"`;
        if (!codec || !Source.isTypeSupported(type)) return this.broken(`codec ${codec}`);
        if (!this.buffer) {
          this.source.duration = Infinity;
          this.buffer = this.source.addSourceBuffer(type);
          this.buffer.addEventListener("updateend", () => this.work(), { signal: this.ended.signal });
          this.buffer.addEventListener("error", () => this.broken("append"), { signal: this.ended.signal });
        } else if (codec !== this.codec) {
          this.buffer.changeType(type);
        }
        this.codec = codec;
        this.queue.shift();
        this.buffer.appendBuffer(init);
        return;
      }
      if (!this.buffer) return;
      const keepFromS = this.video.currentTime - this.keepBehindS;
      const ranges = this.buffer.buffered;
      if (ranges.length && ranges.start(0) < keepFromS - 4) {
        this.buffer.remove(0, keepFromS);
        return;
      }
      if (!this.queue.length) return;
      const { data, offsetS } = this.queue[0];
      if (Math.abs(this.buffer.timestampOffset - offsetS) > 1e-6) this.buffer.timestampOffset = offsetS;
      this.buffer.appendBuffer(data);
      this.queue.shift();
    } catch (error) {
      if (error.name === "QuotaExceededError" && this.keepBehindS > 2) {
        this.keepBehindS = 1;
        setTimeout(() => this.work(), 500);
      } else {
        this.broken(error.message);
      }
    }
  }

  broken(reason) {
    if (this.isBroken) return;
    this.isBroken = true;
    this.onbroken(reason);
  }

  close() {
    this.isBroken = true;
    this.ended.abort();
    this.queue = [];
    URL.revokeObjectURL(this.url);
    this.video.removeAttribute("src");
    this.video.load();
  }
}

const RESERVE_S = 0.1; // what is left to show when the next fragment comes, on a quiet link
const RESERVE_MOST_S = 1.5;
const JUMP_S = 2.5; // further behind than this, catching up would take too long
const STUCK_MS = 3000;
const REBUILDS_AT_ONCE = 3;

/** A clock that goes on while the computer sleeps and never goes back. */
export const now = (() => {
  const perf0 = performance.now();
  const date0 = Date.now();
  let last = 0;
  return () => (last = Math.max(last, performance.now() - perf0, Date.now() - date0));
})();

/** One camera, as close to now as its link allows; mends itself. */
export class LivePlayer {
  constructor(video, again) {
    this.video = video;
    this.again = again; // asks the box for the init segment and a keyframe once more
    this.reserveS = RESERVE_S;
    this.reserves = [];
    this.newestMs = null; // when the newest picture we hold was taken, by now()
    this.headers = []; // [startS, header] of what may be on screen
    this.rebuilds = [];
    this.moved = { atMs: now(), timeS: -1, frames: -1 };
    video.muted = true;
    video.playsInline = true;
    video.addEventListener("waiting", () => this.starved());
    this.start();
  }

  start() {
    this.feed?.close();
    this.feed = new Feed(this.video, (reason) => this.mend(reason));
    this.hasStarted = false;
    this.needsInit = true;
    this.headers = [];
    this.reserves = [];
    this.moved = { atMs: now(), timeS: -1, frames: -1 };
  }

  /** A fragment that just arrived. */
  take(header, init, fragment) {
    if (this.needsInit && !init) return;
    this.needsInit = false;
    if (this.hasStarted) {
      this.reserves.push(this.feed.endS - this.video.currentTime);
      if (this.reserves.length > 3) this.reserves.shift();
    }
    const startS = this.feed.append(init, fragment, header.duration_ticks);
    this.newestMs = now() - header.age_ms;
    this.headers.push([startS, header]);
    while (this.headers.length > 30) this.headers.shift();
    if (!this.hasStarted) {
      this.hasStarted = true;
      this.video.play().catch(() => {}); // a browser that forbids it shows the first picture; tick() tries again
    }
  }

  /** Age of the picture on screen in ms; null when there is none. */
  ageMs() {
    if (this.newestMs === null) return null;
    return now() - this.newestMs + Math.max(0, this.feed.endS - this.video.currentTime) * 1000;
  }

  /** The header of the fragment on screen. */
  header() {
    let found = null;
    for (const [startS, header] of this.headers) if (startS <= this.video.currentTime + 0.01) found = header;
    return found;
  }

  starved() {
    if (this.hasStarted && this.feed.endS > 2) this.reserveS = Math.min(RESERVE_MOST_S, this.reserveS + 0.1);
  }

  /** Keep close to now; to be called some five times a second. */
  tick() {
    const video = this.video;
    if (!this.hasStarted || this.feed.isBroken) return;
    if (video.paused && !document.hidden) video.play().catch(() => {});
    const aheadS = this.feed.endS - video.currentTime;
    const reserveS = this.reserves.length ? Math.min(...this.reserves) : this.reserveS;
    if (aheadS > JUMP_S + this.reserveS + 1 && video.buffered.length) {
      const endS = video.buffered.end(video.buffered.length - 1);
      if (endS - video.currentTime > JUMP_S) video.currentTime = Math.max(video.currentTime, endS - 1 - this.reserveS);
      this.reserves = [];
    }
    const rate = 1 + Math.max(-0.1, Math.min(0.15, (reserveS - this.reserveS) * 0.5));
    if (Math.abs(video.playbackRate - rate) > 0.01) video.playbackRate = rate;
    this.reserveS = Math.max(RESERVE_S, this.reserveS - 0.0005); // forgets a bad minute within minutes
    this.watchDecoder(aheadS);
  }

  /** A picture that stands still although there is more to show: step over a hole first, then start anew. */
  watchDecoder(aheadS) {
    const frames = this.video.getVideoPlaybackQuality?.().totalVideoFrames ?? -1;
    const timeS = this.video.currentTime;
    const hasMoved = timeS !== this.moved.timeS && (frames < 0 || frames !== this.moved.frames);
    if (hasMoved || aheadS < 0.3 || document.hidden) {
      this.moved = { atMs: now(), timeS, frames };
      return;
    }
    const stuckMs = now() - this.moved.atMs;
    const ranges = this.video.buffered;
    for (let i = 0; i < ranges.length; i++) {
      if (stuckMs > 300 && ranges.start(i) > timeS) {
        this.video.currentTime = ranges.start(i) + 0.001;
        return;
      }
    }
    if (stuckMs > STUCK_MS) this.mend("stuck");
  }

  mend(reason) {
    this.rebuilds = this.rebuilds.filter((atMs) => now() - atMs < 30000);
    const waitMs = this.rebuilds.length < REBUILDS_AT_ONCE ? 100 : 5000;
    this.rebuilds.push(now());
    this.lastFault = reason;
    clearTimeout(this.mending);
    this.mending = setTimeout(() => {
      this.start();
      this.again();
    }, waitMs);
  }

  close() {
    clearTimeout(this.mending);
    this.feed.close();
  }
}
