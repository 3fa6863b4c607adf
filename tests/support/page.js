// What tests ask of a page: the video's pixels (strip, colours), its frames as they are shown, the connection's statistics.
// Put into every document, by Chromium before the page's own scripts; everything hangs off `window.lt`.
(() => {
  'use strict';
  if (window.lt) return;
  const lt = (window.lt = { viewers: [], seen: [], frames: 0, unread: 0, last: null, offered: null, shown: null });

  // Wall time in milliseconds, from the monotonic clock that requestVideoFrameCallback uses too.
  lt.wall = () => performance.timeOrigin + performance.now();

  // When the page asks for its first offer, and when its video shows its first frame.
  for (const name of ['createOffer', 'setLocalDescription']) {
    const original = RTCPeerConnection.prototype[name];
    RTCPeerConnection.prototype[name] = function (...args) {
      lt.offered ??= performance.now();
      return original.apply(this, args);
    };
  }
  const source = Object.getOwnPropertyDescriptor(HTMLMediaElement.prototype, 'srcObject');
  Object.defineProperty(HTMLMediaElement.prototype, 'srcObject', {
    ...source,
    set(stream) {
      if (stream && lt.shown === null && this instanceof HTMLVideoElement) {
        this.requestVideoFrameCallback(() => {
          lt.shown ??= performance.now();
        });
      }
      source.set.call(this, stream);
    },
  });

  lt.video = () => document.querySelector('video');

  // Lets time pass: for what must not happen meanwhile.
  lt.pass = (ms) => new Promise((ok) => setTimeout(ok, ms));

  // Awaits that `check` gives something true; says what was there instead when time is up.
  lt.until = (check, ms, what) =>
    new Promise((ok, no) => {
      const end = performance.now() + ms;
      const look = () => {
        let value;
        try {
          value = check();
        } catch (error) {
          return no(error);
        }
        if (value) return ok(value);
        if (performance.now() > end) return no(new Error(`not within ${ms} ms: ${what()}`));
        setTimeout(look, 4);
      };
      look();
    });

  lt.state = (wanted, ms) => {
    const state = () => document.documentElement.dataset.state;
    return lt.until(() => wanted.includes(state()) && state(), ms, () => `state ${wanted}, it is ${state()}`);
  };

  // Where a point of a source of size [width, height] lies in the video: fitted, centred, never enlarged.
  const map = (video, [width, height], x, y) => {
    const even = (n) => n + (n % 2);
    const exact = video.videoWidth === even(width) && video.videoHeight === even(height);
    const scale = exact ? 1 : Math.min(video.videoWidth / width, video.videoHeight / height);
    const left = exact ? 0 : (video.videoWidth - width * scale) / 2;
    const top = exact ? 0 : (video.videoHeight - height * scale) / 2;
    return [left + x * scale, top + y * scale, scale];
  };

  const canvas = document.createElement('canvas');
  const pixels = canvas.getContext('2d', { willReadFrequently: true, alpha: false });

  // Reads the strip of tests/support/strip.rs: { number, millis }, or null where there is none or it is blurred.
  lt.strip = (video, size) => {
    const cell = size[0] >= 1280 ? 16 : 8;
    const columns = Math.min(76, Math.floor(size[0] / cell));
    const rows = Math.ceil(74 / columns);
    const [left, top, scale] = map(video, size, 0, 0);
    const width = Math.ceil(Math.min(columns, 74) * cell * scale);
    const height = Math.ceil(rows * cell * scale);
    if (!video.videoWidth) return null;
    if (canvas.width < width || canvas.height < height) {
      canvas.width = width;
      canvas.height = height;
    }
    pixels.drawImage(video, left, top, width, height, 0, 0, width, height);
    const { data } = pixels.getImageData(0, 0, width, height);
    const bit = (index) => {
      const x = Math.floor(((index % columns) + 0.5) * cell * scale);
      const y = Math.floor((Math.floor(index / columns) + 0.5) * cell * scale);
      return data[(y * width + x) * 4 + 1] > 127 ? 1 : 0;
    };
    if (bit(0) !== 1 || bit(1) !== 0) return null;
    const bytes = Array.from({ length: 9 }, (_, byte) => {
      let value = 0;
      for (let i = 0; i < 8; i++) value = value * 2 + bit(2 + byte * 8 + i);
      return value;
    });
    if (bytes.slice(0, 8).reduce((sum, byte) => sum ^ byte, 0) !== bytes[8]) return null;
    const word = (at) => bytes.slice(at, at + 4).reduce((sum, byte) => sum * 256 + byte, 0);
    return { number: word(0), millis: word(4) };
  };

  // Notes each number of the strip with the wall time of the callback of the first frame that shows it.
  lt.watch = (size, video = lt.video()) => {
    lt.seen = [];
    lt.frames = lt.unread = 0;
    lt.last = null;
    const run = (lt.run = {});
    const look = () => {
      if (lt.run !== run) return;
      const at = lt.wall();
      lt.frames += 1;
      const strip = lt.strip(video, size);
      if (!strip) lt.unread += 1;
      else if (lt.last?.number !== strip.number) {
        lt.last = { ...strip, at };
        lt.seen.push(lt.last);
      }
      video.requestVideoFrameCallback(look);
    };
    video.requestVideoFrameCallback(look);
  };

  lt.take = () => lt.seen.splice(0);

  // Awaits that the strip shows `number` or a later one; looks at the picture itself, so a picture that stands still counts.
  lt.number = (number, ms, size, video = lt.video()) => {
    let strip = null;
    const there = () => {
      strip = lt.strip(video, size);
      return strip && strip.number >= number && strip;
    };
    return lt.until(there, ms, () => `number ${number}, it is ${JSON.stringify(strip)}`);
  };

  // Awaits that no frame has come for `quiet` ms.
  lt.settle = async (quiet, ms, video = lt.video()) => {
    let last = performance.now();
    let going = true;
    const note = () => {
      last = performance.now();
      if (going) video.requestVideoFrameCallback(note);
    };
    video.requestVideoFrameCallback(note);
    try {
      await lt.until(() => performance.now() - last > quiet, ms, () => `${quiet} ms without a frame`);
    } finally {
      going = false;
    }
  };

  // The mean colours (red, green, blue) of squares of 5 x 5 pixels around points of the source.
  lt.colours = (points, size, video = lt.video()) => {
    const whole = document.createElement('canvas');
    whole.width = video.videoWidth;
    whole.height = video.videoHeight;
    const context = whole.getContext('2d', { alpha: false });
    context.drawImage(video, 0, 0);
    return points.map(([x, y]) => {
      const [column, row] = map(video, size, x, y);
      const { data } = context.getImageData(Math.floor(column) - 2, Math.floor(row) - 2, 5, 5);
      const mean = (channel) => {
        let sum = 0;
        for (let i = channel; i < data.length; i += 4) sum += data[i];
        return sum / (data.length / 4);
      };
      return [mean(0), mean(1), mean(2)];
    });
  };

  lt.size = (video = lt.video()) => [video.videoWidth, video.videoHeight];

  // The statistics of the video that is received, and those of the pair in use.
  lt.stats = async (pc = window.laterna.pc) => {
    const all = [...(await pc.getStats()).values()];
    const video = all.find((s) => s.type === 'inbound-rtp' && s.kind === 'video') ?? {};
    const codec = all.find((s) => s.id === video.codecId) ?? {};
    return { ...video, mimeType: codec.mimeType, connectionState: pc.connectionState };
  };

  // What the page's sound was over `ms`: its level (as browsers take it, from the peaks; 1 is full scale) and the part of its samples that had to be made up.
  lt.sound = async (ms, pc = window.laterna.pc) => {
    const now = async () => [...(await pc.getStats()).values()].find((s) => s.type === 'inbound-rtp' && s.kind === 'audio') ?? {};
    const before = await now();
    await lt.pass(ms);
    const after = await now();
    const grown = (name) => after[name] - (before[name] ?? 0);
    return {
      level: Math.sqrt(grown('totalAudioEnergy') / grown('totalSamplesDuration')),
      concealed: grown('concealedSamples') / grown('totalSamplesReceived'),
    };
  };

  // A viewer of our own by WHEP. `swapSetup` turns the answer's DTLS roles round, so that the handshake never ends.
  lt.connect = async ({ url = '/whep', code = null, swapSetup = false } = {}) => {
    const pc = new RTCPeerConnection();
    const video = document.createElement('video');
    video.muted = video.autoplay = video.playsInline = true;
    video.style.cssText = 'position: fixed; right: 0; bottom: 0; width: 160px';
    const viewer = { pc, video, location: null, shown: null };
    lt.viewers.push(viewer);
    pc.addTransceiver('video', { direction: 'recvonly' });
    pc.ontrack = ({ track, receiver }) => {
      receiver.jitterBufferTarget = 0;
      video.srcObject = new MediaStream([track]);
    };
    document.documentElement.append(video);
    await pc.setLocalDescription();
    const headers = { 'Content-Type': 'application/sdp', ...(code && { Authorization: `Bearer ${code}` }) };
    const answer = await fetch(url, { method: 'POST', headers, body: pc.localDescription.sdp });
    const body = await answer.text();
    if (answer.status !== 201) throw new Error(`${answer.status}: ${body}`);
    viewer.location = new URL(answer.headers.get('Location'), answer.url).href;
    const turn = { active: 'passive', passive: 'active' };
    const sdp = swapSetup ? body.replace(/a=setup:(active|passive)/g, (_, role) => `a=setup:${turn[role]}`) : body;
    await pc.setRemoteDescription({ type: 'answer', sdp });
    return lt.viewers.length - 1;
  };

  // The floor of this browser: a canvas drawn here, looped back by two connections of this page. The same drawing and
  // the same measurement as for the real thing: [{ drawn, shown }] in milliseconds of wall time.
  lt.floor = async ({ kind, width, height, rate, seconds, warm, codec, hint = 'text', bitrate = 2_500_000 }) => {
    const LINE = 13;
    const TOP = 24;
    const screen = document.createElement('canvas');
    screen.width = width;
    screen.height = height;
    const ink = screen.getContext('2d', { alpha: false });
    const word = () => Math.random().toString(36).slice(2, 8);
    const line = (y) => {
      ink.fillStyle = '#fff';
      ink.fillRect(0, y, width, LINE);
      ink.fillStyle = '#000';
      const text = Array.from({ length: 15 }, word).join(' ').slice(0, 10 + Math.random() * 80);
      ink.fillText(text, Math.floor(Math.random() * 6) * 24, y + LINE - 3);
    };
    ink.font = '11px monospace';
    ink.fillStyle = '#fff';
    ink.fillRect(0, 0, width, height);
    for (let y = TOP; y + LINE <= height; y += LINE) line(y);

    let number = 0;
    const strip = () => {
      number += 1;
      const data = new DataView(new ArrayBuffer(9));
      data.setUint32(0, number);
      for (let i = 0; i < 8; i++) data.setUint8(8, data.getUint8(8) ^ data.getUint8(i));
      ink.fillStyle = '#000';
      ink.fillRect(0, 0, 74 * 16, 16);
      ink.fillStyle = '#fff';
      ink.fillRect(0, 0, 16, 16);
      for (let i = 0; i < 72; i++) if ((data.getUint8(i >> 3) >> (7 - (i & 7))) & 1) ink.fillRect((2 + i) * 16, 0, 16, 16);
    };
    const bottom = TOP + (Math.floor((height - TOP) / LINE) - 1) * LINE;
    let caret = [0, TOP];
    const change = () => {
      if (kind === 'scrolling') {
        ink.drawImage(screen, 0, TOP + LINE, width, bottom - TOP, 0, TOP, width, bottom - TOP);
        line(bottom);
      } else {
        if (caret[0] + 8 > width) caret = [0, caret[1] + LINE];
        ink.fillStyle = '#fff';
        ink.fillRect(caret[0], caret[1], 7, LINE);
        ink.fillStyle = '#000';
        ink.fillText(word()[0], caret[0], caret[1] + LINE - 3);
        caret[0] += 7;
      }
      strip();
    };

    const [from, to] = [new RTCPeerConnection(), new RTCPeerConnection()];
    from.onicecandidate = ({ candidate }) => candidate && to.addIceCandidate(candidate);
    to.onicecandidate = ({ candidate }) => candidate && from.addIceCandidate(candidate);
    const track = screen.captureStream().getVideoTracks()[0];
    track.contentHint = hint;
    const sending = from.addTransceiver(track, { direction: 'sendonly', sendEncodings: [{ maxBitrate: bitrate }] });
    const { codecs } = RTCRtpReceiver.getCapabilities('video');
    sending.setCodecPreferences(codecs.filter(({ mimeType }) => mimeType === codec || mimeType === 'video/rtx'));
    const video = document.createElement('video');
    video.muted = video.autoplay = true;
    video.style.cssText = 'position: fixed; left: 0; top: 0; width: 100%';
    to.ontrack = ({ track, receiver }) => {
      receiver.jitterBufferTarget = 0;
      video.srcObject = new MediaStream([track]);
    };
    // A canvas outside the document is captured once only.
    screen.style.cssText = 'position: fixed; left: 0; top: 0; width: 100%';
    document.documentElement.append(screen, video);
    await from.setLocalDescription();
    await to.setRemoteDescription(from.localDescription);
    await to.setLocalDescription();
    await from.setRemoteDescription(to.localDescription);

    lt.watch([width, height], video);
    const drawn = [];
    const start = performance.now();
    const total = rate * (warm + seconds);
    for (let i = 0; i < total; i++) {
      // As the X client of tests/support/xclient.rs: not in step with the frames.
      const wait = start + (i * 1000) / rate + Math.random() * 34 - performance.now();
      if (wait > 0) await new Promise((ok) => setTimeout(ok, wait));
      const at = lt.wall();
      change();
      if (i >= rate * warm) drawn.push({ number, at });
    }
    // An encoder that drops the last frame makes it no worse: what was not shown is counted.
    await lt.number(number, 2_000, [width, height], video).catch(() => null);
    const { mimeType, framesDecoded } = await lt.stats(to);
    const seen = lt.take();
    lt.run = null;
    from.close();
    to.close();
    screen.remove();
    video.remove();
    return { drawn, seen, mimeType, framesDecoded, frames: lt.frames, unread: lt.unread };
  };
})();
