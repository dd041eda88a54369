// The broadcaster's half of the page: makes a channel, publishes to the server by WHIP, and serves viewers directly as far
// as the server wants that.

import { linkFor } from "./address.js";
import { Hosting } from "./hosting.js";
import { sent } from "./numbers.js";
import { OwnChannel } from "./ownchannel.js";
import { Playback, checkPlayback } from "./player.js";
import { Studio, kinds } from "./studio.js";
import { $, askForToken, rowsOf, show, showAbout, showClock, showNumbers, showViewers, showWhatIsMissing } from "./view.js";
import { Publication } from "./whip.js";
import { Problem } from "./words.js";

const RETRY_MS = 3_000;
/** What does not get better by waiting. */
const FINAL = ["unauthorized", "conflict", "codec", "refused", "rejected", "not-found"];
/** What a server says that was started anew and knows our channel no more. */
const FORGOTTEN = ["unauthorized", "not-found", "channel-gone"];

export class Broadcaster {
  #socket;
  #chat;
  #address;
  #channel;
  #studio = new Studio({ onchange: (stream, before) => this.#changeTo(stream, before) });
  #hosting;
  #publication = null;
  /** The key that it was begun with. */
  #publishesWith = null;
  /** How many watch, as far as the server has told. */
  #viewers = 0;
  /** Viewers are served from here. */
  #isDirect = false;
  #playback = null;
  #numbers = null;
  #clock = null;
  #retry = null;
  #liveSince = 0;
  /** Counts starts and stops, so that what was begun before the last one knows that it is not wanted any more. */
  #turn = 0;

  constructor({ socket, chat, address, token }) {
    [this.#socket, this.#chat, this.#address] = [socket, chat, address];
    this.#channel = new OwnChannel(socket, token);
    this.#hosting = new Hosting({ send: (message) => socket.send(message), onchange: () => this.#showPeers() });
    $("channel").value = address.channel ?? "";
    showAbout({ fallback: "Your broadcast" });
    this.#preparePlayback();
    this.#listen();
    this.#showBusy(false);
    show("idle", "Ready.");
    showWhatIsMissing();
  }

  get isBusy() {
    return ["connecting", "live"].includes(document.body.dataset.state);
  }

  get #isWatched() {
    return this.#hosting.connections.some((pc) => pc.connectionState === "connected");
  }

  useToken(token) {
    this.#channel.useToken(token);
  }

  async start() {
    const mine = ++this.#turn;
    this.#showBusy(true);
    try {
      show("connecting", "Asking for camera and microphone…");
      if (!(await this.#studio.open())) return;
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

  async #changeTo(stream, before) {
    const direct = this.#isDirect ? this.#hosting.serve(stream) : undefined;
    if (kinds(stream) === kinds(before) && this.#publication?.fits(stream)) await this.#publication.replace(stream);
    else if (this.#publication) this.#publish(this.#turn);
    await direct;
  }

  /** Makes the channel, if it is not there yet, and enters it as its publisher. */
  async #enter() {
    const named = $("channel").value.trim();
    const title = $("title").value.trim() || undefined;
    const category = $("category-field").value.trim() || undefined;
    const { mode, iceServers } = await this.#channel.enter({ named, title, category });
    if (!named) showAbout({ title, category, fallback: "Your broadcast" });
    else showAbout({ fallback: named });
    this.#showLink();
    this.#isDirect = mode === "p2p";
    await this.#hosting.serve(this.#isDirect ? this.#studio.stream : null, iceServers);
    this.#chat.enter();
  }

  async #publish(mine) {
    if (mine !== this.#turn) return;
    this.#publication?.stop();
    const key = (this.#publishesWith = this.#channel.key);
    const publication = new Publication({
      token: key,
      onchange: (what) => mine === this.#turn && this.#publication === publication && this.#changed(mine, what),
    });
    this.#publication = publication;
    try {
      await publication.start({ url: `whip/${this.#channel.id}`, stream: this.#studio.stream, codec: this.#address.codec, layers: true });
      await this.#serveServed();
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

  /** Who does not watch directly gets the size that fits from the server. */
  #serveServed() {
    return this.#publication?.sendLayers(this.#viewers > this.#hosting.count);
  }

  /** The server is tried again and again; viewers who are served from here do not notice. */
  #interrupted(mine, error) {
    if (FORGOTTEN.includes(error.code)) {
      if (this.#channel.renew()) return this.#again();
      // It was of the channel before that.
      if (this.#publishesWith !== this.#channel.key) return this.#publish(mine);
    }
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
    const [direct, served] = [this.#hosting.connections, this.#isDirect];
    if (turn !== this.#turn) return;
    this.#numbers = report ? sent(report, this.#numbers, performance.now()) : null;
    showNumbers([
      ["To the server", report ? "" : "not connected"],
      ...(this.#numbers ? rowsOf(this.#numbers) : []),
      ["Direct viewers", served ? String(direct.length) : "none: all by the server"],
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
    this.#studio.close();
    this.#channel.leave();
    this.#chat.leave();
    [this.#publication, this.#isDirect, this.#viewers, this.#numbers, this.#liveSince] = [null, false, 0, null, 0];
    $("details").hidden = $("share").hidden = true;
    showViewers(null);
    this.#showBusy(false);
  }

  /** The WebSocket is there again: what the server has forgotten is told anew. */
  async #again() {
    if (!this.#channel.id || !this.#studio.stream) return;
    const mine = this.#turn;
    try {
      await this.#enter();
    } catch (error) {
      if (mine !== this.#turn || error.code === "server-gone") return;
      // The channel has expired, or the server was started anew: the same name, so that links and viewers find it.
      return FORGOTTEN.includes(error.code) && this.#channel.renew() ? this.#again() : this.#fail(error);
    }
    const isNew = !this.#publication || this.#publishesWith !== this.#channel.key;
    if (mine === this.#turn && isNew) this.#publish(mine);
  }

  #listen() {
    const hear = (event) => this.#hosting.hear(event.data);
    this.#socket.addEventListener("open", () => this.#again());
    this.#socket.addEventListener("peer-joined", ({ data }) => this.#hosting.add(data.peer));
    this.#socket.addEventListener("peer-left", ({ data }) => this.#hosting.remove(data.peer));
    for (const type of ["answer", "candidate"]) this.#socket.addEventListener(type, hear);
    this.#socket.addEventListener("viewers", ({ data: { count } }) => {
      this.#viewers = count;
      if (this.#channel.id) showViewers(count);
      this.#serveServed();
    });
    this.#socket.addEventListener("closed", ({ data }) => {
      if (this.#channel.id && data.id === undefined && data.reason === "stopped") this.#fail(new Problem("channel-gone"));
    });
    $("controls").addEventListener("submit", (event) => {
      event.preventDefault();
      if (!this.isBusy) this.start();
    });
    $("stop").addEventListener("click", () => this.stop());
    $("copy").addEventListener("click", () => copy());
    $("to-viewer").addEventListener("click", (event) => {
      if (this.isBusy && !confirm("This ends your broadcast. Go on?")) event.preventDefault();
    });
    addEventListener("pagehide", () => this.isBusy && this.stop());
  }

  #showBusy(is) {
    $("start").hidden = $("channel-row").hidden = is;
    $("sender-bar").hidden = !is;
    $("stop").hidden = !is;
    for (const id of ["title", "category-field", "channel"]) $(id).disabled = is;
  }

  #showPeers() {
    document.body.dataset.peers = String(this.#hosting.count);
    this.#serveServed();
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

async function copy() {
  $("link").select();
  // Pages without HTTPS have no clipboard; what is selected can be copied by hand.
  const done = await navigator.clipboard?.writeText($("link").value).then(() => true, () => false);
  $("copy").textContent = done ? "Copied" : "Press Ctrl+C";
}
