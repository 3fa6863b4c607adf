// A member of the room that offers by itself, as often as it is told to: `room.negotiate()`.
//
// ?server=ADDRESS&name=NAME, and &daemon=NAME where there are others. On the wire its sections are named by their kinds, `audio` and `video`, as
// the oldest browsers named them; there is one of a kind at most. `window.room` has its connection.
(() => {
  'use strict';
  const params = new URLSearchParams(location.search);
  const server = params.get('server');
  const pc = new RTCPeerConnection();
  const room = (window.room = { id: -1, daemon: -1, pc, answers: [], errors: [] });
  const waiting = [];
  addEventListener('unhandledrejection', ({ reason }) => room.errors.push(String(reason)));

  const ask = async (path, options = {}) => {
    const reply = await fetch(server + path, options);
    if (!reply.ok) throw new Error(`${path}: ${reply.status} ${await reply.text()}`);
    return reply;
  };

  const say = (message) => {
    const headers = { 'Content-Type': 'text/plain' };
    return ask(`/message?peer_id=${room.id}&to=${room.daemon}`, { method: 'POST', headers, body: JSON.stringify(message) });
  };

  // The names of sections, as pairs of here and on the wire.
  const names = (sdp) => sdp.split('\r\nm=').slice(1).map((part) => [part.match(/\r\na=mid:(.*)/)[1], part.match(/^\w+/)[0]]);
  const renamed = (sdp, pairs) => {
    const name = (mid) => pairs.find(([from]) => from === mid)?.[1] ?? mid;
    return sdp
      .replace(/^a=mid:(.*)$/gm, (_, mid) => 'a=mid:' + name(mid))
      .replace(/^(a=group:BUNDLE)(.*)$/gm, (_, group, mids) => group + mids.split(' ').map(name).join(' '));
  };
  const pairs = () => names(pc.localDescription.sdp);

  pc.onicecandidate = ({ candidate }) => {
    if (!candidate?.candidate) return;
    const mid = pairs()[candidate.sdpMLineIndex][1];
    say({ candidate: candidate.candidate, sdpMLineIndex: candidate.sdpMLineIndex, sdpMid: mid });
  };
  pc.ontrack = ({ track }) => {
    const video = document.querySelector('video');
    // A picture that was taken away and comes back is the same track.
    if (track.kind === 'video' && !video.srcObject) video.srcObject = new MediaStream([track]);
  };

  const handle = async (text) => {
    const message = JSON.parse(text);
    if (message.type === 'answer') {
      room.answers.push(message.sdp);
      const sdp = renamed(message.sdp, pairs().map(([here, there]) => [there, here]));
      await pc.setRemoteDescription({ type: 'answer', sdp });
      waiting.shift()?.();
    } else if (message.candidate) {
      await pc.addIceCandidate({ candidate: message.candidate, sdpMLineIndex: message.sdpMLineIndex });
    }
  };

  const join = async () => {
    const reply = await ask('/sign_in?' + params.get('name'));
    const lines = (await reply.text()).trim().split('\n').map((line) => line.split(','));
    room.id = Number(lines[0][1]);
    const daemon = lines.find(([name]) => name === params.get('daemon')) ?? lines[1];
    room.daemon = Number(daemon[1]);
    const wait = async () => {
      for (;;) {
        const reply = await ask(`/wait?peer_id=${room.id}`);
        if (Number(reply.headers.get('Pragma')) === room.daemon) await handle(await reply.text());
      }
    };
    wait();
  };
  room.joined = join();

  // Sends a picture and sound of this page's own, as pages do that would talk.
  room.talk = () => {
    const canvas = document.createElement('canvas');
    canvas.getContext('2d').fillRect(0, 0, 10, 10);
    const sound = new AudioContext().createMediaStreamDestination();
    for (const stream of [sound.stream, canvas.captureStream(1)]) pc.addTransceiver(stream.getTracks()[0], { direction: 'sendrecv', streams: [stream] });
  };

  room.negotiate = async () => {
    await room.joined;
    await pc.setLocalDescription();
    const answered = new Promise((ok) => waiting.push(ok));
    await say({ type: 'offer', sdp: renamed(pc.localDescription.sdp, pairs()) });
    await answered;
    return room.answers.at(-1);
  };

  room.leave = () => ask(`/sign_out?peer_id=${room.id}`);
})();
