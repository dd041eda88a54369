// What both sides of the live page show in the same places: state, error, title, viewers, numbers.

import { Problem, bitrate, duration, inWords } from "./words.js";

export const $ = (id) => document.getElementById(id);

/** The page's state (idle, connecting, live, ended, failed), what to say about it, and what is wrong. */
export function show(state, words, error = null) {
  document.body.dataset.state = state;
  say($("status"), words);
  if (state !== "live") $("clock").textContent = "";
  if (error) document.body.dataset.error = error.code ?? "unknown";
  else delete document.body.dataset.error;
  $("error").hidden = !error;
  say($("error"), error ? inWords(error) : "");
}

/** How long it has been live. Beside the state, so that screen readers do not read every second. */
export function showClock(since) {
  $("clock").textContent = `· ${duration((performance.now() - since) / 1000)}`;
}

/** Of a button that stays down. */
export function isPressed(id) {
  return $(id).getAttribute("aria-pressed") === "true";
}

/** Screen readers read again what is set again. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Whether a token has to be given, and what to do with it. */
export function askForToken() {
  $("token-form").hidden = false;
  $("token").focus();
}

export function showAbout({ title, category, fallback }) {
  say($("now"), title || fallback);
  say($("category"), category ?? "");
  $("category").hidden = !category;
  document.title = `${title || fallback} · webrtcbridge`;
}

export function showViewers(count) {
  say($("viewer-count"), String(count));
  $("viewers").hidden = count === null;
}

/** Shows why this browser cannot send at all, if it cannot. */
export function showWhatIsMissing() {
  if (!navigator.mediaDevices?.getUserMedia) show("failed", "No camera here.", new Problem("insecure"));
  else if (!("RTCPeerConnection" in window)) show("failed", "This browser cannot do that.", new Problem("no-webrtc"));
}

/** Names and values, one below the other. */
export function showNumbers(rows) {
  $("details").hidden = false;
  const told = rows.filter(([, value]) => value !== undefined && value !== null && value !== "");
  const made = told.map(([name, value]) => {
    const row = document.createElement("div");
    const [term, description] = [document.createElement("dt"), document.createElement("dd")];
    term.textContent = name;
    description.textContent = value;
    row.append(term, description);
    return row;
  });
  $("numbers").replaceChildren(...made);
}

/** What `received` and `sent` of numbers.js found, in words. */
export function rowsOf({ rate, width, height, fps, codec, rtt, loss }) {
  return [
    ["Bitrate", rate === undefined ? "" : bitrate(rate)],
    ["Picture", width ? `${width}×${height}` : ""],
    ["Frame rate", fps ? `${Math.round(fps)} fps` : ""],
    ["Codec", codec ?? ""],
    ["Round trip", rtt === undefined ? "" : `${Math.round(rtt * 1000)} ms`],
    ["Loss", loss === undefined ? "" : `${(loss * 100).toFixed(1)} %`],
  ];
}
