// The status page: asks /api/v1/status every second, draws the last five minutes, and lists what is there now.
//
// document.body.dataset.state is loading, live, draining, denied or stale.

import { Chart } from "./chart.js";
import { Lines, cpu, loss, sentRate } from "./history.js";
import { bitrate, duration } from "./words.js";

const INTERVAL = 1000;
const $ = (id) => document.getElementById(id);

const percent = (value) => `${value < 10 && value > 0 ? value.toFixed(1) : Math.round(value)} %`;
const milliseconds = (seconds) => `${Math.round(seconds * 1000)} ms`;
const bytes = (value) =>
  value < 1e6 ? `${Math.round(value / 1e3)} kB` : value < 1e9 ? `${Math.round(value / 1e6)} MB` : `${(value / 1e9).toFixed(1)} GB`;
const count = (value) => value.toLocaleString("en");
const whole = (value) => (Number.isInteger(value) ? String(value) : "");

const sum = (list, of) => list.reduce((all, entry) => all + of(entry), 0);
const nameOf = (session) => `${session.channel} (${session.id})`;
const nameOfDestination = (session, destination) => `${nameOf(session)} → ${destination.index}`;
const rateOf = (session) => sum(session.tracks, (track) => track.bitrate);
const jitterOf = (session) => Math.max(0, ...session.tracks.map((track) => track.jitter_seconds));
const destinationsOf = (status) =>
  status.sessions.flatMap((session) => session.destinations.map((destination) => ({ session, destination })));

// --- graphs: title, how numbers are written, what the axis reaches at least, and the values of one moment ---

const GRAPHS = [
  ["Sessions", { format: whole, least: 4 }, (now) => [
    ["connected", now.sessions.filter(({ state }) => state === "connected").length],
    ["not connected", now.sessions.filter(({ state }) => state !== "connected").length],
    ["viewers", now.viewers],
  ]],
  ["Received", { format: bitrate, least: 100e3 }, (now) => now.sessions.map((session) => [nameOf(session), rateOf(session)])],
  ["Packet loss", { format: percent, least: 1 }, (now, before) =>
    now.sessions.map((session) => [nameOf(session), loss(session, same(session, before))])],
  ["Round trip", { format: milliseconds, least: 0.01 }, (now) =>
    now.sessions.map((session) => [nameOf(session), session.round_trip_seconds])],
  ["Destinations", { format: whole, least: 4 }, (now) =>
    ["live", "connecting", "retrying", "refused", "stopped"]
      .map((wanted) => [wanted, destinationsOf(now).filter(({ destination }) => destination.state === wanted).length])
      .filter(([wanted, many]) => wanted === "live" || many > 0)],
  ["Sent", { format: bitrate, least: 100e3 }, (now, before) =>
    destinationsOf(now).map(({ session, destination }) => [
      nameOfDestination(session, destination),
      sentRate(now, before, destination, same(session, before)?.destinations[destination.index]),
    ])],
  ["Destinations' lag", { format: milliseconds, least: 0.1 }, (now) =>
    destinationsOf(now).map(({ session, destination }) => [
      nameOfDestination(session, destination),
      destination.state === "live" ? destination.lag_seconds : null,
    ])],
  ["CPU, of one core", { format: percent, least: 10 }, (now, before) => [["process", cpu(now, before)]]],
  ["Memory", { format: bytes, least: 10e6 }, (now) => [["process", now.process?.resident_bytes ?? null]]],
].map(([title, options, values]) => ({ chart: new Chart(title, options), lines: new Lines(), values }));

function same(session, status) {
  return status?.sessions.find(({ channel, id }) => channel === session.channel && id === session.id);
}

// --- tiles ---

const TILES = [
  ["Sessions", (now) => count(now.sessions.length)],
  ["Live channels", (now) => `${count(now.live_channels)} of ${count(now.channels)}`],
  ["Viewers", (now) => count(now.viewers)],
  ["Received", (now) => bitrate(sum(now.sessions, rateOf))],
  ["Destinations live", (now) => {
    const all = destinationsOf(now);
    return `${all.filter(({ destination }) => destination.state === "live").length} of ${all.length}`;
  }],
  ["CPU", (now, before) => said(cpu(now, before), percent)],
  ["Memory", (now) => said(now.process?.resident_bytes, bytes)],
  ["Running for", (now) => said(now.process && now.at - now.process.start_seconds, duration)],
];

// --- tables: caption, what to say when empty, columns (title, text, options) and rows ---

const number = { number: true };
const TONES = {
  connected: "good", live: "good",
  new: "warn", connecting: "warn", disconnected: "warn", retrying: "warn",
  failed: "bad", refused: "bad",
};
const state = { tone: (text) => TONES[text] };

const TABLES = [
  ["Sessions", "Nobody is publishing.", [
    ["Channel", ({ session }) => session.channel],
    ["Session", ({ session }) => session.id],
    ["State", ({ session }) => session.state, state],
    ["Since", ({ session }) => duration(session.age_seconds), number],
    ["Codecs", ({ session }) => session.tracks.map((track) => track.codec).join(", ")],
    ["Received", ({ session }) => bitrate(rateOf(session)), number],
    ["Loss", ({ session, before }) => said(loss(session, before), percent), number],
    ["Round trip", ({ session }) => said(session.round_trip_seconds, milliseconds), number],
    ["Jitter", ({ session }) => milliseconds(jitterOf(session)), number],
    ["Frames/s", ({ session }) => count(sum(session.tracks, (track) => track.frames_per_second)), number],
    ["NACK", ({ session }) => count(sum(session.tracks, (track) => track.nacks)), number],
    ["PLI + FIR", ({ session }) => count(sum(session.tracks, (track) => track.plis + track.firs)), number],
    ["Dropped", ({ session }) => count(sum(Object.values(session.dropped), (dropped) => dropped)), number],
    ["Keyframe", ({ session }) => (session.tracks.some((track) => track.waiting_for_keyframe) ? "waited for" : "there")],
    ["Encoders", ({ session }) => [session.video_encoder, session.audio_encoder].filter(Boolean).join(", ")],
  ], (now, before) => now.sessions.map((session) => ({ session, before: same(session, before) }))],
  ["Destinations", "Nothing is pushed anywhere.", [
    ["Channel", ({ session }) => session.channel],
    ["No.", ({ destination }) => String(destination.index), number],
    ["Where", ({ destination }) => destination.url],
    ["State", ({ destination }) => destination.state, state],
    ["Sent", ({ destination }) => bytes(destination.bytes), number],
    ["Lag", ({ destination }) => milliseconds(destination.lag_seconds), number],
    ["Dropped", ({ destination }) => count(destination.dropped), number],
    ["Reconnects", ({ destination }) => count(destination.reconnects), number],
    ["Last failure", ({ destination }) => destination.last_failure ?? ""],
  ], destinationsOf],
  ["Media ports", "No UDP port is open.", [
    ["Port", (port) => String(port.port)],
    ["Received", (port) => count(port.received), number],
    ["Sent", (port) => count(port.sent), number],
    ["Unknown sender", (port) => count(port.dropped_unknown), number],
    ["Forged", (port) => count(port.dropped_forged), number],
    ["Not taken in time", (port) => count(port.dropped_overflow), number],
    ["Not sent", (port) => count(port.dropped_send), number],
    ["Address changes", (port) => count(port.rebinds), number],
  ], (now) => now.ports],
  ["Process", "The system tells nothing of it.", [
    ["Version", ({ version }) => version],
    ["CPU time", ({ process }) => duration(process.cpu_seconds), number],
    ["Memory", ({ process }) => bytes(process.resident_bytes), number],
    ["File descriptors", ({ process }) => `${count(process.open_fds)} of ${process.max_fds ? count(process.max_fds) : "any number"}`, number],
    ["Threads", ({ process }) => count(process.threads), number],
    ["Sessions begun", ({ totals }) => count(totals.sessions_started), number],
    ["Sessions failed", ({ totals }) => count(totals.sessions_failed), number],
    ["Requests refused", ({ http }) => count(sum(http, ({ status, count }) => (status >= 400 ? count : 0))), number],
  ], (now) => (now.process ? [now] : [])],
].map(([title, empty, columns, rows]) => ({ ...table(title, columns), empty, columns, rows }));

function table(title, columns) {
  const box = element("div", { className: "scroll", tabIndex: 0 });
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", title);
  const [head, body] = [document.createElement("thead"), document.createElement("tbody")];
  const cells = columns.map(([name, , options]) => {
    const cell = element("th", { textContent: name, className: options?.number ? "number" : "" });
    cell.scope = "col";
    return cell;
  });
  const row = document.createElement("tr");
  row.append(...cells);
  head.append(row);
  const whole = document.createElement("table");
  whole.append(element("caption", { textContent: title }), head, body);
  box.append(whole);
  return { box, body, head };
}

function fill({ body, head, empty, columns }, rows) {
  head.hidden = rows.length === 0;
  if (rows.length === 0) {
    const row = document.createElement("tr");
    row.append(element("td", { textContent: empty, className: "none" }));
    body.replaceChildren(row);
    return;
  }
  body.replaceChildren(
    ...rows.map((entry) => {
      const row = document.createElement("tr");
      columns.forEach(([, text, options], index) => {
        const cell = element(index === 0 ? "th" : "td", { textContent: text(entry), className: options?.number ? "number" : "" });
        if (index === 0) cell.scope = "row";
        const tone = options?.tone?.(cell.textContent);
        if (tone) cell.dataset.tone = tone;
        row.append(cell);
      });
      return row;
    }),
  );
}

// --- once a second ---

let before = null;
let token = "";

function show(now) {
  $("tiles").replaceChildren(
    ...TILES.map(([title, value]) => {
      const tile = document.createElement("div");
      tile.append(element("dt", { textContent: title }), element("dd", { textContent: value(now, before) }));
      return tile;
    }),
  );
  for (const { chart, lines, values } of GRAPHS) {
    lines.add(now.at, values(now, before));
    const { lines: shown, more } = lines.shown();
    chart.show(shown, now.at, more);
  }
  for (const entry of TABLES) fill(entry, entry.rows(now, before));
  before = now;
}

async function look() {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const response = await fetch("api/v1/status", { headers, cache: "no-store" });
  if (response.status === 401) return say("denied", "Not shown", token ? "This is not the administrator's token." : "");
  if (!response.ok) return say("stale", "Refused", (await response.json()).detail);
  const now = await response.json();
  say(now.draining ? "draining" : "live", now.draining ? "Draining: no new sessions" : "Live");
  show(now);
}

function say(code, words, error = "") {
  document.body.dataset.state = code;
  $("access").hidden = code !== "denied";
  // Not every second: screen readers say it each time.
  if ($("status").textContent !== words) $("status").textContent = words;
  $("error").hidden = !error;
  if ($("error").textContent !== error) $("error").textContent = error;
}

async function watch() {
  try {
    if (!document.hidden) await look();
  } catch {
    say("stale", "Server gone", "The server does not answer; what is shown is what it told last.");
  }
  // Denied is final until another token comes: asking again would count as guessing.
  if (document.body.dataset.state !== "denied") setTimeout(watch, INTERVAL);
}

function said(value, format) {
  return value === null || value === undefined ? "–" : format(value);
}

function element(name, properties) {
  return Object.assign(document.createElement(name), properties);
}

$("access").addEventListener("submit", (event) => {
  event.preventDefault();
  token = $("token").value.trim();
  watch();
});

$("graphs").append(...GRAPHS.map(({ chart }) => chart.element));
$("tables").append(...TABLES.map(({ box }) => box));
watch();
