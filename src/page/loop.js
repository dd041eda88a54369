// A peer connection with the server that goes both ways: what is sent, and what comes back, with a data channel beside it.

import { keepResolution, preferCodec } from "./codecs.js";
import { told } from "./ice.js";
import { Problem } from "./words.js";

const CONNECT_MS = 15_000;
/** A connection that was there often comes back by itself. */
const PATIENCE_MS = 6_000;
const VIDEO_BITRATE = 2_500_000;
const AUDIO_BITRATE = 128_000;
const LABEL = "echo";

/** `onchange` hears "connected", "interrupted" or, once and last, a Problem. */
export class Loop {
  #pc;
  #data;
  #send;
  #onchange;
  #timer = null;
  #early = [];

  /** `onstream` hears of the stream that comes back, `ondata` of "open", "close" and each message that does. */
  constructor({ send, iceServers = [], onchange, onstream, ondata }) {
    [this.#send, this.#onchange] = [send, onchange];
    this.#pc = new RTCPeerConnection({ bundlePolicy: "max-bundle", iceServers });
    const back = new MediaStream();
    this.#pc.addEventListener("track", ({ track }) => {
      back.addTrack(track);
      onstream(back);
    });
    this.#pc.addEventListener("connectionstatechange", () => this.#changed());
    this.#data = this.#pc.createDataChannel(LABEL);
    this.#data.binaryType = "arraybuffer";
    for (const type of ["open", "close"]) this.#data.addEventListener(type, () => ondata({ type }));
    this.#data.addEventListener("message", ({ data }) => ondata({ type: "message", data }));
  }

  /** Offers the stream; `ask` passes the message on and returns the answer to it. */
  async start(ask, stream, codec) {
    const pc = this.#pc;
    for (const track of stream.getTracks()) {
      const maxBitrate = track.kind === "video" ? VIDEO_BITRATE : AUDIO_BITRATE;
      const transceiver = pc.addTransceiver(track, { direction: "sendrecv", streams: [stream], sendEncodings: [{ maxBitrate }] });
      if (track.kind === "video") {
        preferCodec(transceiver, codec);
        await keepResolution(transceiver.sender);
      }
    }
    // Candidates of ours before the server has answered would find no session there.
    const ours = [];
    let tell = (message) => ours.push(message);
    pc.addEventListener("icecandidate", ({ candidate }) => candidate?.candidate && tell({ type: "candidate", ...told(candidate) }));
    await pc.setLocalDescription();
    const { sdp } = await ask({ type: "offer", sdp: pc.localDescription.sdp });
    if (pc.connectionState === "closed") return;
    tell = this.#send;
    ours.forEach(tell);
    this.#failAfter(CONNECT_MS, "connection-failed");
    await pc.setRemoteDescription({ type: "answer", sdp });
    for (const early of this.#early.splice(0)) await this.#add(early);
    const comesBack = ({ currentDirection }) => ["sendrecv", "recvonly"].includes(currentDirection);
    if (!pc.getTransceivers().some(comesBack)) throw new Problem("no-echo");
  }

  /** A candidate of the server. */
  async candidate({ candidate, sdpMid, sdpMLineIndex, usernameFragment }) {
    if (!candidate) return;
    const init = { candidate, sdpMid, sdpMLineIndex, usernameFragment };
    if (this.#pc.remoteDescription) await this.#add(init);
    else this.#early.push(init);
  }

  /** Sends a string or bytes; false while there is no data channel. */
  say(data) {
    const isOpen = this.#data.readyState === "open";
    if (isOpen) this.#data.send(data);
    return isOpen;
  }

  /** Sends other tracks of the same kinds from now on. */
  replace(stream) {
    const of = (kind) => stream.getTracks().find((track) => track.kind === kind);
    const swap = (sender) => sender.track && sender.replaceTrack(of(sender.track.kind) ?? sender.track);
    return Promise.all(this.#pc.getSenders().map(swap));
  }

  /** What the browser knows of the connection. */
  report() {
    return this.#pc.getStats();
  }

  close() {
    clearTimeout(this.#timer);
    this.#onchange = () => {};
    this.#pc.close();
  }

  #add(init) {
    return this.#pc.addIceCandidate(init).catch((error) => console.warn("candidate:", error));
  }

  #changed() {
    switch (this.#pc.connectionState) {
      case "connected":
        clearTimeout(this.#timer);
        this.#onchange("connected");
        break;
      case "disconnected":
        this.#failAfter(PATIENCE_MS, "disconnected");
        this.#onchange("interrupted");
        break;
      case "failed":
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
    this.close();
    onchange(new Problem(code));
  }
}
