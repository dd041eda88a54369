// The broadcaster's half of the page: makes a channel, publishes to the server by WHIP, and serves viewers directly as far
// as the server wants that.

import { linkFor } from "./address.js";
import { Hosting, kinds } from "./hosting.js";
import { sent } from "./numbers.js";
import { Playback, checkPlayback } from "./player.js";
import { Sources, closeSources } from "./sources.js";
import { $, askForToken, rowsOf, show, showAbout, showClock, showNumbers, showViewers } from "./view.js";
import { Publication } from "./whip.js";
import { Problem } from "./words.js";

const RETRY_MS = 3_000;
/** What does not get better by waiting. */
const FINAL = ["unauthorized", "conflict", "codec", "refused", "rejected", "not-found"];

export class Broadcaster {
  #socket;
  #chat;
  #address;
  #token;
  #sources = new Sources($("picture"), $("microphone"));
  #hosting;
  #stream = null;
  #publication = null;
  /** Channel, key, and whether viewers are served from here. */
  #channel = null;
  #playback = null;
  #numbers = null;
  #clock = null;
  #retry = null;
  #liveSince = 0;
  /** Counts starts and stops, so that what was begun before the last one knows that it is not wanted any more. */
  #turn = 0;

  constructor({ socket, chat, address, token }) {
    [this.#socket, this.#chat, this.#address, this.#token] = [socket, chat, address, token];
    this.#hosting = new Hosting({ send: (message) => socket.send(message), onchange: () => this.#showPeers() });
    $("channel").value = address.channel ?? "";
    $("controls").hidden = false;
    $("preview").hidden = false;
    $("hint").textContent = "Your picture shows here.";
    showAbout({ fallback: "Your broadcast" });
    this.#preparePlayback();
    this.#listen();
    this.#sources.list();
    this.#showBusy(false);
    show("idle", "Ready.");
    if (!navigator.mediaDevices?.getUserMedia) show("failed", "No camera here.", new Problem("insecure"));
    else if (!("RTCPeerConnection" in window)) show("failed", "This browser cannot broadcast.", new Problem("no-webrtc"));
  }

  get isBusy() {
    return ["connecting", "live"].includes(document.body.dataset.state);
  }

  get #isWatched() {
    return this.#hosting.connections.some((pc) => pc.connectionState === "connected");
  }

  useToken(token) {
    this.#token = token;
    this.#socket.useToken(token, { reconnect: true });
  }

  async start() {
    const mine = ++this.#turn;
    this.#showBusy(true);
    try {
      show("connecting", "Asking for camera and microphone…");
      const stream = await this.#sources.open();
      if (mine !== this.#turn) return closeSources(stream);
      this.#use(stream);
      show("connecting", "Connecting…");
      await this.#socket.opened();
      await this.#enter();
      if (mine !== this.#turn) return;
      this.#publish(mine);
    } catch (error) {
      if (mine === this.#turn) this.#fail(error);
    }
  }

  /** Ends the broadcast for everybody. */
  stop() {
    this.#end();
    show("ended", "Stopped.");
  }

  /** Another picture or microphone, also while live. */
  async change() {
    if (!this.#stream) return;
    const mine = this.#turn;
    try {
      const stream = await this.#sources.open();
      if (mine !== this.#turn) return closeSources(stream);
      const before = this.#stream;
      this.#use(stream);
      const direct = this.#channel?.isDirect ? this.#hosting.serve(stream) : undefined;
      if (kinds(stream) === kinds(before)) await this.#publication?.replace(stream);
      else if (this.#publication) this.#publish(mine);
      await direct;
      closeSources(before);
    } catch (error) {
      show(document.body.dataset.state, $("status").textContent, error);
    }
  }

  #use(stream) {
    this.#stream = stream;
    $("preview").srcObject = stream;
    $("hint").textContent = stream.getVideoTracks().length > 0 ? "" : "Sound only";
    for (const track of stream.getTracks()) {
      track.enabled = !isPressed(track.kind === "video" ? "hide-picture" : "mute-microphone");
    }
    const [picture] = stream.getVideoTracks();
    picture?.addEventListener("ended", () => {
      if (this.#stream === stream) show(document.body.dataset.state, $("status").textContent, new Problem("picture-gone"));
    });
  }

  /** Makes the channel, if it is not there yet, and enters it as its publisher. */
  async #enter() {
    if (!this.#channel) {
      const named = $("channel").value.trim();
      const title = $("title").value.trim() || undefined;
      const category = $("category-field").value.trim() || undefined;
      const made = named ? { channel: named } : await this.#socket.ask({ type: "create", title, category });
      this.#channel = { id: made.channel, key: made.key ?? this.#token, isOwn: !named };
      showAbout({ title, category, fallback: named || "Your broadcast" });
      this.#showLink();
    }
    // Should the connection be lost, the next one knows us by the key.
    this.#socket.useToken(this.#channel.key, { reconnect: false });
    const { mode, iceServers } = await this.#socket.ask({ type: "join", channel: this.#channel.id, role: "publisher" });
    this.#channel.isDirect = mode === "p2p";
    await this.#hosting.serve(this.#channel.isDirect ? this.#stream : null, iceServers);
    this.#chat.enter();
  }

  async #publish(mine) {
    if (mine !== this.#turn) return;
    this.#publication?.stop();
    const publication = new Publication({
      token: this.#channel.key,
      onchange: (what) => mine === this.#turn && this.#publication === publication && this.#changed(mine, what),
    });
    this.#publication = publication;
    try {
      await publication.start({ url: `whip/${this.#channel.id}`, stream: this.#stream, codec: this.#address.codec });
    } catch (error) {
      if (mine === this.#turn) this.#interrupted(mine, error);
    }
  }

  #changed(mine, what) {
    if (what instanceof Problem) return this.#interrupted(mine, what);
    if (what === "interrupted") return this.#showLive("The connection to the server is interrupted…");
    this.#showLive();
    this.#playback?.start(this.#channel.id);
  }

  /** The server is tried again and again; viewers who are served from here do not notice. */
  #interrupted(mine, error) {
    if (FINAL.includes(error.code)) return this.#fail(error);
    this.#publication = null;
    console.warn("not publishing:", error);
    this.#showLive("Not connected to the server", new Problem("retrying"));
    clearTimeout(this.#retry);
    this.#retry = setTimeout(() => this.#publish(mine), RETRY_MS);
  }

  #showLive(trouble = "", error = null) {
    if (trouble && !this.#isWatched) return show("connecting", trouble, error);
    this.#liveSince ||= performance.now();
    clearInterval(this.#clock);
    const tick = () => {
      show("live", ["Live", trouble].filter(Boolean).join(" · "), error);
      showClock(this.#liveSince);
      this.#measure().catch((error) => console.warn("statistics:", error));
    };
    this.#clock = setInterval(tick, 1000);
    tick();
  }

  async #measure() {
    const turn = this.#turn;
    const report = await this.#publication?.report();
    const [direct, served] = [this.#hosting.connections, this.#channel?.isDirect];
    if (turn !== this.#turn) return;
    this.#numbers = report ? sent(report, this.#numbers, performance.now()) : null;
    showNumbers([
      ["To the server", report ? "" : "not connected"],
      ...(this.#numbers ? rowsOf(this.#numbers) : []),
      ["Viewers served from here", served ? String(direct.length) : "none: all by the server"],
    ]);
  }

  #fail(error) {
    this.#end();
    if (error.code === "unauthorized") askForToken();
    show("failed", "Failed.", error);
  }

  #end() {
    this.#turn += 1;
    clearInterval(this.#clock);
    clearTimeout(this.#retry);
    this.#publication?.stop();
    this.#hosting.close();
    this.#playback?.stop();
    closeSources(this.#stream);
    if (this.#channel) {
      const { id, isOwn } = this.#channel;
      this.#socket.send(isOwn ? { type: "stop", channel: id } : { type: "leave" });
      this.#socket.useToken(this.#token, { reconnect: true });
      this.#chat.leave();
    }
    [this.#publication, this.#channel, this.#stream, this.#numbers, this.#liveSince] = [null, null, null, null, 0];
    $("preview").srcObject = null;
    $("hint").textContent = "The camera is off.";
    $("details").hidden = $("share").hidden = true;
    showViewers(null);
    this.#showBusy(false);
  }

  /** The WebSocket is there again: what the server has forgotten is told anew. */
  async #again() {
    if (!this.#channel || !this.#stream) return;
    const mine = this.#turn;
    try {
      await this.#enter();
    } catch (error) {
      if (mine !== this.#turn || error.code === "server-gone") return;
      // The channel has expired or the server was started anew; viewers will find another one.
      this.#fail(error);
    }
  }

  #listen() {
    const hear = (event) => this.#hosting.hear(event.data);
    this.#socket.addEventListener("open", () => this.#again());
    this.#socket.addEventListener("peer-joined", ({ data }) => this.#hosting.add(data.peer));
    this.#socket.addEventListener("peer-left", ({ data }) => this.#hosting.remove(data.peer));
    for (const type of ["answer", "candidate"]) this.#socket.addEventListener(type, hear);
    this.#socket.addEventListener("viewers", ({ data }) => this.#channel && showViewers(data.count));
    this.#socket.addEventListener("closed", ({ data }) => {
      if (this.#channel && data.id === undefined && data.reason === "stopped") this.#fail(new Problem("channel-gone"));
    });
    $("controls").addEventListener("submit", (event) => {
      event.preventDefault();
      if (!this.isBusy) this.start();
    });
    $("stop").addEventListener("click", () => this.stop());
    for (const select of [$("picture"), $("microphone")]) select.addEventListener("change", () => this.change());
    this.#toggle("mute-microphone", "audio");
    this.#toggle("hide-picture", "video");
    $("copy").addEventListener("click", () => copy());
    $("to-viewer").addEventListener("click", (event) => {
      if (this.isBusy && !confirm("This ends your broadcast. Go on?")) event.preventDefault();
    });
    addEventListener("pagehide", () => this.isBusy && this.stop());
  }

  #toggle(id, kind) {
    $(id).addEventListener("click", () => {
      $(id).setAttribute("aria-pressed", String(!isPressed(id)));
      for (const track of this.#stream?.getTracks() ?? []) if (track.kind === kind) track.enabled = !isPressed(id);
    });
  }

  #showBusy(is) {
    $("start").hidden = is;
    $("sender-bar").hidden = !is;
    $("stop").hidden = !is;
    for (const id of ["title", "category-field", "channel"]) $(id).disabled = is;
  }

  #showPeers() {
    document.body.dataset.peers = String(this.#hosting.count);
    // Who is watched is live, also while the server is not reached.
    if (document.body.dataset.state === "connecting" && this.#isWatched) this.#showLive("Not connected to the server");
  }

  #showLink() {
    $("share").hidden = false;
    $("link").value = linkFor(this.#channel.id, location.href);
    $("channel-id").textContent = this.#channel.id;
    $("copy").textContent = "Copy";
  }

  #preparePlayback() {
    if (this.#address.playback === null) return;
    const { url, why } = checkPlayback(this.#address.playback);
    const sayOver = (text) => ($("playback-hint").textContent = text);
    $("playback-pane").hidden = false;
    sayOver(why ?? "The stream will show here.");
    $("playback").hidden = !url;
    if (url) this.#playback = new Playback($("playback"), url, sayOver);
  }
}

function isPressed(id) {
  return $(id).getAttribute("aria-pressed") === "true";
}

async function copy() {
  $("link").select();
  // Pages without HTTPS have no clipboard; what is selected can be copied by hand.
  const done = await navigator.clipboard?.writeText($("link").value).then(() => true, () => false);
  $("copy").textContent = done ? "Copied" : "Press Ctrl+C";
}
