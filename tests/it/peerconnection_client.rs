//! The daemon as a member of servers of libwebrtc's protocol: npm's look-alike, and the room of another laterna, which is true to the original.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::control::{json_of, says};
use crate::room_pages::InRoom;
use crate::stage::{CAME, FAILED, GONE, SOON};
use crate::support::daemon::{Daemon, Setup};
use crate::support::http::request;
use crate::support::servers::NodeServer;
use crate::support::{heavy, long, report_wall_time};

const SIGNED_IN: &[&str] = &["INFO", "signed in"];
const AWAY: &[&str] = &["WARN", "signaling server is away"];
/// Within which a daemon is to be back at a server that is.
const BACK: Duration = Duration::from_secs(6);

fn look_alike(port: u16) -> NodeServer {
    NodeServer::start("webrtc_signal_http.js", &[&port.to_string()])
}

/// A laterna whose room is open, and which calls nobody.
fn open_room() -> Daemon {
    Setup::new(&["--source", "pattern", "--size", "320x180", "--auth", "none", "--room", "open", "--name", "server"])
        .start()
}

/// A daemon called `desk` that is signed in at a server.
fn signed_in(server: SocketAddr, options: &str) -> Daemon {
    let url = format!("peerconnection+http://{server}{options}");
    let daemon = Setup::new(&["--source", "pattern", "--name", "desk", "--signaling", &url]).start();
    daemon.logged(SIGNED_IN, SOON);
    daemon
}

/// Who is at a server, as one that signs in there sees it.
fn members(server: SocketAddr, sign_in: &str) -> Vec<String> {
    let reply = request(server, "GET", &format!("/sign_in?{sign_in}"), &[], b"");
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.body.lines().map(|line| line.split(',').next().unwrap().to_owned()).collect()
}

/// The picture of a page goes on; then the page closes its connection, and its viewer is gone.
fn plays_and_goes(page: &InRoom) {
    page.goes_on();
    page.daemon.logged(CAME, SOON);
    assert_eq!(page.errors(), [""; 0]);
    page.browser.run::<Value>("room.pc.close()", &[]);
    page.daemon.logged(GONE, SOON);
    assert_eq!((page.daemon.count_logged(CAME), page.daemon.count_logged(FAILED)), (1, 0));
    assert_eq!(page.daemon.count_logged(&["WARN"]), 0, "{}", page.daemon.log().tail(20));
}

fn offers(page: &InRoom) {
    page.browser.run::<Value>("room.talk(); await room.negotiate()", &[]);
}

#[test]
fn at_a_look_alike_a_page_that_offers_is_answered_and_plays() {
    let _machine = heavy();
    let server = look_alike(0);
    let daemon = signed_in(server.address, "?sign-in=peer_name%3D{name}");
    let page = InRoom::join(daemon, "/room_offers.html", &format!("http://{}", server.address), "peer_name%3Dpupil");
    offers(&page);
    plays_and_goes(&page);
    page.daemon.stop();
    assert_eq!(members(server.address, "peer_name=other"), ["other", "pupil"], "the daemon has signed out");
}

#[test]
fn at_a_look_alike_a_page_that_only_joins_is_called_and_plays() {
    let _machine = heavy();
    let server = look_alike(0);
    let daemon = signed_in(server.address, "?sign-in=peer_name%3D{name}&call=joined");
    let page = InRoom::join(daemon, "/room_page.html", &format!("http://{}", server.address), "peer_name%3Dpupil");
    plays_and_goes(&page);
    page.daemon.stop();
}

#[test]
fn in_an_open_room_a_page_that_offers_is_answered_and_plays() {
    let _machine = heavy();
    let server = open_room();
    let daemon = signed_in(server.http(), "");
    let page = InRoom::join(daemon, "/room_offers.html", &format!("http://{}", server.http()), "pupil&daemon=desk");
    offers(&page);
    plays_and_goes(&page);
    page.daemon.stop();
    assert_eq!(members(server.http(), "other"), ["other", "server", "pupil"], "the daemon has signed out");
    assert_eq!(server.count_logged(CAME), 0, "the other laterna was only the server");
    server.stop();
}

#[test]
fn in_an_open_room_a_page_that_only_joins_is_called_and_plays() {
    let _machine = heavy();
    let server = open_room();
    let daemon = signed_in(server.http(), "?call=glob:pupil");
    let page = InRoom::join(daemon, "/room_page.html", &format!("http://{}", server.http()), "pupil");
    plays_and_goes(&page);
    page.daemon.stop();
    server.stop();
}

#[test]
fn a_page_that_the_operator_ended_is_called_again_by_the_operator_only() {
    let _machine = heavy();
    let server = open_room();
    let daemon = signed_in(server.http(), "?call=glob:pupil");
    let control = daemon.setup().control();
    let page = InRoom::join(daemon, "/room_page.html", &format!("http://{}", server.http()), "pupil");
    page.goes_on();
    assert!(says(&control, &["kick", "1"]).contains("it is not called again by itself"));
    page.daemon.logged(&[GONE[0], "ended by the operator"], SOON);
    page.browser.run::<Value>("return lt.pass(4000)", &[]);
    let status = json_of(&control, &["status", "--json"]);
    assert_eq!(status["viewers"], serde_json::json!([]), "{status}");
    says(&control, &["call", "pupil"]);
    page.daemon.logged_times(2, CAME, SOON);
    let status = json_of(&control, &["status", "--json"]);
    assert_eq!(status["viewers"][0]["viewer"], 2, "nobody was called between: {status}");
    page.daemon.stop();
    server.stop();
}

/// How many descriptors a process has open.
fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// Awaits that a process has no more descriptors open than this.
fn has_descriptors(pid: u32, most: usize) {
    let deadline = Instant::now() + SOON;
    while descriptors(pid) > most {
        assert!(Instant::now() < deadline, "{} descriptors are open, {most} were", descriptors(pid));
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

#[test]
fn a_viewer_keeps_its_picture_while_the_server_is_killed_and_comes_back() {
    let _machine = heavy();
    let times = if long() { 20 } else { 3 };
    let mut server = look_alike(0);
    let address = server.address;
    let daemon = signed_in(address, "?sign-in=peer_name%3D{name}");
    let page = InRoom::join(daemon, "/room_offers.html", &format!("http://{address}"), "peer_name%3Dpupil");
    offers(&page);
    page.goes_on();
    let open = descriptors(page.daemon.id());
    for time in 1..=times {
        let mark = page.daemon.log().mark();
        server.kill();
        page.daemon.logged_from(mark, AWAY, SOON);
        page.goes_on();
        server = look_alike(address.port());
        let started = Instant::now();
        let back = page.daemon.logged_from(mark, SIGNED_IN, BACK * 10);
        report_wall_time("signed in again", back.at.saturating_duration_since(started), BACK);
        page.goes_on();
        let changes = [AWAY, SIGNED_IN].map(|words| page.daemon.count_logged(words));
        assert_eq!(changes, [time, time + 1], "one line for one change of state");
    }
    has_descriptors(page.daemon.id(), open);
    let there = members(address, "peer_name=other");
    assert_eq!(there, ["other", "desk"], "nobody else has come back by itself");
    page.browser.run::<Value>("room.pc.close()", &[]);
    page.daemon.logged(GONE, SOON);
    let viewers = [CAME, GONE, FAILED].map(|words| page.daemon.count_logged(words));
    assert_eq!(viewers, [1, 1, 0], "one session was made, and it is gone");
    page.daemon.stop();
}

#[test]
fn a_server_that_comes_late_is_signed_in_to_and_complained_of_once() {
    let place = look_alike(0);
    let address = place.address;
    place.kill();
    let url = format!("peerconnection+http://{address}?sign-in=peer_name%3D{{name}}");
    let daemon = Setup::new(&["--source", "pattern", "--name", "desk", "--signaling", &url]).start();
    let away = daemon.logged(AWAY, SOON);
    assert!(away.text.contains("Connection refused"), "{}", away.text);
    let _server = look_alike(address.port());
    daemon.logged(SIGNED_IN, BACK * 10);
    assert_eq!(daemon.count_logged(AWAY), 1);
    assert_eq!(members(address, "peer_name=other"), ["other", "desk"]);
    daemon.stop();
    assert_eq!(members(address, "peer_name=third"), ["third", "other"], "the daemon has signed out");
}
