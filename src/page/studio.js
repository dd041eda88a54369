// What this page sends, before it goes anywhere: a picture and a microphone by choice, shown as they are, hidden and muted
// by buttons.

import { Sources, closeSources } from "./sources.js";
import { $, isPressed, show } from "./view.js";
import { Problem } from "./words.js";

export class Studio {
  #sources = new Sources($("picture"), $("microphone"));
  #onchange;
  #stream = null;
  /** Counts openings and closings, so that what was begun before the last one knows that it is not wanted any more. */
  #turn = 0;

  /** `onchange` hears of another stream than the one before, while there is one; both are open until it has returned. */
  constructor({ onchange }) {
    this.#onchange = onchange;
    $("controls").hidden = $("preview").hidden = false;
    $("hint").textContent = "Your picture shows here.";
    for (const select of [$("picture"), $("microphone")]) select.addEventListener("change", () => this.#change());
    this.#toggle("mute-microphone", "audio");
    this.#toggle("hide-picture", "video");
    this.#sources.list();
  }

  /** Null while it is closed. */
  get stream() {
    return this.#stream;
  }

  /** Asks for what is chosen, and shows it; false if it was closed in between. */
  async open() {
    const mine = ++this.#turn;
    const stream = await this.#sources.open();
    if (mine === this.#turn) this.#use(stream);
    else closeSources(stream);
    return mine === this.#turn;
  }

  close() {
    this.#turn += 1;
    closeSources(this.#stream);
    this.#stream = $("preview").srcObject = null;
    $("hint").textContent = "The camera is off.";
  }

  /** Another picture or microphone has been chosen. */
  async #change() {
    if (!this.#stream) return;
    const before = this.#stream;
    try {
      if (!(await this.open())) return;
      await this.#onchange(this.#stream, before);
      closeSources(before);
    } catch (error) {
      show(document.body.dataset.state, $("status").textContent, error);
    }
  }

  #use(stream) {
    this.#stream = stream;
    $("preview").srcObject = stream;
    $("hint").textContent = stream.getVideoTracks().length > 0 ? "" : "Sound only";
    for (const track of stream.getTracks()) {
      track.enabled = !isPressed(track.kind === "video" ? "hide-picture" : "mute-microphone");
    }
    const [picture] = stream.getVideoTracks();
    picture?.addEventListener("ended", () => {
      if (this.#stream === stream) show(document.body.dataset.state, $("status").textContent, new Problem("picture-gone"));
    });
  }

  #toggle(id, kind) {
    $(id).addEventListener("click", () => {
      $(id).setAttribute("aria-pressed", String(!isPressed(id)));
      for (const track of this.#stream?.getTracks() ?? []) if (track.kind === kind) track.enabled = !isPressed(id);
    });
  }
}

/** What a stream consists of; only a connection for the same can be used on. */
export function kinds(stream) {
  return stream?.getTracks().map((track) => track.kind).sort().join() ?? "";
}
