// The one WebSocket of a page: what is watched, what the box says, and since when it says nothing.

import { setBoxNow } from "./dom.js";
import { now } from "./player.js";

const SILENT_MS = 4000; // the box speaks every second
const RETRY_MS = [300, 1000, 2000, 5000];
const decoder = new TextDecoder();

export class Link {
  constructor() {
    this.watchers = new Map(); // stream -> Set of functions (header, init, fragment)
    this.streams = {};
    this.recorderSilentS = 0;
    this.troubles = []; // of the box itself
    this.heardMs = now();
    this.skipped = 0;
    this.tries = 0;
    this.open();
    this.timer = setInterval(() => this.check(), 1000);
  }

  open() {
    const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/live`);
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    this.openedMs = now();
    socket.onopen = () => this.tell();
    socket.onmessage = (event) => {
      if (socket !== this.socket) return;
      this.heardMs = now();
      this.tries = 0;
      if (typeof event.data === "string") this.hear(JSON.parse(event.data));
      else this.take(event.data);
    };
    socket.onclose = (event) => {
      if (socket !== this.socket) return;
      this.socket = null;
      if (event.code === 4401) location.assign("/login");
      setTimeout(() => this.socket || this.open(), RETRY_MS[Math.min(this.tries++, RETRY_MS.length - 1)]);
    };
  }

  /** A link that is silent is dead, whatever the browser thinks: phones change networks without a word. */
  check() {
    if (this.socket && this.silentMs() > 2 * SILENT_MS && now() - this.openedMs > 2 * SILENT_MS) {
      const socket = this.socket;
      this.socket = null;
      socket.close();
      this.open();
    }
  }

  silentMs() {
    return now() - this.heardMs;
  }

  /** Whether what we know of the box is of now. */
  get isAlive() {
    return this.silentMs() < SILENT_MS;
  }

  hear(message) {
    this.recorderSilentS = message.recorder_silent_s;
    this.troubles = message.troubles;
    setBoxNow(message.now_ms);
    if (message.streams) this.streams = message.streams;
  }

  take(data) {
    const headerBytes = new DataView(data).getUint32(0);
    const header = JSON.parse(decoder.decode(new Uint8Array(data, 4, headerBytes)));
    const at = 4 + headerBytes;
    const init = header.init_bytes ? new Uint8Array(data, at, header.init_bytes) : null;
    const fragment = new Uint8Array(data, at + header.init_bytes);
    this.send({ got: header.stream });
    this.skipped += header.skipped;
    for (const watcher of this.watchers.get(header.stream) ?? []) watcher(header, init, fragment);
  }

  send(message) {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  tell() {
    this.send({ watch: [...this.watchers.keys()] });
  }

  watch(stream, watcher) {
    if (!this.watchers.has(stream)) this.watchers.set(stream, new Set());
    const watchers = this.watchers.get(stream);
    watchers.add(watcher);
    if (watchers.size === 1) this.tell();
    else this.again(stream);
  }

  unwatch(stream, watcher) {
    const watchers = this.watchers.get(stream);
    watchers?.delete(watcher);
    if (watchers?.size === 0) this.watchers.delete(stream);
    this.tell();
  }

  /** Have the init segment and the last keyframe sent once more. */
  again(stream) {
    this.send({ again: stream });
  }
}
