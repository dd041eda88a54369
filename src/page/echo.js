// The echo view: what is sent shows on the left, what the server's pipeline sends back on the right, over one connection;
// and messages whose way there and back is timed.
//
// document.body.dataset.data is open while messages can be sent.

import { Loop } from "./loop.js";
import { received } from "./numbers.js";
import { OwnChannel } from "./ownchannel.js";
import { Pings } from "./pings.js";
import { Studio, kinds } from "./studio.js";
import { $, askForToken, rowsOf, say, show, showAbout, showClock, showNumbers, showWhatIsMissing } from "./view.js";
import { Problem } from "./words.js";

const RETRY_MS = 3_000;
const PING_MS = 250;
const MOST_LINES = 100;
/** What does not get better by waiting. */
const FINAL = ["unauthorized", "conflict", "codec", "rejected", "unsupported", "no-echo", "webrtc"];

export class Echo {
  #socket;
  #address;
  #channel;
  #studio = new Studio({ onchange: (stream, before) => this.#changeTo(stream, before) });
  #loop = null;
  #pings = new Pings();
  #numbers = null;
  #liveSince = 0;
  #clock = null;
  #pinging = null;
  #retry = null;
  /** Counts beginnings, so that what belongs to an earlier one is not taken for news. */
  #turn = 0;

  constructor({ socket, address, token }) {
    [this.#socket, this.#address, this.#channel] = [socket, address, new OwnChannel(socket, token)];
    $("to-echo").hidden = $("echo-screen").hidden = $("data-card").hidden = false;
    $("chat-card").hidden = true;
    $("start").textContent = "Start the echo";
    $("stop").textContent = "Stop the echo";
    $("echo-hint").textContent = "What the server makes of it shows here.";
    showAbout({ fallback: "Echo" });
    this.#listen();
    this.#showBusy(false);
    show("idle", "Ready.");
    showWhatIsMissing();
  }

  get isBusy() {
    return ["connecting", "live"].includes(document.body.dataset.state);
  }

  useToken(token) {
    this.#channel.useToken(token);
  }

  async start() {
    const mine = ++this.#turn;
    this.#showBusy(true);
    try {
      show("connecting", "Asking for camera and microphone…");
      if (await this.#studio.open()) await this.#connect();
    } catch (error) {
      if (mine === this.#turn) this.#fail(error);
    }
  }

  stop() {
    this.#end();
    show("ended", "Stopped.");
  }

  async #changeTo(stream, before) {
    if (kinds(stream) === kinds(before)) await this.#loop?.replace(stream);
    else if (this.#loop) this.#again();
  }

  async #connect() {
    const mine = ++this.#turn;
    const isCurrent = () => mine === this.#turn;
    try {
      show("connecting", "Connecting…");
      await this.#socket.opened();
      // The server takes media of publishers; nothing of this is for viewers to be served from here.
      const { iceServers } = await this.#channel.enter({ named: this.#address.channel, title: "Echo", p2p: false });
      if (!isCurrent()) return;
      this.#loop = new Loop({
        iceServers,
        send: (message) => this.#socket.send(message),
        onchange: (what) => isCurrent() && this.#changed(what),
        onstream: (stream) => isCurrent() && this.#play(stream),
        ondata: (event) => isCurrent() && this.#heard(event),
      });
      await this.#loop.start((message) => this.#socket.ask(message), this.#studio.stream, this.#address.codec);
    } catch (error) {
      if (isCurrent()) this.#interrupted(error);
    }
  }

  #changed(what) {
    if (what instanceof Problem) return this.#interrupted(what);
    clearInterval(this.#clock);
    if (what === "interrupted") return show("connecting", "Interrupted; waiting for the connection to come back…");
    this.#liveSince ||= performance.now();
    const tick = () => {
      show("live", "The echo runs");
      showClock(this.#liveSince);
      this.#measure().catch((error) => console.warn("statistics:", error));
    };
    this.#clock = setInterval(tick, 1000);
    tick();
  }

  /** Begins again, and again, unless that would be in vain. */
  #interrupted(error) {
    if (FINAL.includes(error.code)) return this.#fail(error);
    console.warn("no echo:", error);
    this.#disconnect();
    show("connecting", "Trying again…", error);
    const mine = this.#turn;
    this.#retry = setTimeout(() => mine === this.#turn && this.#connect(), RETRY_MS);
  }

  #again() {
    this.#disconnect();
    this.#connect();
  }

  #disconnect() {
    this.#turn += 1;
    clearInterval(this.#clock);
    clearTimeout(this.#retry);
    this.#loop?.close();
    [this.#loop, this.#numbers, this.#liveSince] = [null, null, 0];
    this.#play(null);
    this.#heard({ type: "close" });
  }

  #fail(error) {
    this.#end();
    if (error.code === "unauthorized") askForToken();
    show("failed", "Failed.", error);
  }

  #end() {
    this.#disconnect();
    this.#channel.leave();
    this.#studio.close();
    $("details").hidden = true;
    this.#showBusy(false);
  }

  #play(stream) {
    const player = $("echo");
    $("hear-echo").hidden = !stream?.getAudioTracks().length;
    if (player.srcObject === stream) return; // another track of it
    player.srcObject = stream;
    player.hidden = !stream;
    // It would come out of the loudspeakers and into the microphone again: somebody with headphones has to want it.
    player.muted = true;
    say($("hear-echo"), "Hear the echo");
    $("echo-hint").textContent = stream ? "" : "What the server makes of it shows here.";
    if (stream) player.play().catch((error) => console.warn("the browser does not play:", error));
  }

  async #measure() {
    const loop = this.#loop;
    const report = await loop?.report();
    if (!report || loop !== this.#loop) return;
    this.#numbers = received(report, this.#numbers, performance.now());
    showNumbers(rowsOf(this.#numbers));
  }

  // --- data ---

  #heard({ type, data }) {
    if (type === "message") {
      if (this.#pings.hear(data, performance.now())) return this.#showPings();
      return this.#line(typeof data === "string" ? data : `${data.byteLength} bytes`, "back");
    }
    const isOpen = type === "open";
    document.body.dataset.data = isOpen ? "open" : "closed";
    $("data-text").disabled = $("data-send").disabled = !isOpen;
    clearInterval(this.#pinging);
    if (!isOpen) return;
    this.#pings = new Pings();
    this.#pinging = setInterval(() => this.#loop?.say(this.#pings.next(performance.now())), PING_MS);
  }

  #showPings() {
    const { median, returned, lost } = this.#pings.summary();
    $("round-trip").textContent = `${median.toFixed(1)} ms`;
    $("returned").textContent = String(returned);
    $("lost").textContent = String(lost);
  }

  #line(text, way) {
    const [item, label] = [document.createElement("li"), document.createElement("span")];
    label.textContent = way === "back" ? "came back" : "sent";
    label.className = "tag";
    item.append(label, " ", text);
    const log = $("data-log");
    log.append(item);
    while (log.childElementCount > MOST_LINES) log.firstElementChild.remove();
    log.scrollTop = log.scrollHeight;
  }

  // --- wiring ---

  #listen() {
    this.#socket.addEventListener("candidate", ({ data }) => this.#loop?.candidate(data));
    this.#socket.addEventListener("closed", ({ data }) => {
      if (data.id === undefined && this.#loop) this.#interrupted(new Problem("session-over", data.reason));
    });
    // The session ends with the connection to the server; a new one may be there before the end of the old one is noticed.
    this.#socket.addEventListener("lost", () => this.#loop && this.#interrupted(new Problem("server-gone")));
    this.#socket.addEventListener("open", () => this.#loop && this.#again());
    $("controls").addEventListener("submit", (event) => {
      event.preventDefault();
      if (!this.isBusy) this.start();
    });
    $("stop").addEventListener("click", () => this.stop());
    $("hear-echo").addEventListener("click", () => {
      $("echo").muted = !$("echo").muted;
      say($("hear-echo"), $("echo").muted ? "Hear the echo" : "Mute the echo");
    });
    $("data-form").addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.#loop?.say($("data-text").value)) this.#line($("data-text").value, "there");
      $("data-text").value = "";
    });
    addEventListener("pagehide", () => this.isBusy && this.stop());
  }

  #showBusy(is) {
    $("start").hidden = is;
    $("stop").hidden = $("sender-bar").hidden = !is;
  }
}
