// Small messages that are sent to come back: as text and as bytes by turns, each one different. Pure: the time is an
// argument.

const KEPT = 20;
const BYTES = 64;
/** What has not come back by then does not count as on its way any more. */
const LOST_MS = 5_000;

export class Pings {
  #last = 0;
  #away = new Map();
  #times = [];
  #returned = 0;
  #lost = 0;

  /** The next message to send: a string or a Uint8Array. */
  next(now) {
    for (const [number, { at }] of this.#away) {
      if (now - at < LOST_MS) break;
      this.#away.delete(number);
      this.#lost += 1;
    }
    const number = ++this.#last;
    const data = number % 2 ? `ping ${number} ✓` : bytesOf(number);
    this.#away.set(number, { at: now, data });
    return data;
  }

  /** Whether a message (a string or an ArrayBuffer) is one of these, unchanged; each counts once. */
  hear(data, now) {
    const back = typeof data === "string" ? data : new Uint8Array(data);
    const number = typeof back === "string" ? Number(/^ping (\d+) /.exec(back)?.[1]) : numberOf(back);
    const sent = this.#away.get(number);
    if (!sent || !isSame(sent.data, back)) return false;
    this.#away.delete(number);
    this.#returned += 1;
    this.#times = [...this.#times, now - sent.at].slice(-KEPT);
    return true;
  }

  /** How it goes: how many came back and how many did not, and the median of the last times in ms. */
  summary() {
    const sorted = [...this.#times].sort((a, b) => a - b);
    return { returned: this.#returned, lost: this.#lost, median: sorted[sorted.length >> 1] };
  }
}

/** The number, and bytes that follow from it. */
function bytesOf(number) {
  const bytes = Uint8Array.from({ length: BYTES }, (_, index) => (number * 31 + index * 7) & 0xff);
  new DataView(bytes.buffer).setUint32(0, number);
  return bytes;
}

function numberOf(bytes) {
  return bytes.length === BYTES ? new DataView(bytes.buffer).getUint32(0) : NaN;
}

function isSame(sent, back) {
  if (typeof sent === "string" || typeof back === "string") return sent === back;
  return sent.length === back.length && sent.every((byte, index) => byte === back[index]);
}
