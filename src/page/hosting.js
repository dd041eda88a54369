// The broadcaster's side of peer to peer: one peer connection for each viewer, made when the server tells of him and closed
// when he leaves, when he cannot be reached, or when the broadcast ends.

import { told } from "./ice.js";
import { kinds } from "./studio.js";

const VIDEO_BITRATE = 2_500_000;
const AUDIO_BITRATE = 128_000;
// A viewer gives up after 5 s and takes the stream from the server.
const CONNECT_MS = 15_000;
// Losing the network for a moment is not leaving; the viewer's page asks anew when it has waited long enough.
const GONE_MS = 20_000;

export class Hosting {
  #send;
  #onchange;
  #iceServers = [];
  #stream = null;
  #viewers = new Map();

  /** `send` passes a message to the server; `onchange` hears how many are connected. */
  constructor({ send, onchange }) {
    this.#send = send;
    this.#onchange = onchange;
  }

  /** What is served from now on; with the same kinds of tracks those who watch see the change at once. */
  async serve(stream, iceServers = this.#iceServers) {
    const isAlike = kinds(stream) === kinds(this.#stream);
    this.#stream = stream;
    this.#iceServers = iceServers;
    if (!stream) return;
    const viewers = [...this.#viewers];
    if (isAlike) {
      await Promise.all(viewers.flatMap(([, { pc }]) => pc.getSenders().map((sender) => swap(sender, stream))));
    } else {
      for (const [peer] of viewers) {
        this.remove(peer);
        await this.add(peer);
      }
    }
  }

  get count() {
    return this.#viewers.size;
  }

  /** The connections, for statistics. */
  get connections() {
    return [...this.#viewers.values()].map(({ pc }) => pc);
  }

  async add(peer) {
    const known = this.#viewers.get(peer)?.pc.connectionState;
    if (!this.#stream || known === "connected") return;
    this.remove(peer);
    const pc = new RTCPeerConnection({ bundlePolicy: "max-bundle", iceServers: this.#iceServers });
    const viewer = { pc, early: [], timer: null };
    this.#viewers.set(peer, viewer);
    this.#giveUpAfter(peer, viewer, CONNECT_MS);
    pc.addEventListener("icecandidate", ({ candidate }) => {
      if (candidate?.candidate) this.#send({ type: "candidate", to: peer, ...told(candidate) });
    });
    pc.addEventListener("connectionstatechange", () => this.#changed(peer, viewer));
    for (const track of this.#stream.getTracks()) {
      const maxBitrate = track.kind === "video" ? VIDEO_BITRATE : AUDIO_BITRATE;
      pc.addTransceiver(track, { direction: "sendonly", streams: [this.#stream], sendEncodings: [{ maxBitrate }] });
    }
    this.#onchange();
    await this.#offer(peer, viewer);
  }

  /** A description or candidate of a viewer. What comes too late is of no use. */
  async hear({ type, from, sdp, candidate, sdpMid, sdpMLineIndex, usernameFragment }) {
    const viewer = this.#viewers.get(from);
    if (!viewer) return;
    try {
      if (type === "answer") {
        await viewer.pc.setRemoteDescription({ type, sdp });
        for (const early of viewer.early.splice(0)) await viewer.pc.addIceCandidate(early);
      } else if (candidate) {
        const init = { candidate, sdpMid, sdpMLineIndex, usernameFragment };
        if (viewer.pc.remoteDescription) await viewer.pc.addIceCandidate(init);
        else viewer.early.push(init);
      }
    } catch (error) {
      console.warn("a viewer's description or candidate is not usable:", error);
    }
  }

  remove(peer) {
    const viewer = this.#viewers.get(peer);
    if (!viewer) return;
    clearTimeout(viewer.timer);
    this.#viewers.delete(peer);
    viewer.pc.close();
    this.#onchange();
  }

  close() {
    this.#stream = null;
    for (const peer of [...this.#viewers.keys()]) this.remove(peer);
  }

  async #offer(peer, viewer) {
    try {
      await viewer.pc.setLocalDescription();
      this.#send({ type: "offer", to: peer, sdp: viewer.pc.localDescription.sdp });
    } catch (error) {
      // Closed in between, most likely.
      console.warn("a viewer could not be offered the stream:", error);
      if (this.#viewers.get(peer) === viewer) this.remove(peer);
    }
  }

  #changed(peer, viewer) {
    if (this.#viewers.get(peer) !== viewer) return;
    switch (viewer.pc.connectionState) {
      case "connected":
        clearTimeout(viewer.timer);
        break;
      case "failed":
        viewer.pc.restartIce();
        this.#offer(peer, viewer);
        // falls through
      case "disconnected":
        this.#giveUpAfter(peer, viewer, GONE_MS);
        break;
    }
    this.#onchange();
  }

  #giveUpAfter(peer, viewer, ms) {
    clearTimeout(viewer.timer);
    viewer.timer = setTimeout(() => this.#viewers.get(peer) === viewer && this.remove(peer), ms);
  }
}

function swap(sender, stream) {
  const track = sender.track && stream.getTracks().find((track) => track.kind === sender.track.kind);
  return track ? sender.replaceTrack(track) : undefined;
}
