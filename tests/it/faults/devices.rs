//! What is captured goes away and comes back, under Chromium: the display, and the sound server.

use std::cell::RefCell;
use std::time::Duration;

use super::{Eye, Fault, times};
use crate::stage::{SOON, Stage};
use crate::support::daemon::Setup;
use crate::support::heavy;
use crate::support::xclient::XClient;
use crate::support::xvfb::Xvfb;

#[test]
fn a_display_that_goes_and_comes_back_is_survived() {
    let _machine = heavy();
    let mut screen = Xvfb::start(1280, 720);
    let client = XClient::open(&screen.display());
    let stage = Stage::open(&Setup::new(&["--source", "screen"]).display(&screen.display()), screen.size());
    let fault = Fault {
        name: "a display gone for two seconds",
        comes: &["WARN", "is lost", "display"],
        passes: &["INFO", "is back", "display"],
        lasting: Duration::from_secs(2),
        most: Duration::from_millis(4_500),
    };
    let mut drawing = Some(client.draw_steadily(20, XClient::type_letter));
    for round in 1..=times() {
        let mark = stage.daemon.log().mark();
        Eye::begin(&stage);
        screen.kill();
        drop(drawing.take());
        stage.daemon.logged_from(mark, fault.comes, SOON);
        super::lasts(&stage.daemon, fault.lasting);
        screen.restart(1280, 720);
        let mut client = XClient::open(&screen.display());
        let start = client.stamp().number;
        drawing = Some(client.draw_steadily(20, XClient::type_letter));
        stage.daemon.logged_from(mark, fault.passes, SOON);
        stage.shows(start + 20, SOON);
        fault.judge(round, Eye::gap(&stage), &stage.daemon.log().lines()[mark..]);
    }
    drop(drawing);
    stage.daemon.stop();
}

#[test]
#[cfg(feature = "pulse")]
fn a_sound_server_that_goes_and_comes_back_is_survived() {
    let _machine = heavy();
    let server = crate::support::pulse::Pulse::start(&[]);
    let setup = Setup::new(&["--source", "pattern", "--audio", "system"]).sound_server(&server.address());
    let player = RefCell::new(Some(server.play(1000.0, -12.0, 600)));
    let stage = Stage::open(&setup, (1280, 720));
    crate::heard::hears(&stage);
    let fault = Fault {
        name: "a sound server gone for two seconds",
        comes: &["WARN", "the sound is lost"],
        passes: &["INFO", "the sound is back"],
        lasting: Duration::from_secs(2),
        // Pictures are meant: they wait for nothing that does not come.
        most: Duration::from_secs(1),
    };
    let server = RefCell::new(server);
    let inject = || {
        server.borrow_mut().kill();
        drop(player.borrow_mut().take());
    };
    let undo = || {
        let mut server = server.borrow_mut();
        server.restart();
        *player.borrow_mut() = Some(server.play(1000.0, -12.0, 600));
    };
    fault.strikes(&stage.daemon, &stage, inject, undo);
    crate::heard::hears(&stage);
    stage.daemon.stop();
}
