// The sound, in an element of its own: whatever a browser holds against sound, the picture goes on, and two streams are as good as one
// (browsers keep what shares a stream in step by its reports, whichever element plays it).
//
// What the viewer chose lasts as long as the page, through all its connections; nothing is stored.

const at = (id) => document.getElementById(id);
const audio = at('audio');

/** Whether there is something to hear. */
let isThere = false;
/** Whether the viewer wants to hear it. */
let isWanted = true;
/** Whether the browser holds it back until it is asked by a click or a key. */
let isHeld = false;
/** How loud the viewer last left it, from 0 to 1: what sound that is turned on again has. */
let volume = 1;

/** `none`: the broadcast has no sound; `blocked`: the browser wants a click first; `off`: the viewer doesn't want it; `on`: it plays. */
export function state() {
  if (!isThere) return 'none';
  if (!isWanted) return 'off';
  return isHeld ? 'blocked' : 'on';
}

/** Plays a connection's sound. */
export function take(track) {
  isThere = true;
  isHeld = false;
  audio.srcObject = new MediaStream([track]);
  play();
}

/** Ends the sound with its connection. */
export function drop() {
  isThere = false;
  audio.srcObject = null;
  show();
}

/** Asks the browser to play; within a click or a key it does. */
export async function play() {
  show();
  if (!isThere || !isWanted) return;
  const asked = audio.srcObject;
  try {
    await audio.play();
  } catch (error) {
    // Another connection may have come meanwhile: then this says nothing about its sound.
    if (audio.srcObject === asked && error.name === 'NotAllowedError') isHeld = true;
  }
  show();
}

/** Turns the sound off, or on again. */
export function toggle() {
  if (!isThere) return;
  isWanted = state() !== 'on';
  audio.volume = volume;
  play();
}

/** Makes the buttons and the slider do what they say. */
export function control() {
  at('sound-button').addEventListener('click', toggle);
  at('sound-on').addEventListener('click', toggle);
  at('volume').addEventListener('input', (event) => {
    const part = event.target.valueAsNumber / 100;
    isWanted = part > 0;
    if (isWanted) audio.volume = part;
    play();
  });
  at('volume').addEventListener('change', () => {
    if (isWanted) volume = audio.volume;
  });
  audio.addEventListener('playing', () => {
    isHeld = false;
    show();
  });
  // A call, a headset's key, another tab: what stopped it doesn't start it again.
  audio.addEventListener('pause', () => {
    isHeld = isThere;
    show();
  });
  audio.volume = 0.5;
  at('volume').hidden = audio.volume !== 0.5; // iPhones leave the volume to their keys.
  audio.volume = 1;
  show();
}

function show() {
  const now = state();
  audio.muted = !isWanted;
  const hadFocus = document.activeElement === at('sound-on');
  at('sound-on').hidden = now !== 'blocked';
  at('sound').hidden = now !== 'on' && now !== 'off';
  at('sound-button').setAttribute('aria-pressed', String(now === 'on'));
  at('volume').value = now === 'off' ? 0 : Math.round(audio.volume * 100);
  if (hadFocus && now === 'on') at('sound-button').focus();
}
