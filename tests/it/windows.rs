//! A window in a browser: it shows while another one covers it, and its end is not the page's.

use std::time::Duration;

use x11rb::protocol::xproto::Rectangle;

use crate::stage::{SOON, Stage};
use crate::support::daemon::Setup;
use crate::support::heavy;
use crate::support::xclient::XClient;
use crate::support::xvfb::Xvfb;

const PLACE: Rectangle = Rectangle { x: 100, y: 60, width: 960, height: 540 };

#[test]
fn a_covered_window_is_seen_and_one_that_is_closed_may_come_back() {
    let _machine = heavy();
    let screen = Xvfb::start(1280, 720);
    let mut slides = XClient::open_window(&screen.display(), Some(PLACE), "Lesson: Slides");
    let setup = Setup::new(&["--source", "window:slides"]).display(&screen.display());
    let stage = Stage::open(&setup, slides.size());
    // It covers all of the screen, the window too.
    let mut other = XClient::open(&screen.display());
    other.fill_with_text();
    let patches = slides.draw_patches();
    let last = slides.stamp().number;
    stage.shows(last, SOON);
    stage.settles(Duration::from_secs(1), SOON);
    stage.shows_colours_of(&patches);

    let drawing = slides.draw_steadily(5, XClient::type_letter);
    stage.goes_on();
    drop(drawing.stop());
    stage.daemon.logged(&["WARN", "source window:slides is lost", "the window 'Lesson: Slides' was closed"], SOON);
    let slides = XClient::open_window(&screen.display(), Some(PLACE), "Lesson: Slides");
    stage.daemon.logged(&["INFO", "source window:slides is back"], SOON);
    let drawing = slides.draw_steadily(5, XClient::type_letter);
    stage.goes_on();
    drawing.stop();
    stage.daemon.stop();
}
