// Everything the page says when something is wrong, and what to do about it. Nothing else is decided here.

/** An error with a stable code (shown to tests as data-error) and, if the server sent one, its own explanation. */
export class Problem extends Error {
  constructor(code, detail = "") {
    super(detail || code);
    this.code = code;
    this.detail = detail;
  }
}

const WORDS = {
  "insecure": () =>
    "Browsers give the camera only to pages that came over HTTPS or from this same machine. " +
    `Open http://localhost:${location.port}/ on the machine that runs the pipeline, or serve this page with a ` +
    "certificate (tls-certificate, tls-key; for webrtcingest uri=whips://…).",
  "permission": () =>
    "The browser was not allowed to use the camera and microphone. Allow both in the address bar's site settings, then press Start.",
  "no-camera": () => "No camera was found. Plug one in, then press Start.",
  "camera-busy": () => "The camera is there but another program is using it. Close that program, then press Start.",
  "camera-gone": () => "The camera was unplugged or switched off. Plug it in, then press Start.",
  "camera": (detail) => `The camera could not be opened: ${detail}`,
  "codec": (detail) => `This browser cannot send ${detail}. Choose another codec (?codec=h264, vp8, vp9 or av1).`,
  "no-endpoint": () => "The server has no endpoint to publish to; its pipeline may have just stopped. Reload the page.",
  "unknown-endpoint": (detail) => `The server has no endpoint ${detail}. Choose one of those it has.`,
  "server-gone": () => "The server cannot be reached. Is the pipeline still running? Start it again, then press Reconnect.",
  "unauthorized": () => "A token is needed here, and the one given (if any) is not the right one. Enter the one that the server has been given: " +
    "the pipeline's auth-token, or a bridge server's publish-token or view-token.",
  "not-found": () => "The endpoint is gone; its pipeline may have stopped. Reload the page.",
  "channel-gone": () => "This channel is not there (any more). Choose one that is live, or wait: when it comes, it plays by itself.",
  "bad-channel": (detail) => `"${detail}" is no channel's id. Ids have 1 to 64 letters, digits, _ and -.`,
  "ended": () => "The broadcast has ended. When it goes on, it plays here by itself.",
  "unsupported": () =>
    "The broadcaster cannot be reached directly, and this server does not pass media on. Trying again every few seconds.",
  "no-echo": () =>
    "The server takes your stream but sends nothing back: its session has to end in webrtcegress, as that of pipelines/run echo does.",
  "session-over": (detail) => `The server has ended the session (${detail}). Trying again every few seconds.`,
  "rejected": (detail) => `The server did not take that: ${detail}.`,
  "server-full": (detail) => `There is no room on the server: ${detail}. Trying again every few seconds.`,
  "too-often": () => "Too many messages in a short time. Wait a moment.",
  "picture-gone": () => "The camera was unplugged, or sharing the screen was ended. Choose another picture to go on.",
  "retrying": () =>
    "The server does not get your stream at the moment. It is tried again every few seconds; who watches directly sees you all the same.",
  "no-picture": () => "Choose a picture or a microphone: there is nothing to send.",
  "no-webrtc": () => "This browser has no WebRTC, or it is switched off.",
  "conflict": () => "Someone else is publishing here already. Wait until they have stopped, then press Reconnect.",
  "unavailable": (detail) => `The server cannot take this stream now (${detail || "busy"}). Try again in a few seconds.`,
  "refused": (detail) => `The server refused the stream: ${detail}`,
  "server-error": (detail) => `The server failed: ${detail}`,
  "connection-failed": () =>
    "The server answered, but no media connection came about. A firewall may block UDP between this device and the server.",
  "disconnected": () => "The connection to the server was lost. Press Reconnect to publish again.",
  "webrtc": (detail) => `The browser could not set up the stream: ${detail}`,
};

/** What to tell the user about an error of any kind. */
export function inWords(error) {
  const say = WORDS[error.code];
  return say ? say(error.detail) : `Something went wrong: ${error.message}`;
}

/** 75 → "1:15", 3675 → "1:01:15". */
export function duration(seconds) {
  const two = (n) => String(n).padStart(2, "0");
  const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, Math.floor(seconds) % 60];
  return h > 0 ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

/** 2150000 → "2.2 Mbit/s". */
export function bitrate(bitsPerSecond) {
  return bitsPerSecond < 1e6 ? `${Math.round(bitsPerSecond / 1e3)} kbit/s` : `${(bitsPerSecond / 1e6).toFixed(1)} Mbit/s`;
}
