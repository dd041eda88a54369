// A WHIP client (RFC 9725): one offer, one answer, one DELETE.

import { Problem } from "./words.js";

// The server learns our address from our connectivity checks, so the offer need not wait for candidates.
const GATHER_MS = 200;
const POST_MS = 10_000;
const CONNECT_MS = 15_000;
const DISCONNECTED_MS = 8_000;
const VIDEO_BITRATE = 2_500_000;
const AUDIO_BITRATE = 128_000;

/**
 * One published stream. `onchange` hears "connected", "interrupted" or, once and last, a Problem.
 */
export class Publication {
  #pc = new RTCPeerConnection({ bundlePolicy: "max-bundle" });
  #token;
  #onchange;
  #session = null;
  #timer = null;
  #last = null;
  #connected = false;

  constructor({ token, onchange }) {
    this.#token = token;
    this.#onchange = onchange;
  }

  /** Offers the stream; returns when the server has answered, which is before media flows. */
  async start({ url, stream, codec }) {
    try {
      await this.#offer(stream, codec);
      const answer = await this.#post(url);
      this.#pc.addEventListener("connectionstatechange", () => this.#changed());
      this.#failAfter(CONNECT_MS, "connection-failed");
      await this.#pc.setRemoteDescription({ type: "answer", sdp: answer });
      this.#changed();
    } catch (error) {
      this.stop();
      throw error instanceof Problem ? error : new Problem("webrtc", error.message);
    }
  }

  /** Ends the session on both sides. Safe to call while the page is being closed, and twice. */
  stop() {
    clearTimeout(this.#timer);
    this.#onchange = () => {};
    this.#pc.close();
    const session = this.#session;
    this.#session = null;
    // keepalive lets the request outlive the page.
    return session && fetch(session, { method: "DELETE", headers: this.#authorization(), keepalive: true }).catch(() => {});
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

  async #offer(stream, codec) {
    for (const track of stream.getTracks()) {
      const maxBitrate = track.kind === "video" ? VIDEO_BITRATE : AUDIO_BITRATE;
      const transceiver = this.#pc.addTransceiver(track, { direction: "sendonly", streams: [stream], sendEncodings: [{ maxBitrate }] });
      if (track.kind === "video") {
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
    return response.text();
  }

  #authorization() {
    return this.#token ? { Authorization: `Bearer ${this.#token}` } : {};
  }

  #changed() {
    switch (this.#pc.connectionState) {
      case "connected":
        clearTimeout(this.#timer);
        this.#connected = true;
        this.#onchange("connected");
        break;
      case "disconnected":
        this.#failAfter(DISCONNECTED_MS, "disconnected");
        this.#onchange("interrupted");
        break;
      case "failed":
      case "closed":
        this.#fail(this.#connected ? "disconnected" : "connection-failed");
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

/** H.264 first, as RTMP takes it untouched; or only the codec that was asked for, with the helpers of any codec. */
function preferCodec(transceiver, wanted) {
  const all = RTCRtpSender.getCapabilities("video")?.codecs ?? [];
  const is = (name) => (codec) => codec.mimeType.toLowerCase() === `video/${name}`;
  const helpers = all.filter((codec) => ["rtx", "red", "ulpfec", "flexfec-03"].some((name) => is(name)(codec)));
  if (wanted) {
    const chosen = all.filter(is(wanted));
    if (chosen.length === 0) throw new Problem("codec", wanted.toUpperCase());
    transceiver.setCodecPreferences([...chosen, ...helpers]);
    return;
  }
  const h264 = all.filter(is("h264"));
  const others = all.filter((codec) => !h264.includes(codec) && !helpers.includes(codec));
  if (h264.length > 0) transceiver.setCodecPreferences([...h264, ...others, ...helpers]);
}

/** Players of RTMP take a new frame rate better than a new size. */
async function keepResolution(sender) {
  const parameters = sender.getParameters();
  parameters.degradationPreference = "maintain-resolution";
  await sender.setParameters(parameters).catch(() => {});
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
