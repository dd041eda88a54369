// What the page's address says, and the address that is handed to viewers.

/** Ids of channels, as the server takes them. */
const CHANNEL = /^[A-Za-z0-9_-]{1,64}$/;

/** Mode, channel and the rest of what stands behind "?". */
export function readAddress(search) {
  const query = new URLSearchParams(search);
  const channel = query.get("channel");
  return {
    mode: modeOf(query),
    channel: channel !== null && CHANNEL.test(channel) ? channel : null,
    badChannel: channel !== null && !CHANNEL.test(channel) ? channel : null,
    codec: query.get("codec")?.toLowerCase() ?? null,
    playback: query.get("playback"),
  };
}

function modeOf(query) {
  const named = ["broadcaster", "viewer", "echo"].find((mode) => on(query, mode));
  return named ?? (query.has("playback") ? "broadcaster" : "viewer");
}

function on(query, name) {
  return query.has(name) && !["false", "0", "no"].includes(query.get(name));
}

/** Where somebody watches the channel. */
export function linkFor(channel, here) {
  const url = new URL(here);
  url.search = new URLSearchParams({ viewer: "true", channel }).toString();
  url.hash = "";
  return url.href;
}

/** The address of the server's WebSocket, beside the page. */
export function socketAddress(here, token) {
  const url = new URL("ws", here);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  url.search = token ? new URLSearchParams({ token }).toString() : "";
  url.hash = "";
  return url.href;
}
