// ICE after the answer (RFC 8840): what a PATCH carries, and what its answer means for the remote description; and
// candidates as messages.

export const FRAGMENT = "application/trickle-ice-sdpfrag";

/** Our side as a fragment: credentials, then candidates under the first section, which all are bundled with. */
export function fragment(description, candidates, { complete }) {
  const line = (name) => description.sdp.match(new RegExp(`^a=${name}:.*$`, "m"))?.[0].trim();
  const section = description.sdp.match(/^m=.*$/m)[0].trim();
  const lines = [line("ice-ufrag"), line("ice-pwd"), section, line("mid") ?? "a=mid:0"];
  for (const candidate of candidates) lines.push(`a=${candidate}`);
  if (complete) lines.push("a=end-of-candidates");
  return lines.map((text) => `${text}\r\n`).join("");
}

/** The candidates that a description already names. */
export function candidatesOf(description) {
  return [...description.sdp.matchAll(/^a=(candidate:.*)$/gm)].map((match) => match[1].trim());
}

/** The answer once more, with the credentials and candidates of the server's fragment. */
export function restarted(answer, told) {
  const of = (name) => told.match(new RegExp(`^a=${name}:.*$`, "m"))?.[0].trim();
  const candidates = [...told.matchAll(/^a=candidate:.*$/gm)].map((match) => match[0].trim());
  let first = true;
  const lines = answer.split(/\r?\n/).flatMap((line) => {
    if (/^a=(candidate:|end-of-candidates)/.test(line)) return [];
    if (line.startsWith("a=ice-ufrag:")) return [of("ice-ufrag")];
    if (line.startsWith("a=ice-pwd:")) return [of("ice-pwd")];
    if (!line.startsWith("a=mid:") || !first) return [line];
    first = false;
    return [line, ...candidates];
  });
  return lines.join("\r\n");
}

/** A candidate as it is told over the WebSocket. */
export function told({ candidate, sdpMid, sdpMLineIndex, usernameFragment }) {
  return { candidate, sdpMid, sdpMLineIndex, ...(usernameFragment ? { usernameFragment } : {}) };
}
