//! Sources of all sizes: odd, small and large screens, and the pattern, which needs no screen.

use serde_json::{Value, json};

use crate::stage::{SOON, Stage};
use crate::support::daemon::Setup;
use crate::support::heavy;
use crate::support::xclient::XClient;
use crate::support::xvfb::Xvfb;

fn shows_a_screen_of(size: (u16, u16), as_size: [u32; 2]) {
    let _machine = heavy();
    let screen = Xvfb::start(size.0, size.1);
    let mut client = XClient::open(&screen.display());
    let setup = Setup::new(&["--source", "screen"]).display(&screen.display());
    let stage = Stage::open(&setup, size);
    let start = client.stamp().number;
    let drawing = client.draw_steadily(5, XClient::type_letter);
    stage.shows(start + 10, SOON);
    let (mut client, _) = drawing.stop();
    stage.shows(client.stamp().number, SOON);
    assert_eq!(stage.browser.run::<[u32; 2]>("return lt.size()", &[]), as_size);
    stage.daemon.stop();
}

#[test]
fn an_odd_screen_shows() {
    shows_a_screen_of((1365, 767), [1366, 768]);
}

#[test]
fn a_small_screen_shows() {
    shows_a_screen_of((320, 200), [320, 200]);
}

#[test]
fn a_4k_screen_shows_in_full_hd() {
    shows_a_screen_of((3840, 2160), [1920, 1080]);
}

#[test]
fn the_pattern_shows_and_advances() {
    let _machine = heavy();
    let stage = Stage::open(&Setup::new(&["--source", "pattern"]), (1280, 720));
    stage.goes_on();
    assert_eq!(stage.browser.run::<[u32; 2]>("return lt.size()", &[]), [1280, 720]);
    stage.daemon.stop();
}

#[test]
fn auto_without_a_display_says_so_and_shows_the_pattern() {
    let _machine = heavy();
    let stage = Stage::open(&Setup::new(&["--source", "auto"]), (1280, 720));
    stage.goes_on();
    stage.daemon.logged(&["WARN", "DISPLAY", "pattern is shown"], SOON);
}

#[test]
fn auto_with_a_display_shows_the_screen() {
    let _machine = heavy();
    let screen = Xvfb::start(800, 600);
    let mut client = XClient::open(&screen.display());
    let stage = Stage::open(&Setup::new(&[]).display(&screen.display()), (800, 600));
    stage.shows(client.stamp().number, SOON);
}

#[test]
fn a_size_that_was_asked_for_is_sent() {
    let _machine = heavy();
    let setup = Setup::new(&["--source", "pattern", "--size", "640x360"]);
    let stage = Stage::open(&setup, (640, 360));
    assert_eq!(stage.browser.run::<Value>("return lt.size()", &[]), json!([640, 360]));
}
