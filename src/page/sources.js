// What a broadcaster sends: a camera or the screen, and a microphone, each by choice.

import { closeCamera, problem } from "./camera.js";
import { Problem } from "./words.js";

const SIZE = { width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30 } };
const DEFAULT = "default";
const SCREEN = "screen";
const NONE = "none";

/** Fills two selects with what there is, and opens what is chosen in them. */
export class Sources {
  #picture;
  #microphone;

  constructor(picture, microphone) {
    this.#picture = picture;
    this.#microphone = microphone;
    // Names and ids are told only to pages that may use the devices, so this is called again after opening.
    navigator.mediaDevices?.addEventListener("devicechange", () => this.list());
  }

  async list() {
    const devices = (await navigator.mediaDevices?.enumerateDevices().catch(() => [])) ?? [];
    const of = (kind) => devices.filter((device) => device.kind === kind && device.deviceId && device.deviceId !== "default");
    const named = (kind, name) =>
      of(kind).map((device, index) => new Option(device.label || `${name} ${index + 1}`, device.deviceId));
    const screen = navigator.mediaDevices?.getDisplayMedia ? [new Option("Screen or window", SCREEN)] : [];
    fill(this.#picture, [new Option("Camera", DEFAULT), ...named("videoinput", "Camera"), ...screen, new Option("No picture", NONE)]);
    fill(this.#microphone, [new Option("Microphone", DEFAULT), ...named("audioinput", "Microphone"), new Option("No microphone", NONE)]);
  }

  /** A stream of what is chosen. */
  async open() {
    if (!navigator.mediaDevices?.getUserMedia) throw new Problem("insecure");
    const [picture, microphone] = [this.#picture.value || DEFAULT, this.#microphone.value || DEFAULT];
    const tracks = [];
    try {
      if (picture === SCREEN) tracks.push(...(await openScreen()));
      const video = [SCREEN, NONE].includes(picture) ? false : { ...SIZE, ...chosen(picture) };
      const audio = microphone === NONE ? false : { ...chosen(microphone) };
      if (video || audio) tracks.push(...(await openDevices(video, audio)));
    } catch (error) {
      tracks.forEach((track) => track.stop());
      throw error;
    }
    if (tracks.length === 0) throw new Problem("no-picture");
    await this.list();
    // One of each kind: where the screen has sound of its own, the microphone is what is meant.
    const last = (kind) => tracks.findLast((track) => track.kind === kind);
    const kept = [last("video"), last("audio")].filter(Boolean);
    tracks.filter((track) => !kept.includes(track)).forEach((track) => track.stop());
    return new MediaStream(kept);
  }
}

export { closeCamera as closeSources };

async function openScreen() {
  const stream = await navigator.mediaDevices.getDisplayMedia({ video: { frameRate: { ideal: 30 } }, audio: true }).catch((error) => {
    throw problem(error);
  });
  return stream.getTracks();
}

async function openDevices(video, audio) {
  try {
    return (await navigator.mediaDevices.getUserMedia({ video, audio })).getTracks();
  } catch (error) {
    // One missing device fails both: a picture without a microphone is still worth sending.
    if (error.name !== "NotFoundError" || !video || !audio) throw problem(error);
  }
  return (await navigator.mediaDevices.getUserMedia({ video }).catch((error) => {
    throw problem(error);
  })).getTracks();
}

function chosen(id) {
  return id === DEFAULT ? {} : { deviceId: { exact: id } };
}

/** Other options, the same choice if it is still there. */
function fill(select, options) {
  const before = select.value;
  select.replaceChildren(...options);
  if (options.some((option) => option.value === before)) select.value = before;
}
