// A page with a SignalingChannel as the W3C's examples have it: descriptions and candidates, and nothing else.
//
// ?server=ADDRESS&key=desc|description[&from=NAME][&waits=1]. It offers when it is told to, and answers what is offered. With `from` its frames say whose
// they are, and those for others are passed over; with `waits` it says that it is ready until somebody offers. A connection that is lost is made again.
(() => {
  'use strict';
  const params = new URLSearchParams(location.search);
  const [key, from] = [params.get('key'), params.get('from')];
  const viewer = (window.viewer = { pc: null, heard: [], offers: 0, connections: 0, open: false, errors: [] });
  const fail = (error) => viewer.errors.push(String(error));
  addEventListener('unhandledrejection', ({ reason }) => fail(reason));
  let socket = null;
  const send = (message) => socket.send(JSON.stringify(from ? { from, ...message } : message));

  const create = () => {
    viewer.pc?.close();
    const pc = (viewer.pc = new RTCPeerConnection());
    pc.onicecandidate = ({ candidate }) => send({ candidate });
    pc.ontrack = ({ track }) => {
      if (track.kind === 'video') document.querySelector('video').srcObject = new MediaStream([track]);
    };
    return pc;
  };

  const describe = async () => {
    await viewer.pc.setLocalDescription();
    send({ [key]: viewer.pc.localDescription });
  };

  viewer.offer = () => {
    create().addTransceiver('video', { direction: 'recvonly' });
    return describe();
  };

  // Once more, over the same connection.
  viewer.renew = () => {
    viewer.pc.restartIce();
    return describe();
  };

  const handle = async (message) => {
    viewer.heard.push(message);
    const description = message[key];
    if (description?.type === 'offer') {
      viewer.offers += 1;
      await create().setRemoteDescription(description);
      await describe();
    } else if (description) {
      await viewer.pc.setRemoteDescription(description);
    } else if ('candidate' in message) {
      await viewer.pc.addIceCandidate(message.candidate);
    }
  };

  const connect = () => {
    socket = new WebSocket(params.get('server'));
    socket.onopen = () => {
      viewer.connections += 1;
      viewer.open = true;
    };
    socket.onmessage = ({ data }) => {
      const message = JSON.parse(data);
      if (!from || message.to === from) handle(message).catch(fail);
    };
    socket.onclose = () => {
      viewer.open = false;
      setTimeout(connect, 100);
    };
  };
  connect();

  if (params.get('waits')) {
    const ready = setInterval(() => {
      if (viewer.offers) clearInterval(ready);
      else if (viewer.open) send({ ready: true });
    }, 500);
  }
})();
