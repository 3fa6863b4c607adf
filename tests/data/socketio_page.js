// A viewer of the 'stream ok' flow, with the client library that its server serves.
//
// ?server=ADDRESS&name=NAME&desk=NAME&role=asks|offers|waits: what it does when the desk comes online, unless it has a connection. `window.chat` has
// its socket, its connection and what it has heard, each as [event, ...arguments].
(() => {
  'use strict';
  const { server, name, desk, role } = Object.fromEntries(new URLSearchParams(location.search));
  const chat = (window.chat = { socket: null, pc: null, peer: null, heard: [], online: 0, errors: [] });
  addEventListener('error', ({ message }) => chat.errors.push(message));
  addEventListener('unhandledrejection', ({ reason }) => chat.errors.push(String(reason)));

  const say = (...event) => chat.socket.emit(...event);

  const connect = (peer) => {
    const pc = (chat.pc = new RTCPeerConnection());
    chat.peer = peer;
    pc.onicecandidate = ({ candidate }) => {
      if (!candidate) return;
      say('candidate', peer, { type: 'candidate', label: candidate.sdpMLineIndex, id: candidate.sdpMid, candidate: candidate.candidate });
    };
    pc.ontrack = ({ streams, track }) => {
      if (track.kind === 'video') document.querySelector('video').srcObject = streams[0];
    };
  };

  const begin = async (peer) => {
    if (role === 'asks') say('chat request', { id: peer, name });
    if (role === 'offers') {
      connect(peer);
      for (const kind of ['audio', 'video']) chat.pc.addTransceiver(kind, { direction: 'recvonly' });
      await chat.pc.setLocalDescription();
      say('offer', peer, chat.pc.localDescription);
    }
  };

  const handlers = {
    connect: () => say('online', name),
    online: (text) => {
      const found = JSON.parse(text).find((user) => user.name === desk);
      if (!found) return;
      chat.online += 1;
      if (!chat.peer) begin((chat.peer = found.id));
    },
    'stream ok': (from) => {
      connect(from);
      say('stream ok', from);
    },
    offer: async (from, description) => {
      if (role === 'waits') connect(from);
      await chat.pc.setRemoteDescription(description);
      await chat.pc.setLocalDescription();
      say('answer', from, chat.pc.localDescription);
    },
    answer: (_, description) => chat.pc.setRemoteDescription(description),
    candidate: ({ label, candidate }) => chat.pc.addIceCandidate({ sdpMLineIndex: label, candidate }),
  };

  chat.stop = () => say('stop', chat.peer);

  const library = document.createElement('script');
  library.src = server + '/socket.io/socket.io.js';
  library.onload = () => {
    chat.socket = io(server);
    for (const [event, handle] of Object.entries(handlers)) {
      chat.socket.on(event, (...args) => {
        chat.heard.push([event, ...args]);
        return handle(...args);
      });
    }
  };
  document.head.append(library);
})();
