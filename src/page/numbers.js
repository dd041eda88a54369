// What getStats says of connections, as a few numbers for people. Pure: reports in, numbers out.

/** Of what is received. `before` is what this returned last time. */
export function received(report, before, now) {
  const all = [...report.values()];
  const inbound = all.filter((entry) => entry.type === "inbound-rtp");
  const video = inbound.find((entry) => entry.kind === "video");
  const sum = (name) => inbound.reduce((total, entry) => total + (entry[name] ?? 0), 0);
  const totals = { bytes: sum("bytesReceived"), packets: sum("packetsReceived"), lost: sum("packetsLost"), at: now };
  return { totals, ...shape(video, all), ...pace(totals, before?.totals), rtt: roundTrip(all) };
}

/** Of what is sent, over one connection. */
export function sent(report, before, now) {
  const all = [...report.values()];
  const outbound = all.filter((entry) => entry.type === "outbound-rtp");
  const remote = all.filter((entry) => entry.type === "remote-inbound-rtp");
  // Of several sizes the largest.
  const pictures = outbound.filter((entry) => entry.kind === "video");
  const video = pictures.sort((a, b) => (b.frameWidth ?? 0) - (a.frameWidth ?? 0))[0];
  const sum = (entries, name) => entries.reduce((total, entry) => total + (entry[name] ?? 0), 0);
  const totals = {
    bytes: sum(outbound, "bytesSent"), packets: sum(outbound, "packetsSent"), lost: sum(remote, "packetsLost"), at: now,
  };
  return { totals, ...shape(video, all), ...pace(totals, before?.totals), rtt: roundTrip(all) };
}

function shape(video, all) {
  const codec = all.find((entry) => entry.id === video?.codecId)?.mimeType?.replace("video/", "");
  return { codec, width: video?.frameWidth, height: video?.frameHeight, fps: video?.framesPerSecond };
}

function pace(totals, before) {
  if (!before || totals.at <= before.at) return {};
  const packets = totals.packets - before.packets;
  const lost = Math.max(totals.lost - before.lost, 0);
  return {
    rate: Math.max((8000 * (totals.bytes - before.bytes)) / (totals.at - before.at), 0),
    loss: packets + lost > 0 ? lost / (packets + lost) : 0,
  };
}

function roundTrip(all) {
  const pairs = all.filter((entry) => entry.type === "candidate-pair" && entry.currentRoundTripTime !== undefined);
  return (pairs.find((pair) => pair.nominated) ?? pairs[0])?.currentRoundTripTime;
}
