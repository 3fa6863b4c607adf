// A user of MDN's chat server: it offers when it is told to, answers what is offered, and hangs up as the original page does, to nobody in particular.
//
// ?server=ADDRESS&name=NAME. Its candidates name nobody. A connection that is lost is made again, by `viewer.connect()` where it `waits` for that;
// `window.viewer` says how it stands.
(() => {
  'use strict';
  const params = new URLSearchParams(location.search);
  const viewer = (window.viewer = { name: null, users: [], pc: null, offers: 0, connections: 0, waits: false, errors: [] });
  const fail = (error) => viewer.errors.push(String(error));
  addEventListener('unhandledrejection', ({ reason }) => fail(reason));
  let socket = null;
  const send = (message) => socket.send(JSON.stringify(message));

  const create = (target) => {
    viewer.pc?.close();
    const pc = (viewer.pc = new RTCPeerConnection());
    pc.onicecandidate = ({ candidate }) => candidate && send({ type: 'new-ice-candidate', target, candidate });
    pc.ontrack = ({ track }) => {
      if (track.kind === 'video') document.querySelector('video').srcObject = new MediaStream([track]);
    };
    return pc;
  };

  viewer.offer = async (target) => {
    const pc = create(target);
    pc.addTransceiver('video', { direction: 'recvonly' });
    await pc.setLocalDescription();
    send({ name: viewer.name, target, type: 'video-offer', sdp: pc.localDescription });
  };

  viewer.hangUp = () => {
    viewer.pc.close();
    send({ name: viewer.name, target: null, type: 'hang-up' });
  };

  const handlers = {
    id: ({ id }) => {
      viewer.name = params.get('name');
      send({ name: viewer.name, date: Date.now(), id, type: 'username' });
    },
    rejectusername: ({ name }) => {
      viewer.name = name;
    },
    userlist: ({ users }) => {
      viewer.users = users;
    },
    'video-offer': async ({ name, sdp }) => {
      viewer.offers += 1;
      const pc = create(name);
      await pc.setRemoteDescription(sdp);
      await pc.setLocalDescription();
      send({ name: viewer.name, target: name, type: 'video-answer', sdp: pc.localDescription });
    },
    'video-answer': ({ sdp }) => viewer.pc.setRemoteDescription(sdp),
    'new-ice-candidate': ({ candidate }) => viewer.pc.addIceCandidate(candidate),
    'hang-up': () => {},
  };

  const connect = (viewer.connect = () => {
    socket = new WebSocket(params.get('server'), 'json');
    socket.onopen = () => {
      viewer.connections += 1;
    };
    socket.onmessage = async ({ data }) => {
      const message = JSON.parse(data);
      try {
        await handlers[message.type](message);
      } catch (error) {
        fail(error);
      }
    };
    socket.onclose = () => {
      viewer.users = [];
      if (!viewer.waits) setTimeout(connect, 100);
    };
  });
  connect();
})();
