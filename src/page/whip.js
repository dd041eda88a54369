// A WHIP client (RFC 9725): one offer, one answer, candidates that come later, restarts when the network changes, DELETE.

import { keepResolution, preferCodec } from "./codecs.js";
import { FRAGMENT, candidatesOf, fragment, restarted } from "./ice.js";
import { Problem } from "./words.js";

// The server learns our address from our connectivity checks, so the offer need not wait for candidates.
const GATHER_MS = 200;
const POST_MS = 10_000;
const CONNECT_MS = 15_000;
// The connection often comes back by itself; when it does not, ICE is restarted, again and again while the server waits.
const RESTART_AFTER_MS = 2_000;
const RESTART_EVERY_MS = 4_000;
const DISCONNECTED_MS = 60_000;
// A server that is there but down refuses at once; a network that is not there lets us wait.
const REFUSED_AT_ONCE_MS = 1_000;
const MOST_REFUSALS = 3;
const VIDEO_BITRATE = 2_500_000;
const AUDIO_BITRATE = 128_000;
/** Sizes of the picture, the smallest first: a server that passes it on has something for viewers with little bandwidth. */
const LAYERS = [
  { rid: "q", scaleResolutionDownBy: 4, maxBitrate: 150_000 },
  { rid: "h", scaleResolutionDownBy: 2, maxBitrate: 600_000 },
  { rid: "f", scaleResolutionDownBy: 1, maxBitrate: VIDEO_BITRATE },
];
/** With this many pixels so many of them: of small pictures Chromium leaves out the largest, not the smallest. */
const ENOUGH = [[960 * 540, 3], [480 * 270, 2]];
/** Browsers make of several encodings in others what servers do not take apart. */
const LAYERED = ["h264", "vp8"];

/**
 * One published stream. `onchange` hears "connected", "interrupted" or, once and last, a Problem.
 */
export class Publication {
  #pc = new RTCPeerConnection({ bundlePolicy: "max-bundle" });
  #token;
  #onchange;
  #session = null;
  #etag = null;
  #answer = null;
  #timer = null;
  #restartTimer = null;
  #restarting = false;
  #refusals = 0;
  #interrupted = false;
  #online = () => this.#restart();
  #last = null;
  #connected = false;
  /** Of the picture in several sizes. */
  #layered = null;
  #layering = Promise.resolve();

  constructor({ token, onchange }) {
    this.#token = token;
    this.#onchange = onchange;
  }

  /** Offers the stream; returns when the server has answered, which is before media flows. */
  async start({ url, stream, codec, layers = false }) {
    try {
      await this.#offer(stream, codec, layers && LAYERED.includes(codec ?? LAYERED[0]) ? layersOf(stream) : []);
      const told = candidatesOf(this.#pc.localDescription);
      this.#answer = await this.#post(url);
      this.#pc.addEventListener("connectionstatechange", () => this.#changed());
      this.#failAfter(CONNECT_MS, "connection-failed");
      await this.#pc.setRemoteDescription({ type: "answer", sdp: this.#answer });
      this.#changed();
      this.#trickle(told);
      // Another network is there: no need to wait until the old connection is found dead.
      window.addEventListener("online", this.#online);
    } catch (error) {
      this.stop();
      throw error instanceof Problem ? error : new Problem("webrtc", error.message);
    }
  }

  /** Ends the session on both sides. Safe to call while the page is being closed, and twice. */
  stop() {
    clearTimeout(this.#timer);
    clearTimeout(this.#restartTimer);
    window.removeEventListener("online", this.#online);
    this.#onchange = () => {};
    this.#pc.close();
    const session = this.#session;
    this.#session = null;
    // keepalive lets the request outlive the page.
    return session && fetch(session, { method: "DELETE", headers: this.#authorization(), keepalive: true }).catch(() => {});
  }

  /** Whether a stream can take the place of what is sent, as far as sizes go. */
  fits(stream) {
    return !this.#layered || this.#layered.getParameters().encodings.length === layersOf(stream).length;
  }

  /** Sends other tracks of the same kinds from now on. */
  replace(stream) {
    const swap = (sender) => sender.replaceTrack(stream.getTracks().find((track) => track.kind === sender.track?.kind) ?? sender.track);
    return Promise.all(this.#pc.getSenders().map(swap));
  }

  /** Sends the smaller sizes too, or not: they cost the browser something. */
  sendLayers(all) {
    // One after the other, as parameters that were read before others were set do not count.
    this.#layering = this.#layering.then(() => this.#setLayers(all)).catch((error) => console.warn("layers:", error));
    return this.#layering;
  }

  async #setLayers(all) {
    const parameters = this.#layered?.getParameters();
    const { length } = parameters?.encodings ?? [];
    const wanted = (index) => all || index === length - 1;
    if (!parameters?.encodings.some(({ active }, index) => active !== wanted(index))) return;
    parameters.encodings.forEach((encoding, index) => (encoding.active = wanted(index)));
    await this.#layered.setParameters(parameters);
  }

  /** What the browser knows of the connection. */
  report() {
    return this.#pc.getStats();
  }

  /** What is being sent, measured since the last call. */
  async stats() {
    const report = [...(await this.#pc.getStats()).values()];
    const outbound = report.filter((entry) => entry.type === "outbound-rtp");
    const video = outbound.find((entry) => entry.kind === "video");
    const bytes = outbound.reduce((sum, entry) => sum + (entry.bytesSent ?? 0), 0);
    const at = performance.now();
    const rate = this.#last && (8000 * (bytes - this.#last.bytes)) / (at - this.#last.at);
    this.#last = { bytes, at };
    const codec = report.find((entry) => entry.id === video?.codecId)?.mimeType?.replace("video/", "");
    return { rate, codec, width: video?.frameWidth, height: video?.frameHeight, fps: video?.framesPerSecond };
  }

  async #offer(stream, codec, layers) {
    for (const track of stream.getTracks()) {
      const isVideo = track.kind === "video";
      const one = { maxBitrate: isVideo ? VIDEO_BITRATE : AUDIO_BITRATE };
      const sendEncodings = isVideo && layers.length > 0 ? layers : [one];
      const transceiver = this.#pc.addTransceiver(track, { direction: "sendonly", streams: [stream], sendEncodings });
      if (isVideo) {
        if (layers.length > 0) this.#layered = transceiver.sender;
        preferCodec(transceiver, codec);
        await keepResolution(transceiver.sender);
      }
    }
    await this.#pc.setLocalDescription();
    await gathered(this.#pc, GATHER_MS);
  }

  async #post(url) {
    const response = await fetch(url, {
      method: "POST",
      headers: { "Content-Type": "application/sdp", ...this.#authorization() },
      body: this.#pc.localDescription.sdp,
      signal: AbortSignal.timeout(POST_MS),
    }).catch(() => {
      throw new Problem("server-gone");
    });
    if (response.status !== 201) throw await refusal(response);
    this.#session = new URL(response.headers.get("Location"), response.url).href;
    this.#etag = response.headers.get("ETag");
    return response.text();
  }

  async #patch(body, tag) {
    const headers = { "Content-Type": FRAGMENT, "If-Match": tag, ...this.#authorization() };
    const asked = performance.now();
    try {
      const response = await fetch(this.#session, { method: "PATCH", headers, body, signal: AbortSignal.timeout(POST_MS) });
      this.#refusals = 0;
      return response;
    } catch (error) {
      const atOnce = performance.now() - asked < REFUSED_AT_ONCE_MS;
      if (navigator.onLine && atOnce) this.#refusals += 1;
      throw error;
    }
  }

  /** Tells the server of candidates that were found after the offer was sent. */
  async #trickle(told) {
    const ufrag = ufragOf(this.#pc);
    await gathered(this.#pc, POST_MS);
    // A restart tells its own candidates.
    if (this.#restarting || ufragOf(this.#pc) !== ufrag) return;
    const found = this.#pc.localDescription && candidatesOf(this.#pc.localDescription).filter((line) => !told.includes(line));
    if (!found?.length || !this.#session || !this.#etag) return;
    const body = fragment(this.#pc.localDescription, found, { complete: this.#pc.iceGatheringState === "complete" });
    await this.#patch(body, this.#etag).catch(() => {}); // the server finds us by our checks as well
  }

  /** Begins ICE anew: from whatever network there is now. Tried again until connected, or until the server gives up. */
  async #restart() {
    if (this.#restarting || !this.#session || this.#pc.connectionState === "closed") return;
    this.#restarting = true;
    clearTimeout(this.#restartTimer);
    try {
      if (this.#pc.signalingState !== "stable") await this.#pc.setLocalDescription({ type: "rollback" });
      this.#pc.restartIce();
      await this.#pc.setLocalDescription();
      await gathered(this.#pc, GATHER_MS);
      const local = this.#pc.localDescription;
      const complete = this.#pc.iceGatheringState === "complete";
      const response = await this.#patch(fragment(local, candidatesOf(local), { complete }), "*");
      if (response.status === 404) return this.#fail("disconnected");
      if (response.status === 200) {
        this.#etag = response.headers.get("ETag");
        await this.#pc.setRemoteDescription({ type: "answer", sdp: restarted(this.#answer, await response.text()) });
      }
    } catch (error) {
      if (this.#refusals >= MOST_REFUSALS) return this.#fail("disconnected");
      console.warn("ICE was not restarted; there is no network yet, most likely:", error);
    } finally {
      this.#restarting = false;
    }
    if (this.#pc.connectionState !== "connected") this.#restartAfter(RESTART_EVERY_MS);
  }

  #restartAfter(ms) {
    clearTimeout(this.#restartTimer);
    this.#restartTimer = setTimeout(() => this.#restart(), ms);
  }

  #authorization() {
    return this.#token ? { Authorization: `Bearer ${this.#token}` } : {};
  }

  #changed() {
    switch (this.#pc.connectionState) {
      case "connected":
        clearTimeout(this.#timer);
        clearTimeout(this.#restartTimer);
        this.#connected = true;
        this.#interrupted = false;
        this.#onchange("connected");
        break;
      case "disconnected":
      case "failed":
        if (!this.#connected) return this.#fail("connection-failed");
        // Once for the whole of it: the state goes back and forth while ICE is restarted in vain.
        if (!this.#interrupted) this.#failAfter(DISCONNECTED_MS, "disconnected");
        this.#interrupted = true;
        this.#restartAfter(this.#pc.connectionState === "failed" ? 0 : RESTART_AFTER_MS);
        this.#onchange("interrupted");
        break;
      case "closed":
        this.#fail("disconnected");
        break;
    }
  }

  #failAfter(ms, code) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#fail(code), ms);
  }

  #fail(code) {
    const onchange = this.#onchange;
    this.stop();
    onchange(new Problem(code));
  }
}

/** The sizes that a stream is sent in; none: only as it is. */
function layersOf(stream) {
  const { width = 0, height = 0 } = stream.getVideoTracks()[0]?.getSettings() ?? {};
  const [, count] = ENOUGH.find(([pixels]) => width * height >= pixels) ?? [];
  return count ? LAYERS.slice(-count) : [];
}

function ufragOf(pc) {
  return pc.localDescription?.sdp.match(/^a=ice-ufrag:(.*)$/m)?.[1];
}

function gathered(pc, ms) {
  if (pc.iceGatheringState === "complete") return Promise.resolve();
  return new Promise((resolve) => {
    setTimeout(resolve, ms);
    pc.addEventListener("icegatheringstatechange", () => pc.iceGatheringState === "complete" && resolve());
  });
}

async function refusal(response) {
  const problem = await response.json().catch(() => ({}));
  const detail = problem.detail ?? `HTTP ${response.status}`;
  switch (response.status) {
    case 401: return new Problem("unauthorized", detail);
    case 404: return new Problem("not-found", detail);
    case 409: return new Problem("conflict", detail);
    case 429:
    case 503: return new Problem("unavailable", detail);
    default: return new Problem(response.status >= 500 ? "server-error" : "refused", detail);
  }
}
