// Live of one stream: the hub asks the box, the box sends the fragments it records, and the box page's player shows them.
// The messages are those of the box's own page (nvr/web/live.py), header and fragment.

import { LivePlayer, canPlay } from "../../../web/page/player.js";
import { hubNow, now } from "./time";

export { canPlay };

interface LiveHeader {
  stream: string;
  init_bytes: number;
  duration_ticks: number;
  age_ms: number; // when it left the hub
  sent_ms?: number; // the hub's clock then
  skipped: number;
}

const WAY_MOST_MS = 120_000;
const STALL_MS = 8_000;
const RETRY_MS = [500, 2000, 5000];
const decoder = new TextDecoder();

export type LiveState = { what: "opening" } | { what: "playing"; ageMs: number; skipped: number } | { what: "broken"; reason: string } | { what: "refused"; reason: string };

export class Live {
  private socket: WebSocket | null = null;
  private player: LivePlayer;
  private timer: number;
  private heardMs = now();
  private tries = 0;
  private skipped = 0;
  private isClosed = false;

  constructor(
    video: HTMLVideoElement,
    readonly address: string,
    readonly stream: string,
    readonly tell: (state: LiveState) => void,
  ) {
    this.player = new LivePlayer(video, () => this.send({ again: this.stream }));
    this.timer = window.setInterval(() => this.tick(), 200);
    this.open();
  }

  private open(): void {
    this.tell({ what: "opening" });
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}${this.address}`);
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    this.heardMs = now();
    socket.onopen = () => this.send({ watch: [this.stream] });
    socket.onmessage = (event) => {
      if (socket !== this.socket) return;
      this.heardMs = now();
      if (typeof event.data !== "string") this.take(event.data as ArrayBuffer);
    };
    socket.onclose = (event) => {
      if (socket !== this.socket || this.isClosed) return;
      this.socket = null;
      if (event.code >= 4400 && event.code < 4500) return this.tell({ what: "refused", reason: event.reason || String(event.code) });
      this.tell({ what: "broken", reason: event.reason });
      window.setTimeout(() => this.isClosed || this.socket || this.open(), RETRY_MS[Math.min(this.tries++, RETRY_MS.length - 1)]);
    };
  }

  private take(data: ArrayBuffer): void {
    const headerBytes = new DataView(data).getUint32(0);
    const header = JSON.parse(decoder.decode(new Uint8Array(data, 4, headerBytes))) as LiveHeader;
    const at = 4 + headerBytes;
    const init = header.init_bytes ? new Uint8Array(data, at, header.init_bytes) : null;
    // What is long on its way to this browser is as much older; an old hub does not say, and a clock that somebody set says nothing.
    const wayMs = header.sent_ms ? hubNow() - header.sent_ms : 0;
    if (wayMs > 0 && wayMs < WAY_MOST_MS) header.age_ms += wayMs;
    this.tries = 0;
    this.skipped += header.skipped || 0;
    this.player.take(header, init, new Uint8Array(data, at + header.init_bytes));
    this.send({ got: this.stream });
  }

  private send(message: object): void {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(message));
  }

  private tick(): void {
    this.player.tick();
    const ageMs = this.player.ageMs();
    // A link that is silent is dead, whatever the browser thinks: phones change networks without a word.
    if (this.socket && now() - this.heardMs > STALL_MS) {
      const old = this.socket;
      this.socket = null;
      old.close();
      this.tell({ what: "broken", reason: "" });
      this.open();
    } else if (this.socket) this.tell(ageMs === null ? { what: "opening" } : { what: "playing", ageMs, skipped: this.skipped });
  }

  close(): void {
    this.isClosed = true;
    clearInterval(this.timer);
    this.socket?.close();
    this.player.close();
  }
}
