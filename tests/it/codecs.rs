//! Both codecs in real browsers: each plays what it can, in the source's colours, and what runs already is what a newcomer gets.

use std::time::Duration;

use serde_json::{Value, json};

use crate::stage::{CAME, SOON, Stage, millis};
use crate::support::browser::Browser;
use crate::support::daemon::Setup;
use crate::support::firefox::{Autoplay, Firefox};
use crate::support::heavy;
use crate::support::page::Page;
use crate::support::xclient::XClient;
use crate::support::xvfb::Xvfb;

const PATTERN: (u16, u16) = (1280, 720);
const STARTED: &str = "encoder started";

fn pattern() -> Setup {
    Setup::new(&["--source", "pattern"])
}

/// The codec of the page's video, by the browser's own statistics.
fn codec(browser: &impl Page) -> String {
    browser.run("return (await lt.stats()).mimeType", &[])
}

/// Awaits that a page which has opened the daemon's page plays, and that its picture goes on.
fn plays(browser: &impl Page) {
    browser.run::<Value>("return lt.state(['playing'], args[0])", &[millis(SOON)]);
    let script = "const now = await lt.number(0, ...args);
                  await lt.number(now.number + 10, ...args)";
    browser.run::<Value>(script, &[millis(SOON), json!([PATTERN.0, PATTERN.1])]);
}

#[test]
#[cfg_attr(not(feature = "vp8"), ignore = "this build has no VP8")]
fn chromium_plays_vp8_in_the_colours_of_the_source() {
    let _machine = heavy();
    let screen = Xvfb::start(1280, 800);
    let mut client = XClient::open(&screen.display());
    let setup = Setup::new(&["--source", "screen", "--codec", "vp8"]).display(&screen.display());
    let stage = Stage::open(&setup, screen.size());
    assert_eq!(codec(&stage.browser), "video/VP8");
    let patches = client.draw_patches();
    stage.shows(client.stamp().number, SOON);
    stage.settles(Duration::from_secs(1), SOON);
    stage.shows_colours_of(&patches);
    let drawing = client.draw_steadily(10, XClient::type_letter);
    stage.goes_on();
    let (mut client, _) = drawing.stop();
    stage.shows(client.stamp().number, SOON);
    stage.daemon.stop();
}

#[test]
fn chromium_gets_h264_where_both_are_to_be_had() {
    let _machine = heavy();
    let stage = Stage::open(&pattern(), PATTERN);
    stage.goes_on();
    assert_eq!(codec(&stage.browser), "video/H264");
    stage.daemon.logged(&[STARTED, "h264"], SOON);
    assert_eq!(stage.daemon.count_logged(&[STARTED]), 1);
    stage.daemon.stop();
}

#[test]
#[cfg_attr(not(feature = "vp8"), ignore = "this build has no VP8")]
fn firefox_plays_vp8_and_who_comes_after_it_gets_the_same() {
    let _machine = heavy();
    let stage = Stage::play(&pattern(), PATTERN, Firefox::start(Autoplay::Allowed));
    plays(&stage.browser);
    assert_eq!(codec(&stage.browser), "video/VP8");
    let chromium = Browser::start();
    chromium.open(&stage.daemon.page());
    plays(&chromium);
    assert_eq!(codec(&chromium), "video/VP8", "what is being encoded goes before what is preferred");
    plays(&stage.browser);
    stage.daemon.logged_times(2, CAME, SOON);
    stage.daemon.logged(&[STARTED, "vp8"], SOON);
    assert_eq!(stage.daemon.count_logged(&[STARTED]), 1);
    stage.browser.quit();
    plays(&chromium);
    stage.daemon.stop();
}

#[test]
#[cfg_attr(not(feature = "vp8"), ignore = "this build has no VP8")]
fn firefox_beside_a_chromium_of_h264_gets_an_encoder_of_its_own() {
    let _machine = heavy();
    let stage = Stage::open(&pattern(), PATTERN);
    stage.goes_on();
    let firefox = Firefox::start(Autoplay::Allowed);
    firefox.open(&stage.daemon.page());
    plays(&firefox);
    stage.goes_on();
    assert_eq!((codec(&stage.browser), codec(&firefox)), ("video/H264".to_owned(), "video/VP8".to_owned()));
    stage.daemon.logged(&[STARTED, "h264"], SOON);
    stage.daemon.logged(&[STARTED, "vp8"], SOON);
    assert_eq!(stage.daemon.count_logged(&[STARTED]), 2);
    // The last who takes VP8 leaves: its encoder rests, the other goes on.
    firefox.quit();
    stage.daemon.logged(&["encoder stopped", "vp8"], SOON);
    stage.goes_on();
    assert_eq!(stage.daemon.count_logged(&["encoder stopped"]), 1);
    stage.daemon.stop();
}
