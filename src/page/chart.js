// One line chart over the last five minutes, as SVG. It knows nothing of what the numbers mean.

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 160;
const MARGIN = { top: 8, right: 4, bottom: 20, left: 64 };

/** What is shown, in seconds. */
export const SPAN = 300;

/** More lines than this cannot be told apart. */
export const MOST_LINES = 8;

export class Chart {
  #title;
  #format;
  #least;
  #figure = document.createElement("figure");
  #svg = document.createElementNS(SVG, "svg");
  #legend = document.createElement("ul");
  #lines = [];
  #now = 0;

  /** `least` is what the axis reaches at least, so that noise about nothing does not fill the picture. */
  constructor(title, { format, least }) {
    this.#title = title;
    this.#format = format;
    this.#least = least;
    this.#figure.className = "graph";
    const caption = document.createElement("figcaption");
    caption.textContent = title;
    this.#svg.setAttribute("role", "img");
    this.#legend.className = "legend";
    this.#figure.append(caption, this.#svg, this.#legend);
    new ResizeObserver(() => this.#draw()).observe(this.#figure);
  }

  get element() {
    return this.#figure;
  }

  /** Shows lines `{ name, colour, points: [[time, value or null], …] }`; `more` says how many are not among them. */
  show(lines, now, more = 0) {
    this.#lines = lines;
    this.#now = now;
    this.#draw();
    this.#explain(more);
  }

  #draw() {
    const width = this.#svg.clientWidth;
    if (width === 0) return;
    const height = this.#svg.clientHeight || HEIGHT;
    const values = this.#lines.flatMap(({ points }) => points.map(([, value]) => value ?? 0));
    const top = niceAbove(Math.max(this.#least, ...values));
    const x = (time) => MARGIN.left + (1 - (this.#now - time) / SPAN) * (width - MARGIN.left - MARGIN.right);
    const y = (value) => height - MARGIN.bottom - (value / top) * (height - MARGIN.top - MARGIN.bottom);
    this.#svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const parts = [];
    for (const share of [0, 0.5, 1]) {
      const at = y(share * top);
      parts.push(part("line", { class: "grid", x1: MARGIN.left, x2: width - MARGIN.right, y1: at, y2: at }));
      parts.push(part("text", { x: MARGIN.left - 8, y: at + 4, "text-anchor": "end" }, this.#format(share * top)));
    }
    const ticks = [[SPAN, "5 min ago", "start"], [SPAN / 2, "2½ min", "middle"], [0, "now", "end"]];
    for (const [ago, words, anchor] of ticks) {
      parts.push(part("text", { x: x(this.#now - ago), y: height - 4, "text-anchor": anchor }, words));
    }
    for (const { colour, points } of this.#lines) {
      parts.push(part("path", { class: `line series-${colour}`, d: path(points, x, y) }));
    }
    this.#svg.replaceChildren(...parts);
  }

  #explain(more) {
    const entries = this.#lines.map(({ name, colour, points }) => {
      const item = document.createElement("li");
      const latest = points.at(-1)?.[1];
      item.append(span(`swatch series-${colour}`), span("name", name), strong(said(latest, this.#format)));
      item.title = name;
      return item;
    });
    if (more > 0) {
      const item = document.createElement("li");
      item.textContent = `and ${more} lower`;
      entries.push(item);
    }
    this.#legend.replaceChildren(...entries);
    const words = this.#lines.map(({ name, points }) => `${name} ${said(points.at(-1)?.[1], this.#format)}`);
    this.#svg.setAttribute("aria-label", `${this.#title}, last five minutes. Now: ${words.join(", ") || "nothing"}.`);
  }
}

function said(value, format) {
  return value === null || value === undefined ? "–" : format(value);
}

/** A path that breaks where values are missing; a value alone between two gaps is a dot. */
function path(points, x, y) {
  const LONGEST = 5; // seconds: a page in the background asks for nothing
  let last = -Infinity;
  let d = "";
  for (const [time, value] of points) {
    if (value === null) {
      last = -Infinity;
      continue;
    }
    const at = `${x(time).toFixed(1)} ${y(value).toFixed(1)}`;
    d += time - last < LONGEST ? `L${at}` : `M${at}h0`;
    last = time;
  }
  return d;
}

/** The next of 1, 2, 5, 10, 20, … */
function niceAbove(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((nice) => nice >= value * 0.999) ?? value;
}

function part(name, attributes, text = "") {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.textContent = text;
  return element;
}

function span(className, text = "") {
  const element = document.createElement("span");
  element.className = className;
  element.textContent = text;
  return element;
}

function strong(text) {
  const element = document.createElement("strong");
  element.textContent = text;
  return element;
}
