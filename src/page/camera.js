// Opens the camera and microphone, and tells apart why that may fail.

import { Problem } from "./words.js";

const VIDEO = { width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30 } };

/** A stream with video, and with audio if there is a microphone. */
export async function openCamera() {
  if (!navigator.mediaDevices?.getUserMedia) throw new Problem("insecure");
  try {
    return await navigator.mediaDevices.getUserMedia({ video: VIDEO, audio: true });
  } catch (error) {
    // One missing device fails both: a camera without a microphone is still worth sending.
    if (error.name !== "NotFoundError" || !(await has("videoinput"))) throw problem(error);
  }
  return navigator.mediaDevices.getUserMedia({ video: VIDEO }).catch((error) => {
    throw problem(error);
  });
}

/** Switches camera and microphone off. */
export function closeCamera(stream) {
  stream?.getTracks().forEach((track) => track.stop());
}

/** Whether a stream can be sent (again). */
export function isOpen(stream) {
  return Boolean(stream?.getVideoTracks().some((track) => track.readyState === "live"));
}

async function has(kind) {
  const devices = await navigator.mediaDevices.enumerateDevices().catch(() => []);
  return devices.some((device) => device.kind === kind);
}

/** Why the browser gives no camera, screen or microphone. */
export function problem(error) {
  switch (error.name) {
    case "NotAllowedError":
    case "SecurityError":
      return new Problem("permission");
    case "NotFoundError":
    case "OverconstrainedError":
      return new Problem("no-camera");
    case "NotReadableError":
    case "AbortError":
      return new Problem("camera-busy");
    default:
      return new Problem("camera", error.message);
  }
}
