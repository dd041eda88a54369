// The viewer's half of the page: what is live, and watching one of it, directly or through the server; by itself again
// after whatever has come in between.

import { received } from "./numbers.js";
import { Reception } from "./reception.js";
import { $, askForToken, rowsOf, say, show, showAbout, showClock, showNumbers, showViewers } from "./view.js";
import { Problem } from "./words.js";

/** A direct connection that has not come about by then will not: the server takes over. */
const DIRECT_MS = 5_000;
const RETRY_MS = 4_000;
/** A server that has no room is not asked more often than this by anybody. */
const MOST_RETRY_MS = 60_000;
/** A connection that was there often comes back by itself. */
const PATIENCE_MS = 6_000;

const WAYS = { p2p: "directly from the broadcaster", forward: "through the server" };

export class Viewer {
  #socket;
  #chat;
  #reception;
  #wanted = null;
  #mode = null;
  #channels = [];
  /** The list is asked for; what it tells is not yet acted on. */
  #isOpening = false;
  #timer = null;
  #retry = RETRY_MS;
  #clock = null;
  #numbers = null;
  #liveSince = 0;
  /** Counts beginnings, so that what belongs to an earlier one is not taken for news. */
  #turn = 0;

  constructor({ socket, chat, address }) {
    [this.#socket, this.#chat] = [socket, chat];
    this.#reception = new Reception({
      send: (message) => socket.send(message),
      onchange: (state) => this.#changed(state),
      onstream: (stream) => play(stream),
    });
    $("channels-card").hidden = $("player").hidden = false;
    $("hint").textContent = "Choose a broadcast.";
    $("watch-channel").value = address.channel ?? "";
    this.#listen();
    show("idle", "Choose a broadcast.");
    if (!("RTCPeerConnection" in window)) show("failed", "This browser cannot watch.", new Problem("no-webrtc"));
    else if (address.badChannel !== null) show("failed", "", new Problem("bad-channel", address.badChannel));
    else if (address.channel) this.watch(address.channel);
  }

  useToken(token) {
    this.#socket.useToken(token, { reconnect: true });
  }

  /** From now on, whenever it is live. */
  watch(channel) {
    if (channel === this.#wanted && document.body.dataset.state === "live") return;
    this.leave();
    this.#chat.clear();
    this.#wanted = channel;
    this.#retry = RETRY_MS;
    $("leave").hidden = false;
    const url = new URL(location.href);
    url.search = new URLSearchParams({ viewer: "true", channel }).toString();
    history.replaceState(null, "", url);
    this.#showChannels();
    this.#join();
  }

  leave() {
    if (!this.#wanted) return;
    this.#socket.send({ type: "leave" });
    this.#wanted = null;
    this.#end();
    $("leave").hidden = true;
    showAbout({ fallback: "Nothing is on" });
    show("idle", "Choose a broadcast.");
    this.#showChannels();
  }

  async #join() {
    const mine = ++this.#turn;
    clearTimeout(this.#timer);
    if (!this.#socket.isOpen) return show("connecting", "Connecting…");
    if (document.body.dataset.state !== "live") show("connecting", "Connecting…");
    try {
      const joined = await this.#socket.ask({ type: "join", channel: this.#wanted, role: "viewer" });
      if (mine !== this.#turn) return;
      this.#reception.useServers(joined.iceServers);
      this.#chat.enter();
      this.#take(joined.mode);
    } catch (error) {
      if (mine === this.#turn) this.#refused(error);
    }
  }

  #take(mode) {
    this.#mode = mode;
    document.body.dataset.way = mode;
    if (mode === "forward") return this.#forward();
    // The broadcaster's page offers by itself; if it does not, or in vain, the server has to.
    if (this.#isLive()) this.#timer = setTimeout(() => this.#forward(), DIRECT_MS);
    else show("connecting", "Waiting for the broadcaster…");
  }

  async #forward() {
    const mine = this.#turn;
    clearTimeout(this.#timer);
    this.#mode = document.body.dataset.way = "forward";
    try {
      await this.#reception.offer((message) => this.#socket.ask(message));
      if (mine === this.#turn) this.#retryAfter(DIRECT_MS);
    } catch (error) {
      if (mine === this.#turn) this.#refused(error);
    }
  }

  #refused(error) {
    switch (error.code) {
      case "unauthorized":
        askForToken();
        return show("failed", "A token is needed.", error);
      case "channel-gone":
        this.#socket.send({ type: "leave" });
        this.#end();
        // The list tells when it comes.
        return show("ended", "Waiting for the channel…", error);
      case "server-gone":
        return show("connecting", "The server cannot be reached; trying again…");
      default:
        show("connecting", "Trying again…", error);
        // Not all at once: who waits for a place is not alone.
        this.#retryAfter(this.#retry * (0.75 + Math.random() / 2));
        this.#retry = Math.min(this.#retry * 1.5, MOST_RETRY_MS);
    }
  }

  /** Begins from the beginning, unless it plays by then. */
  #retryAfter(ms) {
    clearTimeout(this.#timer);
    const mine = this.#turn;
    this.#timer = setTimeout(() => mine === this.#turn && !this.#reception.isConnected && this.#anew(), ms);
  }

  #anew() {
    this.#socket.send({ type: "leave" });
    this.#join();
  }

  #changed(state) {
    switch (state) {
      case "connected":
        clearTimeout(this.#timer);
        this.#retry = RETRY_MS;
        this.#liveSince ||= performance.now();
        clearInterval(this.#clock);
        this.#clock = setInterval(() => this.#tick(), 1000);
        this.#tick();
        break;
      case "disconnected":
        clearInterval(this.#clock);
        show("connecting", "Interrupted; waiting for the connection to come back…");
        this.#retryAfter(PATIENCE_MS);
        break;
      case "failed":
        clearInterval(this.#clock);
        show("connecting", "Interrupted; connecting again…");
        if (this.#socket.isOpen) this.#anew();
        break;
    }
  }

  /** The broadcast is over, for now. */
  #over(reason) {
    this.#end();
    // So that the list's next word is news, however soon the broadcast goes on.
    this.#channels = this.#channels.map((channel) => (channel.id === this.#wanted ? { ...channel, live: false } : channel));
    this.#showChannels();
    show("ended", reason === "shutdown" ? "The server is closing." : "The broadcast has ended.", new Problem("ended"));
  }

  #end() {
    this.#turn += 1;
    clearTimeout(this.#timer);
    clearInterval(this.#clock);
    [this.#mode, this.#numbers, this.#liveSince] = [null, null, 0];
    this.#reception.close();
    this.#chat.leave();
    delete document.body.dataset.way;
    $("details").hidden = $("quality-row").hidden = true;
    $("hint").textContent = this.#wanted ? "Waiting for the broadcast." : "Choose a broadcast.";
    showViewers(null);
  }

  #tick() {
    show("live", ["Watching", WAYS[this.#mode]].filter(Boolean).join(" "));
    showClock(this.#liveSince);
    this.#measure().catch((error) => console.warn("statistics:", error));
  }

  async #measure() {
    const connection = this.#reception.connection;
    const report = await connection?.getStats();
    if (!report || connection !== this.#reception.connection) return;
    this.#numbers = received(report, this.#numbers, performance.now());
    showNumbers(rowsOf(this.#numbers));
  }

  // --- what is live ---

  #isLive(channel = this.#wanted) {
    return this.#channels.some(({ id, live }) => id === channel && live);
  }

  #listed(channels) {
    const was = this.#isLive();
    this.#channels = channels;
    this.#showChannels();
    if (this.#isOpening || !this.#wanted || was || !this.#isLive()) return;
    // It has begun: whoever waits for it is there by itself.
    if (this.#mode === "p2p") this.#take("p2p");
    else if (!this.#mode) this.#join();
  }

  #showChannels() {
    const live = this.#channels.filter((channel) => channel.live);
    $("no-channels").hidden = live.length > 0;
    $("channels").replaceChildren(...live.map((channel) => this.#entry(channel)));
    const own = this.#channels.find(({ id }) => id === this.#wanted);
    if (this.#wanted) showAbout({ title: own?.title, category: own?.category, fallback: this.#wanted });
  }

  #entry({ id, title, category, viewers }) {
    const [item, button, name, about] = ["li", "button", "strong", "span"].map((name) => document.createElement(name));
    button.type = "button";
    button.dataset.channel = id;
    if (id === this.#wanted) button.setAttribute("aria-current", "true");
    name.textContent = title || id;
    about.textContent = [category, `${viewers} watching`].filter(Boolean).join(" · ");
    button.append(name, about);
    button.addEventListener("click", () => this.watch(id));
    item.append(button);
    return item;
  }

  // --- wiring ---

  #listen() {
    const on = (type, hear) => this.#socket.addEventListener(type, ({ data }) => hear(data));
    on("open", () => this.#opened());
    on("lost", () => {
      this.#chat.leave();
      if (this.#wanted && !this.#reception.isConnected) show("connecting", "The server cannot be reached; trying again…");
    });
    on("channels", ({ channels }) => this.#listed(channels));
    on("viewers", ({ count }) => this.#wanted && showViewers(count));
    on("offer", (offer) => {
      if (this.#mode !== "p2p") return;
      this.#reception.answer(offer).catch((error) => console.warn("the broadcaster's offer is not usable:", error));
    });
    on("candidate", (candidate) => this.#reception.candidate(candidate));
    on("layers", ({ layers }) => showLayers(layers));
    on("closed", ({ reason, id }) => {
      if (!this.#wanted || id !== undefined || reason === "left") return;
      // The session is over, not the broadcast: another codec, or a connection that was lost.
      if (reason === "changed" || reason === "lost") this.#anew();
      else this.#over(reason);
    });
    $("watch-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.watch($("watch-channel").value.trim());
    });
    $("leave").addEventListener("click", () => this.leave());
    $("quality").addEventListener("change", () => {
      this.#socket.send({ type: "layer", layer: $("quality").value || null });
    });
    wirePlayer();
  }

  async #opened() {
    this.#isOpening = true;
    try {
      await this.#socket.ask({ type: "list" });
    } catch (error) {
      if (error.code === "unauthorized") return this.#refused(error);
      console.warn("the list is not to be had:", error);
    } finally {
      this.#isOpening = false;
    }
    // What plays directly plays on while the server is told anew.
    if (this.#wanted) this.#join();
  }
}

// --- the player ---

function play(stream) {
  const player = $("player");
  player.srcObject = stream;
  $("player-bar").hidden = !stream;
  if (!stream) return;
  $("hint").textContent = "";
  player.play().catch(() => {
    // Browsers let a page begin to sound only after somebody has touched it.
    player.muted = true;
    $("unmute").hidden = false;
    player.play().catch((error) => console.warn("the browser does not play:", error));
  });
}

function wirePlayer() {
  const [player, mute] = [$("player"), $("mute")];
  const shown = () => {
    const is = player.muted || player.volume === 0;
    mute.setAttribute("aria-pressed", String(is));
    say(mute, is ? "Unmute" : "Mute");
    if (!is) $("unmute").hidden = true;
  };
  mute.addEventListener("click", () => {
    player.muted = !player.muted;
    if (!player.muted && player.volume === 0) player.volume = $("volume").value = 1;
  });
  $("unmute").addEventListener("click", () => (player.muted = false));
  $("volume").addEventListener("input", () => {
    player.volume = Number($("volume").value);
    player.muted = player.volume === 0;
  });
  player.addEventListener("volumechange", shown);
  $("fullscreen").addEventListener("click", () => {
    if (document.fullscreenElement) document.exitFullscreen();
    else if ($("screen").requestFullscreen) $("screen").requestFullscreen().catch((error) => console.warn("full screen:", error));
    else player.webkitEnterFullscreen?.(); // iPhones have it for videos only
  });
}

/** The layers that the server can send; which is best is its own choice unless one is chosen. */
function showLayers(layers) {
  const before = $("quality").value;
  const named = layers.map(({ id, height, bitrate }) => {
    const name = height ? `${height}p` : bitrate ? `${Math.round(bitrate / 1000)} kbit/s` : id;
    return new Option(name, id);
  });
  $("quality").replaceChildren(new Option("Automatic", ""), ...named);
  if (layers.some(({ id }) => id === before)) $("quality").value = before;
  $("quality-row").hidden = layers.length < 2;
}
