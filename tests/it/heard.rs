//! Sound in the page: at once where the browser lets it, after one click or key elsewhere, and never at the picture's cost.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::stage::{SOON, Stage, millis};
use crate::support::browser::Browser;
use crate::support::daemon::Setup;
use crate::support::firefox::{Autoplay, Firefox};
use crate::support::heavy;
use crate::support::page::Page;
#[cfg(feature = "pulse")]
use crate::support::pulse::Pulse;
#[cfg(feature = "pulse")]
use crate::support::tone::Tone;

const PATTERN: (u16, u16) = (1280, 720);
/// How long is listened.
const LISTENED: Duration = Duration::from_secs(3);

/// What was heard.
#[derive(Debug, Deserialize)]
struct Heard {
    level: f64,
    concealed: f64,
}

/// What came out of the browser's decoder: Hz, and samples of one channel.
#[cfg(feature = "pulse")]
#[derive(Debug, Deserialize)]
struct Listened {
    rate: f64,
    samples: Vec<f32>,
}

fn tone() -> Setup {
    Setup::new(&["--source", "pattern", "--audio", "tone"])
}

/// A user's Chromium: sound needs a click.
fn strict_chromium() -> Browser {
    Browser::start_with(&["--autoplay-policy=document-user-activation-required"])
}

fn awaits_sound<B: Page>(stage: &Stage<B>, wanted: &str) {
    let script = "const [wanted, ms] = args, is = () => window.laterna.sound;
                  return lt.until(() => is() === wanted, ms, () => `sound ${wanted}, it is ${is()}`)";
    stage.browser.run::<Value>(script, &[json!(wanted), millis(SOON)]);
}

/// Fails unless a tone is heard without a gap worth the name.
pub fn hears<B: Page>(stage: &Stage<B>) {
    awaits_sound(stage, "on");
    // The first moments fill the buffer.
    let script =
        "const { receiver } = window.laterna.pc.getTransceivers().find((t) => t.receiver.track.kind === 'audio');
                  await lt.until(() => !receiver.track.muted, args[0], () => 'sound that arrives');
                  await lt.pass(1000);
                  return lt.sound(args[1])";
    let heard: Heard = stage.browser.run(script, &[millis(SOON), millis(LISTENED)]);
    println!("{heard:?}");
    assert!(heard.level > 0.01, "no tone: {heard:?}");
    assert!(heard.concealed < 0.05, "gaps: {heard:?}");
}

fn plays_the_picture_at_once_and_the_sound_after_a_click<B: Page>(browser: B) {
    let _machine = heavy();
    let stage = Stage::play(&tone(), PATTERN, browser);
    awaits_sound(&stage, "blocked");
    stage.goes_on();
    stage.browser.click("#sound-on");
    hears(&stage);
    stage.browser.press("body", "m");
    awaits_sound(&stage, "off");
    stage.browser.click("#sound-button");
    hears(&stage);
    stage.goes_on();
}

#[test]
fn chromium_plays_sound_after_one_click() {
    plays_the_picture_at_once_and_the_sound_after_a_click(strict_chromium());
}

#[test]
#[cfg_attr(not(feature = "vp8"), ignore = "this build has no VP8")]
fn firefox_plays_sound_after_one_click() {
    plays_the_picture_at_once_and_the_sound_after_a_click(Firefox::start(Autoplay::Blocked));
}

#[test]
fn chromium_plays_sound_at_once_where_it_may() {
    let _machine = heavy();
    hears(&Stage::open(&tone(), PATTERN));
}

#[test]
#[cfg_attr(not(feature = "vp8"), ignore = "this build has no VP8")]
fn firefox_plays_sound_at_once_where_it_may() {
    let _machine = heavy();
    hears(&Stage::play(&tone(), PATTERN, Firefox::start(Autoplay::Allowed)));
}

#[test]
fn a_key_is_as_good_as_a_click_and_the_choice_outlasts_the_connection() {
    let _machine = heavy();
    let setup = tone();
    let mut stage = Stage::play(&setup, PATTERN, strict_chromium());
    awaits_sound(&stage, "blocked");
    // Enter, as WebDriver names it.
    stage.browser.press("#sound-on", "\u{e007}");
    hears(&stage);
    let focus: String = stage.browser.run("return document.activeElement.id", &[]);
    assert_eq!(focus, "sound-button", "the keyboard's place is lost");
    stage.browser.press("#sound-button", "m");
    awaits_sound(&stage, "off");
    let setup = setup.on_ports_of(&stage.daemon);
    stage.daemon.stop();
    stage.daemon = setup.start();
    stage.browser.run::<Value>(
        "return lt.until(() => window.laterna.sound === 'none', args[0], () => 'an end')",
        &[millis(SOON)],
    );
    awaits_sound(&stage, "off");
    stage.awaits_state(&["playing"], SOON);
    stage.browser.click("#sound-button");
    hears(&stage);
}

#[test]
fn one_stream_and_two_are_both_played() {
    let _machine = heavy();
    for sync in ["lip", "low-latency"] {
        let stage = Stage::open(&tone().args(&["--sync", sync]), PATTERN);
        hears(&stage);
        stage.goes_on();
        let script = "return new Set(window.laterna.pc.remoteDescription.sdp.match(/a=msid:\\S+/g)).size";
        let streams: u32 = stage.browser.run(script, &[]);
        assert_eq!(streams, if sync == "lip" { 1 } else { 2 }, "--sync {sync}");
    }
}

/// From a player at the sound server through capture, encoder and network to what the browser plays.
#[test]
#[cfg(feature = "pulse")]
fn what_the_system_plays_is_heard_as_it_is() {
    let _machine = heavy();
    let server = Pulse::start(&[]);
    let _player = server.play(1000.0, -12.0, 60);
    let setup = Setup::new(&["--source", "pattern", "--audio", "system"]).sound_server(&server.address());
    let stage = Stage::open(&setup, PATTERN);
    hears(&stage);
    let Listened { rate, samples } = stage.browser.run("return lt.listen(args[0])", &[json!(4)]);
    // The first second is the listener's own start.
    let heard = Tone::measure(&samples[rate as usize..], rate, 1000.0);
    println!("{heard:?}");
    assert!((heard.frequency - 1000.0).abs() < 1.0, "{heard:?}");
    assert!((heard.level + 12.0).abs() < 1.0 && heard.rest < -40.0, "{heard:?}");
    assert!(heard.breaks.is_empty(), "{heard:?}");
    stage.goes_on();
    stage.daemon.stop();
}
