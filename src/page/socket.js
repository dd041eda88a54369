// The page's WebSocket: replies find who asked, and a lost connection is made again for as long as it is wanted.

import { socketAddress } from "./address.js";
import { Problem } from "./words.js";

const REPLY_MS = 10_000;
const FIRST_RETRY_MS = 500;
const MOST_RETRY_MS = 5_000;

/** Codes of the server's `error`, and what they are to the page. */
const CODES = {
  "unauthorized": "unauthorized",
  "forbidden": "unauthorized",
  "not-found": "channel-gone",
  "unavailable": "server-full",
  "too-often": "too-often",
  "conflict": "conflict",
  "unsupported": "unsupported",
};

/** Hears: "open" when connected (again), "lost" when not, and a message's type for each that answers nothing. */
export class Socket extends EventTarget {
  #token;
  #used = null;
  #ws = null;
  #asked = new Map();
  #last = 0;
  #retry = FIRST_RETRY_MS;
  #timer = null;

  constructor(token = "") {
    super();
    this.#token = token;
    addEventListener("online", () => this.#now());
    this.#connect();
  }

  get isOpen() {
    return this.#ws?.readyState === WebSocket.OPEN;
  }

  /** Returns when there is a connection. */
  opened() {
    if (this.isOpen) return Promise.resolve();
    return new Promise((resolve, reject) => {
      setTimeout(() => reject(new Problem("server-gone")), REPLY_MS);
      this.addEventListener("open", resolve, { once: true });
    });
  }

  /** Shown to the server from now on. */
  useToken(token, { reconnect }) {
    this.#token = token;
    if (reconnect && this.#used !== token) this.#now();
  }

  /** Sends; false if there is nobody to send to. */
  send(message) {
    if (this.isOpen) this.#ws.send(JSON.stringify(message));
    return this.isOpen;
  }

  /** Sends, and returns the reply; an `error` is thrown as a Problem. */
  ask(message) {
    const id = ++this.#last;
    return new Promise((resolve, reject) => {
      if (!this.send({ ...message, id })) return reject(new Problem("server-gone"));
      const timer = setTimeout(() => this.#settle(id)?.reject(new Problem("server-gone")), REPLY_MS);
      this.#asked.set(id, { resolve, reject, timer });
    });
  }

  #connect() {
    clearTimeout(this.#timer);
    const ws = new WebSocket(socketAddress(location.href, this.#token));
    this.#used = this.#token;
    this.#ws = ws;
    ws.addEventListener("open", () => {
      this.#retry = FIRST_RETRY_MS;
      this.dispatchEvent(new Event("open"));
    });
    ws.addEventListener("message", ({ data }) => this.#ws === ws && this.#hear(data));
    ws.addEventListener("close", () => this.#ws === ws && this.#lost());
  }

  /** Does not wait any longer; what there is, is given up. */
  #now() {
    const before = this.#ws;
    this.#ws = null;
    before?.close();
    this.#forget();
    this.#connect();
  }

  #lost() {
    this.#ws = null;
    this.#forget();
    this.dispatchEvent(new Event("lost"));
    // Not all at once, when a server comes back.
    this.#timer = setTimeout(() => this.#connect(), this.#retry * (0.75 + Math.random() / 2));
    this.#retry = Math.min(this.#retry * 2, MOST_RETRY_MS);
  }

  #forget() {
    for (const id of [...this.#asked.keys()]) this.#settle(id)?.reject(new Problem("server-gone"));
  }

  #settle(id) {
    const asked = this.#asked.get(id);
    clearTimeout(asked?.timer);
    this.#asked.delete(id);
    return asked;
  }

  #hear(data) {
    const message = JSON.parse(data);
    const asked = this.#settle(message.id);
    if (message.type === "error") {
      const problem = new Problem(CODES[message.code] ?? "rejected", message.message);
      if (asked) asked.reject(problem);
      else console.warn("the server refused a message:", message.code, message.message);
      return;
    }
    asked?.resolve(message);
    this.dispatchEvent(new MessageEvent(message.type, { data: message }));
  }
}
