// A viewer's peer connection: answers the broadcaster's page, or offers to the server. A new connection takes the place of
// the one before only once it plays, so that nobody sees the seam.

import { told } from "./ice.js";

export class Reception {
  #send;
  #onchange;
  #onstream;
  #iceServers = [];
  #pc = null;
  #coming = null;

  /** `onstream` hears of the stream to show; `onchange` of "connected", "disconnected" or "failed". */
  constructor({ send, onchange, onstream }) {
    this.#send = send;
    this.#onchange = onchange;
    this.#onstream = onstream;
  }

  /** STUN and TURN servers for connections from now on. */
  useServers(iceServers = []) {
    this.#iceServers = iceServers;
  }

  get isConnected() {
    return this.#pc?.connectionState === "connected";
  }

  /** The connection that is shown, for statistics. */
  get connection() {
    return this.#pc;
  }

  /** Takes the broadcaster's offer: of the connection that there is (ICE begins anew), or of another. */
  async answer({ from, sdp }) {
    const same = [this.#coming, this.#pc].find((pc) => pc && print(pc.remoteDescription?.sdp) === print(sdp));
    const pc = same ?? this.#begin(from);
    pc.peer = from; // another than before when the broadcaster's page has connected anew
    await pc.setRemoteDescription({ type: "offer", sdp });
    await pc.setLocalDescription();
    this.#send({ type: "answer", sdp: pc.localDescription.sdp });
    await this.#addEarly(pc);
  }

  /** Offers to the server; `ask` passes the message on and returns the answer to it. */
  async offer(ask) {
    const pc = this.#begin(null);
    readLayers(pc.addTransceiver("video", { direction: "recvonly" }));
    pc.addTransceiver("audio", { direction: "recvonly" });
    await pc.setLocalDescription();
    const { sdp } = await ask({ type: "offer", sdp: pc.localDescription.sdp });
    if (pc.connectionState === "closed") return;
    await pc.setRemoteDescription({ type: "answer", sdp });
    pc.answered();
    await this.#addEarly(pc);
  }

  async candidate({ from, candidate, sdpMid, sdpMLineIndex, usernameFragment }) {
    const pc = [this.#coming, this.#pc].find((pc) => pc && pc.peer === (from ?? null));
    if (!pc || !candidate) return;
    const init = { candidate, sdpMid, sdpMLineIndex, usernameFragment };
    if (pc.remoteDescription) await pc.addIceCandidate(init).catch((error) => console.warn("candidate:", error));
    else pc.early.push(init);
  }

  /** Ends what there is. */
  close() {
    for (const pc of [this.#coming, this.#pc]) pc?.close();
    this.#coming = this.#pc = null;
    this.#onstream(null);
  }

  #begin(peer) {
    this.#coming?.close();
    const pc = new RTCPeerConnection({ bundlePolicy: "max-bundle", iceServers: this.#iceServers });
    // Candidates of ours before the server has answered would find no session there.
    const answered = new Promise((resolve) => Object.assign(pc, { peer, early: [], answered: resolve }));
    if (peer !== null) pc.answered();
    const stream = new MediaStream();
    this.#coming = pc;
    pc.addEventListener("track", ({ track }) => stream.addTrack(track));
    pc.addEventListener("icecandidate", async ({ candidate }) => {
      if (!candidate?.candidate) return;
      await answered;
      this.#send({ type: "candidate", ...told(candidate) });
    });
    pc.addEventListener("connectionstatechange", () => {
      const state = pc.connectionState;
      if (state === "connected" && this.#coming === pc) {
        this.#pc?.close();
        [this.#pc, this.#coming] = [pc, null];
        this.#onstream(stream);
      }
      const isOurs = this.#pc === pc || (this.#coming === pc && !this.#pc);
      if (isOurs && ["connected", "disconnected", "failed"].includes(state)) this.#onchange(state);
    });
    return pc;
  }

  async #addEarly(pc) {
    for (const early of pc.early.splice(0)) await pc.addIceCandidate(early).catch((error) => console.warn("candidate:", error));
  }
}

/**
 * AV1 that has pictures of several sizes in one stream cannot be shown without what tells of them, which browsers do not ask
 * for by themselves.
 */
function readLayers(transceiver) {
  const extensions = transceiver.getHeaderExtensionsToNegotiate?.() ?? [];
  const tells = extensions.find(({ uri }) => uri.endsWith("#dependency-descriptor-rtp-header-extension"));
  if (!tells) return;
  tells.direction = "sendrecv";
  transceiver.setHeaderExtensionsToNegotiate(extensions);
}

/** Tells peer connections apart. */
function print(sdp) {
  return sdp?.match(/^a=fingerprint:.*$/m)?.[0];
}
