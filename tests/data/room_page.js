// A viewer in the manner of the oldest pages of the room's protocol: it joins and waits, answers what is offered, and never offers.
//
// ?server=ADDRESS&name=NAME. One connection for all; a message is an offer if the word is anywhere in it, else a candidate; whoever's
// message makes it throw is its last, as it stops to wait. `window.room` says what it has heard.
(() => {
  'use strict';
  const params = new URLSearchParams(location.search);
  const server = params.get('server');
  const room = (window.room = { id: -1, pc: null, heard: [], members: {}, errors: [] });
  addEventListener('error', ({ message }) => room.errors.push(message));
  const fail = (error) => room.errors.push(String(error));

  const ask = (method, path, body, done) => {
    const request = new XMLHttpRequest();
    request.onreadystatechange = () => {
      if (request.readyState !== 4) return;
      if (request.status !== 200) fail(`${path}: ${request.status}`);
      else done?.(request);
    };
    request.open(method, server + path, true);
    if (body !== null) request.setRequestHeader('Content-Type', 'text/plain');
    request.send(body);
  };

  const say = (to, message) => ask('POST', `/message?peer_id=${room.id}&to=${to}`, JSON.stringify(message));

  const connect = (peer) => {
    const pc = (room.pc = new RTCPeerConnection());
    pc.onicecandidate = ({ candidate }) => {
      if (!candidate) return;
      const { sdpMLineIndex, sdpMid } = candidate;
      say(peer, { sdpMLineIndex, sdpMid, candidate: candidate.candidate });
    };
    pc.onaddstream = ({ stream }) => {
      document.querySelector('video').srcObject = stream;
    };
  };

  const handle = (peer, text) => {
    room.heard.push({ peer, text });
    const message = JSON.parse(text);
    if (text.search('offer') !== -1) {
      connect(peer);
      const { pc } = room;
      const described = (answer) => pc.setLocalDescription(answer, () => say(peer, answer), fail);
      pc.setRemoteDescription(new RTCSessionDescription(message), () => pc.createAnswer(described, fail), fail);
    } else {
      const { sdpMLineIndex, candidate } = message;
      room.pc.addIceCandidate(new RTCIceCandidate({ sdpMLineIndex, candidate }), () => {}, fail);
    }
  };

  const note = (line) => {
    const [name, id, here] = line.split(',');
    if (here === '1') room.members[id] = name;
    else delete room.members[id];
  };

  const wait = () => {
    ask('GET', `/wait?peer_id=${room.id}`, null, (reply) => {
      const from = Number(reply.getResponseHeader('Pragma'));
      if (from === room.id) note(reply.responseText.trim());
      else handle(from, reply.responseText);
      wait();
    });
  };

  ask('GET', '/sign_in?' + params.get('name'), null, (reply) => {
    const lines = reply.responseText.trim().split('\n');
    room.id = Number(lines[0].split(',')[1]);
    lines.slice(1).forEach(note);
    wait();
  });

  room.leave = () => ask('GET', `/sign_out?peer_id=${room.id}`, null);
})();
