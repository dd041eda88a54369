// Plays back what the RTMP side received: HTTP-FLV from a loopback host, through mpegts.js.

const RETRY_MS = 1_000;
// A live stream that shows nothing new for so long has stopped, even when its connection has not.
const STALL_MS = 6_000;

const SOURCE = { type: "flv", isLive: true, cors: true };
const LOW_LATENCY = {
  enableStashBuffer: false,
  liveBufferLatencyChasing: true,
  liveBufferLatencyMaxLatency: 1.5,
  liveBufferLatencyMinRemain: 0.3,
  // Between jumps: play a little faster until half a second is left.
  liveSync: true,
  liveSyncMaxLatency: 0.8,
  liveSyncTargetLatency: 0.5,
  liveSyncPlaybackRate: 1.1,
  autoCleanupSourceBuffer: true,
};

/** The URL, if it is one that this page may play; else why not. */
export function checkPlayback(text) {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (!url || !["http:", "https:"].includes(url.protocol)) return { why: `"${text}" is not an http URL.` };
  if (!["127.0.0.1", "localhost"].includes(url.hostname)) {
    return { why: `Playback is only taken from this machine (127.0.0.1 or localhost), not from ${url.hostname}.` };
  }
  return { url: url.href };
}

/** Plays a URL in a video element, and tries again for as long as it is wanted. */
export class Playback {
  #video;
  #url;
  #source;
  #say;
  #player = null;
  #wanted = false;
  #timer = null;
  #progress = 0;

  /** `say` hears what to show over the picture: "" for nothing. */
  constructor(video, url, say) {
    this.#video = video;
    this.#url = url;
    this.#say = say;
    video.addEventListener("timeupdate", () => {
      this.#progress = performance.now();
      if (this.#player) this.#say("");
    });
  }

  /** Plays; `{channel}` in the URL is the channel's name. */
  async start(channel) {
    if (this.#wanted) return;
    this.#source = this.#url.replace("%7Bchannel%7D", encodeURIComponent(channel));
    this.#wanted = true;
    this.#say("Waiting for the stream…");
    const mpegts = await library();
    if (!this.#wanted) return;
    if (!mpegts?.isSupported()) {
      this.#say("This browser cannot play live FLV. Open the playback URL in another player.");
      return;
    }
    this.#open(mpegts);
  }

  stop() {
    this.#wanted = false;
    this.#close();
    this.#say("The stream has stopped.");
  }

  #open(mpegts) {
    const player = mpegts.createPlayer({ ...SOURCE, url: this.#source }, LOW_LATENCY);
    const again = () => {
      if (this.#player !== player) return;
      this.#close();
      this.#say("Waiting for the stream…");
      this.#timer = setTimeout(() => this.#open(mpegts), RETRY_MS);
    };
    this.#player = player;
    this.#progress = performance.now();
    player.on(mpegts.Events.ERROR, again);
    player.on(mpegts.Events.LOADING_COMPLETE, again);
    player.attachMediaElement(this.#video);
    player.load();
    Promise.resolve(player.play()).catch(() => {});
    const watch = () => {
      if (this.#player !== player) return;
      const stalled = !this.#video.paused && performance.now() - this.#progress > STALL_MS;
      if (stalled) again();
      else this.#timer = setTimeout(watch, RETRY_MS);
    };
    this.#timer = setTimeout(watch, RETRY_MS);
  }

  #close() {
    clearTimeout(this.#timer);
    const player = this.#player;
    this.#player = null;
    player?.destroy();
  }
}

/** Loaded on first use: it is most of the page's weight, and only playback needs it. */
function library() {
  return new Promise((resolve) => {
    if (globalThis.mpegts) return resolve(globalThis.mpegts);
    const script = document.createElement("script");
    script.src = new URL("./mpegts.js", import.meta.url).href;
    script.addEventListener("load", () => {
      globalThis.mpegts.LoggingControl.applyConfig({ enableVerbose: false, enableDebug: false, enableInfo: false });
      resolve(globalThis.mpegts);
    });
    script.addEventListener("error", () => resolve(null));
    document.head.append(script);
  });
}
