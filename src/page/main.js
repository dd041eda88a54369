// The page: one button, one state, and what to say about it.
//
// document.body.dataset.state is idle, connecting, live, ended or failed; dataset.error is the code of a Problem.

import { closeCamera, isOpen, openCamera } from "./camera.js";
import { Playback, checkPlayback } from "./player.js";
import { Publication } from "./whip.js";
import { Problem, bitrate, duration, inWords } from "./words.js";

const $ = (id) => document.getElementById(id);
const query = new URLSearchParams(location.search);

let stream = null;
let publication = null;
let playback = null;
let endpoints = [];
let liveSince = 0;
let clock = null;
/** Counts starts and stops, so that what was begun before the last one knows that it is not wanted any more. */
let turn = 0;

// --- what is shown ---

function show(state, words, error = null) {
  document.body.dataset.state = state;
  const busy = state === "connecting" || state === "live";
  $("status").textContent = words;
  $("start").hidden = busy;
  $("start").textContent = state === "failed" && isOpen(stream) ? "Reconnect" : "Start";
  $("stop").hidden = !busy;
  for (const field of [$("endpoint"), $("token")]) field.disabled = busy;
  if (error) document.body.dataset.error = error.code ?? "unknown";
  else delete document.body.dataset.error;
  $("error").hidden = !error;
  $("error").textContent = error ? inWords(error) : "";
}

function sayOverPlayback(text) {
  $("playback-hint").textContent = text;
}

async function showLive() {
  const { rate, codec, width, height, fps } = await publication.stats();
  if (document.body.dataset.state !== "live") return;
  const parts = [`Live ${duration((performance.now() - liveSince) / 1000)}`];
  if (width) parts.push(`${width}×${height}`);
  if (fps) parts.push(`${Math.round(fps)} fps`);
  if (codec) parts.push(codec);
  if (rate) parts.push(bitrate(rate));
  $("status").textContent = parts.join(" · ");
}

// --- publishing ---

async function start() {
  const mine = ++turn;
  try {
    const endpoint = endpoints.find((entry) => entry.path === $("endpoint").value) ?? (await learnEndpoints());
    if (!isOpen(stream)) {
      show("connecting", "Asking for the camera…");
      const opened = await openCamera();
      if (mine !== turn) return closeCamera(opened);
      useCamera(opened);
    }
    show("connecting", "Connecting…");
    publication = new Publication({ token: $("token").value.trim(), onchange: (what) => mine === turn && changed(what) });
    await publication.start({ url: endpoint.path, stream, codec: query.get("codec")?.toLowerCase() });
  } catch (error) {
    if (mine === turn) fail(error);
  }
}

function useCamera(opened) {
  stream = opened;
  stream.getVideoTracks()[0].addEventListener("ended", () => fail(new Problem("camera-gone")));
  $("preview").srcObject = stream;
  $("preview-hint").textContent = "";
}

function changed(what) {
  if (what instanceof Problem) return fail(what);
  if (what === "interrupted") return show("connecting", "Disconnected; waiting for the connection to come back…");
  liveSince ||= performance.now();
  show("live", "Live");
  clearInterval(clock);
  clock = setInterval(() => showLive().catch(() => {}), 1000);
  showLive().catch(() => {});
  playback?.start("");
}

function fail(error) {
  end();
  if (error.code === "unauthorized") askForToken();
  show("failed", error.code === "disconnected" ? "Disconnected." : "Failed.", error);
}

function stop() {
  end();
  closeCamera(stream);
  stream = null;
  $("preview").srcObject = null;
  $("preview-hint").textContent = "The camera is off.";
  show("ended", "Stopped.");
}

function end() {
  turn += 1;
  clearInterval(clock);
  liveSince = 0;
  publication?.stop();
  publication = null;
  playback?.stop();
}

function askForToken() {
  $("token-row").hidden = false;
  $("token").focus();
}

// --- where to ---

/** Reads the server's endpoints, fills the select, and returns the chosen one. */
async function learnEndpoints() {
  const response = await fetch("endpoints.json", { cache: "no-store" }).catch(() => {
    throw new Problem("server-gone");
  });
  if (!response.ok) throw new Problem("server-gone");
  ({ endpoints } = await response.json());
  if (endpoints.length === 0) throw new Problem("no-endpoint");

  $("endpoint").replaceChildren(...endpoints.map((entry) => new Option(decodeURI(entry.path), entry.path)));
  $("endpoint-row").hidden = endpoints.length < 2;
  const wanted = query.get("endpoint") ?? query.get("channel");
  const chosen = wanted === null ? endpoints[0] : endpoints.find((entry) => matches(entry.path, wanted));
  if (!chosen) {
    $("endpoint-row").hidden = false;
    throw new Problem("unknown-endpoint", wanted);
  }
  $("endpoint").value = chosen.path;
  showEndpoint();
  return chosen;
}

/** A path matches as a whole, or a channel by the last segment. */
function matches(path, wanted) {
  const decoded = decodeURI(path);
  return decoded === wanted || path === wanted || decoded.split("/").pop() === wanted;
}

function showEndpoint() {
  const chosen = endpoints.find((entry) => entry.path === $("endpoint").value);
  $("token-row").hidden = !chosen?.token && document.body.dataset.error !== "unauthorized";
  if (!playback && !query.has("playback")) {
    sayOverPlayback(
      `The stream goes to ${new URL(chosen.path, location).href}, and from there to where the pipeline sends it. ` +
        "To see it here, add playback=URL to this page's address.",
    );
  }
}

function preparePlayback() {
  const given = query.get("playback");
  if (given === null) return;
  const { url, why } = checkPlayback(given);
  sayOverPlayback(why ?? "The stream will show here.");
  $("playback-hint").classList.toggle("over", Boolean(url));
  $("playback").hidden = !url;
  if (url) playback = new Playback($("playback"), url, sayOverPlayback);
}

/** Takes the token out of the address, where it would stay in the history and on the screen. */
function takeToken() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (token === null) return;
  $("token").value = token;
  history.replaceState(null, "", location.pathname + location.search);
}

// --- wiring ---

$("controls").addEventListener("submit", (event) => {
  event.preventDefault();
  start();
});
$("stop").addEventListener("click", stop);
$("endpoint").addEventListener("change", showEndpoint);
addEventListener("pagehide", () => publication && stop());

takeToken();
preparePlayback();
show("idle", "Ready.");
if (!navigator.mediaDevices?.getUserMedia) fail(new Problem("insecure"));
else learnEndpoints().catch((error) => show("idle", "Ready.", error));
