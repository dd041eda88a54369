// The last five minutes of what /api/v1/status told: values by name, and rates out of counters.

import { MOST_LINES, SPAN } from "./chart.js";

/** One graph's values: a line for each name. */
export class Lines {
  /** Name → { colour, points }. A name keeps its colour as long as it has points. */
  #lines = new Map();

  /** Takes the values of one moment: pairs of name and value. Names that are not among them get a gap. */
  add(now, values) {
    for (const [name, value] of values) {
      if (!this.#lines.has(name)) this.#lines.set(name, { name, colour: this.#freeColour(), points: [] });
      this.#lines.get(name).points.push([now, value]);
    }
    for (const [name, line] of this.#lines) {
      if (line.points.at(-1)?.[0] !== now) line.points.push([now, null]);
      while (line.points.length > 0 && line.points[0][0] < now - SPAN) line.points.shift();
      if (line.points.every(([, value]) => value === null)) this.#lines.delete(name);
    }
  }

  /** The lines to show, those with the highest values, and how many are not among them. */
  shown() {
    const latest = ({ points }) => points.at(-1)?.[1] ?? -1;
    const all = [...this.#lines.values()].sort((a, b) => latest(b) - latest(a));
    return { lines: all.slice(0, MOST_LINES), more: Math.max(0, all.length - MOST_LINES) };
  }

  #freeColour() {
    const used = Array(MOST_LINES).fill(0);
    for (const { colour } of this.#lines.values()) used[colour] += 1;
    return used.indexOf(Math.min(...used));
  }
}

/** The share of packets that got lost since `before`, in percent; null when it cannot be told. */
export function loss(session, before) {
  if (!before) return null;
  const sum = (of) => session.tracks.reduce((all, track) => all + of(track), 0);
  const old = (of) => before.tracks.reduce((all, track) => all + of(track), 0);
  const came = sum((track) => track.packets) - old((track) => track.packets);
  // Those that come late are taken back from the count.
  const lost = Math.max(0, sum((track) => track.lost) - old((track) => track.lost));
  return came + lost > 0 && came >= 0 ? (100 * lost) / (came + lost) : null;
}

/** CPU use between two readings, in percent of one core. */
export function cpu(status, before) {
  if (!before?.process || !status.process || status.at <= before.at) return null;
  return (100 * (status.process.cpu_seconds - before.process.cpu_seconds)) / (status.at - before.at);
}

/** What a destination was sent between two readings, in bit/s. */
export function sentRate(status, before, destination, earlier) {
  if (!earlier || status.at <= before.at || destination.bytes < earlier.bytes) return null;
  return (8 * (destination.bytes - earlier.bytes)) / (status.at - before.at);
}
