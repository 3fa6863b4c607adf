//! Firefox, which has VP8 but no H.264 of its own: what it can play it plays, what it can't it says.

use std::time::Duration;

use serde_json::Value;

use crate::stage::{GONE, SOON, Stage, millis};
use crate::support::daemon::Setup;
use crate::support::firefox::{Autoplay, Firefox};
use crate::support::heavy;
use crate::support::page::Page;
use crate::support::xclient::XClient;
use crate::support::xvfb::Xvfb;

#[test]
fn a_broadcast_that_firefox_cannot_decode_is_refused_in_plain_words() {
    let _machine = heavy();
    let daemon = Setup::new(&["--source", "pattern", "--codec", "h264"]).start();
    let firefox = Firefox::start(Autoplay::Allowed);
    firefox.open(&daemon.page());
    firefox.run::<Value>("return lt.state(['unsupported'], args[0])", &[millis(SOON)]);
    let words: String = firefox.run("return document.querySelector('#card').innerText", &[]);
    assert!(words.contains("This browser cannot play the video"), "{words}");
    assert!(words.contains("Chrome"), "no way out is named: {words}");
    let hidden: bool = firefox.run("return document.querySelector('#play').hidden", &[]);
    assert!(hidden, "a button offers to play what can't be played");
    assert!(firefox.screenshot().starts_with(b"\x89PNG\r\n\x1a\n"));
    firefox.quit();
    daemon.stop();
}

#[test]
fn a_broadcast_that_firefox_can_only_hear_is_called_so_by_the_page_and_the_log() {
    let _machine = heavy();
    let daemon = Setup::new(&["--source", "pattern", "--codec", "h264", "--audio", "tone"]).start();
    let firefox = Firefox::start(Autoplay::Allowed);
    firefox.open(&daemon.page());
    firefox.run::<Value>("return lt.state(['unsupported'], args[0])", &[millis(SOON)]);
    let words: String = firefox.run("return document.querySelector('#card').innerText", &[]);
    assert!(words.contains("This browser cannot play the video"), "{words}");
    let script = "const is = () => window.laterna.sound;
                  await lt.until(() => is() === 'on', args[0], () => `sound on, it is ${is()}`);
                  await lt.until(() => window.laterna.pc.connectionState === 'connected', args[0], () => 'a connection');
                  return document.documentElement.dataset.state";
    assert_eq!(firefox.run::<String>(script, &[millis(SOON)]), "unsupported", "the sound hides what is wrong");
    daemon.logged(&["INFO", "no picture", "no common video codec", "offered=", "VP8", "sent=", "H264"], SOON);
    firefox.quit();
    daemon.stop();
}

#[test]
#[cfg_attr(not(feature = "vp8"), ignore = "this build has no VP8")]
fn firefox_plays_vp8_and_is_gone_when_it_leaves() {
    let _machine = heavy();
    let setup = Setup::new(&["--source", "pattern"]);
    let stage = Stage::play(&setup, (1280, 720), Firefox::start(Autoplay::Blocked));
    stage.goes_on();
    assert_eq!(stage.stats()["mimeType"], "video/VP8");
    let size: Value = stage.browser.run("return lt.size()", &[]);
    assert_eq!(size, serde_json::json!([1280, 720]));
    let Stage { browser, daemon, .. } = stage;
    browser.quit();
    daemon.logged(GONE, SOON);
    daemon.stop();
}

#[test]
#[cfg_attr(not(feature = "vp8"), ignore = "this build has no VP8")]
fn firefox_shows_the_screen_in_its_colours() {
    let _machine = heavy();
    let screen = Xvfb::start(1920, 1080);
    let mut client = XClient::open(&screen.display());
    let setup = Setup::new(&["--source", "screen"]).display(&screen.display());
    let stage = Stage::play(&setup, screen.size(), Firefox::start(Autoplay::Blocked));
    let patches = client.draw_patches();
    stage.shows(client.stamp().number, SOON);
    stage.settles(Duration::from_secs(1), SOON);
    stage.shows_colours_of(&patches);
}
