// The STUN and TURN servers that the broadcaster has viewers use: from Link headers (RFC 9725, section 4.6) to the connection.

/** Has a connection that has gathered nothing yet use the servers of `link`; one that the browser can't take leaves it as it is. */
export function useServers(pc, link) {
  const iceServers = serversOf(link ?? '');
  if (!iceServers.length) return;
  try {
    pc.setConfiguration({ ...pc.getConfiguration(), iceServers });
  } catch (error) {
    console.warn('the ICE servers can\'t be used:', error.message);
  }
}

function serversOf(link) {
  // A browser gives a header's bytes as so many letters.
  const text = new TextDecoder().decode(Uint8Array.from(link, (letter) => letter.charCodeAt(0)));
  return [...text.matchAll(/<([^>]*)>((?:\s*;\s*[\w-]+="(?:[^"\\]|\\.)*")*)/g)].flatMap(([, urls, rest]) => {
    const parameters = [...rest.matchAll(/([\w-]+)="((?:[^"\\]|\\.)*)"/g)];
    const { rel, username, credential } = Object.fromEntries(parameters.map(([, name, value]) => [name, value.replace(/\\(.)/g, '$1')]));
    return rel === 'ice-server' ? [{ urls, username, credential }] : [];
  });
}
