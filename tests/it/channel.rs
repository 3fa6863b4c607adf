//! The daemon at a SignalingChannel of the W3C's examples, with real pages there: one that offers, several that have names, one that is called.

use serde_json::{Value, json};

use crate::signaled::{Pages, SIGNED_IN, restarted};
use crate::stage::{CAME, SOON};
use crate::support::daemon::{Daemon, Setup};
use crate::support::heavy;
use crate::support::servers::NodeServer;

const SERVER: &str = "channel.js";

/// A relay, and a daemon at it.
fn relayed(args: &[&str]) -> (NodeServer, Daemon) {
    let server = NodeServer::start(SERVER, &["0"]);
    let url = format!("channel+ws://{}/room?key=kept", server.address);
    let daemon = Setup::new(&["--source", "pattern", "--name", "desk", "--signaling", &url]).args(args).start();
    daemon.logged(SIGNED_IN, SOON);
    (server, daemon)
}

#[test]
fn a_page_that_offers_plays_through_restarts_of_its_relay() {
    let _machine = heavy();
    let ((server, daemon), pages) = (relayed(&[]), Pages::new(&[]));
    pages.open(&format!("/channel_page.html?key=desc&server=ws://{}/room", server.address));
    pages.awaits("viewer.open");
    pages.browser.run::<Value>("await viewer.offer()", &[]);
    pages.goes_on();
    daemon.logged(CAME, SOON);
    let heard: Value = pages.browser.run("return viewer.heard.map((frame) => Object.keys(frame))", &[]);
    assert_eq!(heard, json!([["desc"]]), "one answer, under the name that the offer had");
    let _server = restarted(server, SERVER, &daemon, &pages);
    // What was agreed before is known still.
    pages.awaits("viewer.open");
    pages.browser.run::<Value>("await viewer.renew()", &[]);
    pages.awaits("viewer.heard.length === 2 && viewer.pc.signalingState === 'stable'");
    pages.goes_on();
    assert_eq!((pages.errors(), daemon.count_logged(CAME)), (vec![], 1));
    daemon.stop();
}

#[test]
fn pages_that_say_whose_their_frames_are_play_side_by_side() {
    let _machine = heavy();
    let ((server, daemon), pages) = (relayed(&[]), Pages::new(&[]));
    let open = |name: &str| {
        pages.open(&format!("/channel_page.html?key=description&from={name}&server=ws://{}/", server.address));
        pages.awaits("viewer.open");
        pages.browser.run::<Value>("await viewer.offer()", &[]);
        pages.goes_on();
        let heard: Value = pages.browser.run("return viewer.heard.map(({ from, to }) => [from, to])", &[]);
        assert_eq!((heard, pages.errors()), (json!([["desk", name]]), vec![]));
    };
    open("alice");
    let window = pages.browser.new_window();
    open("bob");
    daemon.logged_times(2, CAME, SOON);
    pages.browser.switch(&window.before);
    pages.goes_on();
    daemon.stop();
}

#[test]
fn a_page_that_comes_after_the_daemons_offer_gets_another_and_plays() {
    let _machine = heavy();
    let ((server, daemon), pages) = (relayed(&["--call", "joined"]), Pages::new(&[]));
    pages.open(&format!("/channel_page.html?key=desc&waits=1&server=ws://{}/", server.address));
    pages.goes_on();
    daemon.logged(CAME, SOON);
    let offers: u32 = pages.browser.run("return viewer.offers", &[]);
    assert_eq!((offers, pages.errors()), (1, vec![]));
    daemon.stop();
}
