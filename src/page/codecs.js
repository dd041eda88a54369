// Which codecs are offered, and in which order.

import { Problem } from "./words.js";

/** H.264 first, as RTMP takes it untouched; or only the codec that was asked for, with the helpers of any codec. */
export function preferCodec(transceiver, wanted) {
  const all = RTCRtpSender.getCapabilities("video")?.codecs ?? [];
  const is = (name) => (codec) => codec.mimeType.toLowerCase() === `video/${name}`;
  const helpers = all.filter((codec) => ["rtx", "red", "ulpfec", "flexfec-03"].some((name) => is(name)(codec)));
  if (wanted) {
    const chosen = all.filter(is(wanted));
    if (chosen.length === 0) throw new Problem("codec", wanted.toUpperCase());
    transceiver.setCodecPreferences([...chosen, ...helpers]);
    return;
  }
  const h264 = all.filter(is("h264"));
  const others = all.filter((codec) => !h264.includes(codec) && !helpers.includes(codec));
  if (h264.length > 0) transceiver.setCodecPreferences([...h264, ...others, ...helpers]);
}

/** Players of RTMP take a new frame rate better than a new size. */
export async function keepResolution(sender) {
  const parameters = sender.getParameters();
  parameters.degradationPreference = "maintain-resolution";
  await sender.setParameters(parameters).catch(() => {});
}
