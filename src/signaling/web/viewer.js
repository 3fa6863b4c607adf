// The viewer: asks for the stream by WHEP, shows it, and comes back by itself whenever it is lost.
//
// document.documentElement.dataset.state says what is going on; window.laterna has the connection and its numbers.

import { useServers } from './ice.js';
import * as sound from './sound.js';
import { text, translate } from './text.js';

const RETRY_MIN = 500;
const RETRY_MAX = 5000;
const RETRY_UNSUPPORTED = 15000;
const CONNECT_WAIT = 15000;
const DISCONNECTED_WAIT = 4000;
const IDLE_WAIT = 3000;
/** The broadcaster sends something each second, also while the picture stands still: after so long without it the network is gone. */
const SILENT_WAIT = 3500;
const STORED_CODE = 'laterna-code';

const root = document.documentElement;
const at = (id) => document.getElementById(id);
const video = at('video');

/** The connection of now: `null` between two tries. */
let session = null;
let retryTimer = 0;
let failures = 0;
let code = '';

window.laterna = { get pc() { return session?.pc ?? null; }, get sound() { return sound.state(); }, stats: null };

// What is shown.

function show(state, [headline, detail], said = '') {
  root.dataset.state = state;
  const words = said || detail;
  if (at('headline').textContent !== headline) at('headline').textContent = headline;
  if (at('detail').textContent !== words) at('detail').textContent = words;
  at('play').hidden = state !== 'paused';
  const asks = state === 'code';
  if (at('code-form').hidden === asks) {
    at('code-form').hidden = !asks;
    if (asks) at('code').focus();
  }
}

/** Shows that the broadcaster isn't there; after an end it stays an end. */
function showAway() {
  if (root.dataset.state !== 'ended') show('waiting', text.waiting);
}

// The code.

/** The code as it was meant: base32 has no 0, 1 and 8, and no capitals. */
function readable(typed) {
  return typed.trim().toLowerCase().replace(/0/g, 'o').replace(/1/g, 'l').replace(/8/g, 'b').replace(/[^a-z2-7]/g, '').slice(0, 64);
}

function loadCode() {
  const inAddress = readable(location.hash.slice(1));
  try {
    if (inAddress) sessionStorage.setItem(STORED_CODE, inAddress);
    return inAddress || sessionStorage.getItem(STORED_CODE) || '';
  } catch {
    return inAddress; // The browser keeps nothing: the address does.
  }
}

/** Keeps a code no longer that lets nobody in: it is the address's, or nobody's. */
function forgetCode() {
  try {
    sessionStorage.removeItem(STORED_CODE);
  } catch {
    // The browser keeps nothing.
  }
}

function takeCode(typed) {
  // The whole address will do: the code is what follows its #.
  history.replaceState(null, '', '#' + readable(typed.split('#').pop()));
  code = loadCode();
}

// The connection.

function connectNow() {
  clearTimeout(retryTimer);
  failures = 0;
  leave();
  connect();
}

async function connect() {
  clearTimeout(retryTimer);
  const mine = { pc: null, url: null, gone: false, connected: false, stop: new AbortController(), timer: 0, lines: [], end: false, sending: false };
  session = mine;
  try {
    const pc = mine.pc = new RTCPeerConnection({ bundlePolicy: 'max-bundle' });
    const picture = pc.addTransceiver('video', { direction: 'recvonly' });
    const { receiver } = picture;
    // As fresh as it can be: no buffer beyond what the network makes necessary. Sound keeps its own, or it would stutter.
    if ('jitterBufferTarget' in receiver) receiver.jitterBufferTarget = 0;
    else if ('playoutDelayHint' in receiver) receiver.playoutDelayHint = 0;
    pc.addTransceiver('audio', { direction: 'recvonly' });
    pc.ontrack = ({ track }) => {
      if (track.kind === 'audio') return sound.take(track);
      video.srcObject = new MediaStream([track]);
      play();
    };
    pc.onicecandidate = ({ candidate }) => {
      if (candidate?.candidate) mine.lines.push(candidate.candidate);
      else mine.end = true;
      trickle(mine);
    };
    pc.onconnectionstatechange = () => watch(mine);
    mine.timer = setTimeout(() => lost(mine, 'waiting'), CONNECT_WAIT);

    const headers = code ? { Authorization: 'Bearer ' + code } : {};
    const known = await fetch('/whep', { method: 'OPTIONS', headers, signal: mine.stop.signal });
    if (mine.gone) return;
    if (!known.ok) {
      refused(mine, known, (await known.text()).trim());
      return;
    }
    useServers(pc, known.headers.get('Link'));
    await pc.setLocalDescription();
    headers['Content-Type'] = 'application/sdp';
    const reply = await fetch('/whep', { method: 'POST', headers, body: pc.localDescription.sdp, signal: mine.stop.signal });
    const words = (await reply.text()).trim();
    if (mine.gone) return;
    if (reply.status !== 201) {
      refused(mine, reply, words);
      return;
    }
    mine.url = new URL(reply.headers.get('Location'), location.href);
    if (root.dataset.state !== 'connecting') show('connecting', text.connecting);
    const name = words.match(/^s=(.+?)\r?$/m)?.[1].trim();
    if (name && name !== '-') document.title = `${name} – laterna`;
    await pc.setRemoteDescription({ type: 'answer', sdp: words + '\r\n' });
    if (mine.gone) return;
    // Sound that both have comes all the same.
    if (picture.currentDirection !== 'recvonly') show('unsupported', text.unsupported);
    const dtls = pc.getReceivers()[0]?.transport;
    if (dtls) dtls.onstatechange = () => { if (dtls.state === 'closed') lost(mine, 'ended'); };
    trickle(mine);
  } catch (error) {
    if (mine.gone) return;
    if (typeof RTCPeerConnection === 'undefined') {
      show('unsupported', text.noWebrtc);
    } else if (mine.url) {
      // The daemon answered, and the browser can't take the answer.
      give(mine);
      show('error', text.error, String(error.message ?? error));
      retry(RETRY_MAX);
    } else {
      lost(mine, 'waiting');
    }
  }
}

function refused(mine, reply, words) {
  give(mine);
  const reason = reply.headers.get('Laterna-Reason');
  const wait = Number(reply.headers.get('Retry-After')) * 1000 || 0;
  switch (reply.status) {
    case 401:
      show('code', code ? text.codeWrong : text.code);
      forgetCode();
      return;
    case 429:
      if (reason === 'busy') {
        // It is the address that asks too often, and a code that is right.
        showAway();
        retry(Math.max(wait, nextDelay()) + Math.random() * RETRY_MIN);
        return;
      }
      forgetCode();
      show('code', text.codeTooMany);
      return;
    case 406:
      console.info(words);
      show('unsupported', text.unsupported);
      retry(RETRY_UNSUPPORTED);
      return;
    case 503:
    case 504:
      if (reason === 'full') show('full', text.full);
      else showAway();
      // A class that waits for places doesn't come back in one moment.
      retry(Math.max(wait, nextDelay()) + Math.random() * RETRY_MIN);
      return;
    default:
      show('error', text.error, words);
      retry(nextDelay());
  }
}

/** Follows the state of the connection. */
function watch(mine) {
  if (mine.gone) return;
  clearTimeout(mine.timer);
  switch (mine.pc.connectionState) {
    case 'connected':
      mine.connected = true;
      failures = 0;
      seen();
      break;
    case 'disconnected':
      // A daemon that was started anew doesn't know the session any more: then there is nothing to wait for.
      mine.end = true;
      trickle(mine);
      mine.timer = setTimeout(() => lost(mine, 'waiting'), DISCONNECTED_WAIT);
      break;
    case 'failed':
      lost(mine, 'waiting');
      break;
    case 'closed':
      lost(mine, 'ended');
      break;
    default:
      mine.timer = setTimeout(() => lost(mine, 'waiting'), CONNECT_WAIT);
  }
}

/** Gives a connection up that doesn't work any more, and tries the next. */
function lost(mine, state) {
  if (mine.gone) return;
  give(mine);
  if (state === 'ended' && mine.connected) show('ended', text.ended);
  else showAway();
  retry(nextDelay());
}

/** Ends a connection: here, and at the daemon. */
function give(mine) {
  if (mine.gone) return;
  mine.gone = true;
  clearTimeout(mine.timer);
  mine.stop.abort();
  if (mine.pc) {
    mine.pc.onconnectionstatechange = mine.pc.onicecandidate = mine.pc.ontrack = null;
    mine.pc.close();
  }
  // It may be asked of a daemon that is gone: then there is nothing to end.
  if (mine.url) fetch(mine.url, { method: 'DELETE', keepalive: true }).then((reply) => { if (reply.status === 410) dismissed(); }).catch(() => {});
  if (session === mine) session = null;
  sound.drop();
  window.laterna.stats = null;
  fillPanel(null);
}

function leave() {
  clearTimeout(retryTimer);
  if (session) give(session);
}

/** The operator has ended this viewer: whoever wants to see more loads the page again. */
function dismissed() {
  leave();
  show('dismissed', text.dismissed);
}

function nextDelay() {
  const base = Math.min(RETRY_MAX, RETRY_MIN * 2 ** failures);
  failures = Math.min(failures + 1, 8);
  return Math.max(RETRY_MIN, base * (0.5 + Math.random() / 2));
}

function retry(delay) {
  clearTimeout(retryTimer);
  retryTimer = setTimeout(connect, delay);
}

/** Sends the candidates that have come up, one request at a time. */
async function trickle(mine) {
  if (mine.sending || !mine.url) return;
  mine.sending = true;
  try {
    while (!mine.gone && (mine.lines.length || mine.end)) {
      const fragment = fragmentOf(mine.pc.localDescription.sdp, mine.lines.splice(0), mine.end);
      mine.end = false;
      const headers = { 'Content-Type': 'application/trickle-ice-sdpfrag' };
      const reply = await fetch(mine.url, { method: 'PATCH', headers, body: fragment, signal: mine.stop.signal });
      if (reply.status === 404 && !mine.gone) {
        mine.url = null; // There is nothing to end any more.
        lost(mine, 'waiting');
      }
    }
  } catch {
    // Candidates are a help: the checks find the way without them, or the connection fails and is made anew.
  } finally {
    mine.sending = false;
  }
}

/** An SDP fragment (RFC 8840): credentials, the first media section, its candidates. */
function fragmentOf(sdp, lines, end) {
  const first = (pattern) => sdp.match(pattern)?.[0] ?? '';
  const parts = [first(/^a=ice-ufrag:.*$/m), first(/^a=ice-pwd:.*$/m), first(/^m=.*$/m), first(/^a=mid:.*$/m)];
  parts.push(...lines.map((line) => 'a=' + line));
  if (end) parts.push('a=end-of-candidates');
  return parts.map((part) => part.trim()).filter(Boolean).join('\r\n') + '\r\n';
}

// The picture.

async function play() {
  try {
    await video.play();
  } catch (error) {
    // Some browsers want a finger first.
    if (error.name === 'NotAllowedError' && session) show('paused', text.paused);
  }
}

/** Notes that there is a picture. A picture that doesn't change is one, too. */
function seen() {
  if (!session?.connected || !video.videoWidth || video.readyState < 2) return;
  root.dataset.seen = '';
  if (video.paused) show('paused', text.paused);
  else if (root.dataset.state !== 'playing') show('playing', text.playing);
}

function observePicture() {
  for (const event of ['loadeddata', 'canplay', 'playing', 'resize']) video.addEventListener(event, seen);
  video.addEventListener('pause', () => {
    const isLive = video.srcObject?.getTracks().some((track) => track.readyState === 'live');
    if (isLive && root.dataset.state === 'playing') show('paused', text.paused);
  });
  at('play').addEventListener('click', () => {
    play();
    sound.play();
  });
}

// The numbers.

const NOTHING = { packets: 0, lost: 0, bytes: 0, frames: 0, waited: 0, emitted: 0, time: 0 };

async function measure() {
  const mine = session;
  if (!mine?.connected) return;
  const report = await mine.pc.getStats();
  if (mine.gone) return;
  const all = [...report.values()];
  const inbound = all.find((entry) => entry.type === 'inbound-rtp' && entry.kind === 'video');
  if (!inbound) return;
  const now = {
    packets: inbound.packetsReceived ?? 0,
    lost: Math.max(0, inbound.packetsLost ?? 0),
    bytes: (inbound.bytesReceived ?? 0) + (inbound.headerBytesReceived ?? 0),
    frames: inbound.framesDecoded ?? 0,
    waited: inbound.jitterBufferDelay ?? 0,
    emitted: inbound.jitterBufferEmittedCount ?? 0,
    time: inbound.timestamp,
  };
  const past = (mine.past ??= []);
  const before = past.at(-1) ?? { ...NOTHING, time: now.time - 1000 };
  // Loss is told of the last ten seconds: one second is too short to mean anything.
  const tenAgo = past[0] ?? NOTHING;
  past.push(now);
  if (past.length > 10) past.shift();

  const seconds = Math.max(0.001, (now.time - before.time) / 1000);
  const lostNow = now.lost - tenAgo.lost;
  const sentNow = now.packets - tenAgo.packets + lostNow;
  const emitted = now.emitted - before.emitted;
  if (emitted > 0) mine.buffered = (now.waited - before.waited) / emitted;
  const pairId = all.find((entry) => entry.type === 'transport')?.selectedCandidatePairId;
  const pair = all.find((entry) => entry.type === 'candidate-pair' && (pairId ? entry.id === pairId : entry.selected ?? entry.nominated));
  const trip = pair?.currentRoundTripTime;
  listen(mine, pair?.lastPacketReceivedTimestamp === undefined ? 0 : pair.timestamp - pair.lastPacketReceivedTimestamp);
  const delay = mine.buffered === undefined || trip === undefined ? null : (mine.buffered + trip / 2) * 1000;
  window.laterna.stats = {
    width: inbound.frameWidth ?? video.videoWidth,
    height: inbound.frameHeight ?? video.videoHeight,
    fps: (now.frames - before.frames) / seconds,
    bitrate: (now.bytes - before.bytes) * 8 / seconds,
    loss: sentNow > 0 ? Math.max(0, lostNow / sentNow) : 0,
    delay,
    frames: now.frames,
  };
  if (!at('panel').hidden) fillPanel(window.laterna.stats);
}

/** Says so when nothing at all has come for a while, and asks once whether the daemon still knows the session. */
function listen(mine, quiet) {
  if (quiet > SILENT_WAIT && !mine.silent) {
    mine.silent = true;
    show('waiting', text.silent);
    mine.end = true;
    trickle(mine);
  } else if (quiet < SILENT_WAIT && mine.silent) {
    mine.silent = false;
    seen();
  }
}

function fillPanel(stats) {
  const number = (value, digits = 0) => value.toLocaleString(root.lang, { maximumFractionDigits: digits, minimumFractionDigits: digits });
  const words = {
    resolution: stats?.width ? `${stats.width} × ${stats.height}` : '–',
    fps: stats ? number(stats.fps) : '–',
    bitrate: !stats ? '–' : stats.bitrate >= 1e6 ? number(stats.bitrate / 1e6, 1) + ' Mbit/s' : number(stats.bitrate / 1e3) + ' kbit/s',
    loss: stats ? number(stats.loss * 100, 1) + ' %' : '–',
    delay: stats && stats.delay !== null ? number(stats.delay) + ' ms' : '–',
  };
  for (const [id, value] of Object.entries(words)) at(id).textContent = value;
}

function togglePanel() {
  const opens = at('panel').hidden;
  at('panel').hidden = !opens;
  at('panel-button').setAttribute('aria-expanded', String(opens));
  fillPanel(window.laterna.stats);
}

// The controls.

function isFull() {
  return Boolean(document.fullscreenElement ?? document.webkitFullscreenElement);
}

function toggleFull() {
  const leaveFull = document.exitFullscreen ?? document.webkitExitFullscreen;
  const enterFull = root.requestFullscreen ?? root.webkitRequestFullscreen;
  if (isFull()) leaveFull.call(document);
  else if (enterFull) Promise.resolve(enterFull.call(root)).catch(() => {});
  else video.webkitEnterFullscreen?.(); // iPhones let only the video fill the screen.
}

function control() {
  at('panel-button').addEventListener('click', togglePanel);
  at('full-button').addEventListener('click', toggleFull);
  at('full-button').hidden = !(root.requestFullscreen ?? root.webkitRequestFullscreen ?? video.webkitEnterFullscreen);
  video.addEventListener('dblclick', toggleFull);
  for (const event of ['fullscreenchange', 'webkitfullscreenchange']) {
    document.addEventListener(event, () => at('full-button').setAttribute('aria-pressed', String(isFull())));
  }
  document.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.target.type === 'text') return;
    if (event.key === 'f' || event.key === 'F') toggleFull();
    if (event.key === 'i' || event.key === 'I') togglePanel();
    if (event.key === 'm' || event.key === 'M') sound.toggle();
  });

  let idleTimer = 0;
  const stir = () => {
    delete root.dataset.idle;
    clearTimeout(idleTimer);
    idleTimer = setTimeout(() => { root.dataset.idle = ''; }, IDLE_WAIT);
  };
  for (const event of ['pointermove', 'pointerdown', 'keydown', 'focusin']) document.addEventListener(event, stir, { passive: true });
  stir();

  at('code-form').addEventListener('submit', (event) => {
    event.preventDefault();
    takeCode(at('code').value);
    if (!code) return;
    show('connecting', text.connecting);
    connectNow();
  });
}

/** Tries at once where something has changed for the better. */
function comeBack() {
  const state = session?.pc?.connectionState;
  if (['code', 'dismissed'].includes(root.dataset.state) || state === 'connected' || state === 'connecting' || state === 'new') return;
  connectNow();
}

function start() {
  translate();
  show('connecting', text.connecting);
  observePicture();
  control();
  sound.control();
  code = loadCode();
  setInterval(measure, 1000);
  addEventListener('online', comeBack);
  document.addEventListener('visibilitychange', () => { if (!document.hidden) comeBack(); });
  addEventListener('hashchange', () => {
    code = loadCode();
    show('connecting', text.connecting);
    connectNow();
  });
  addEventListener('pagehide', leave);
  addEventListener('pageshow', (event) => { if (event.persisted) connectNow(); });
  connect();
}

start();
