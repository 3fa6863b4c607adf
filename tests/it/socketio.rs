//! The 'stream ok' flow at real servers of socket.io 2 and 4, whose own client library the pages use.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::stage::{CAME, GONE, SOON, millis};
use crate::support::browser::Browser;
use crate::support::daemon::{Daemon, Setup};
use crate::support::files::{File, Files};
use crate::support::servers::NodeServer;
use crate::support::{heavy, long, report_wall_time};

const PATTERN: [u16; 2] = [1280, 720];
const SIGNED_IN: &[&str] = &["signed in", "name=\"desk\""];
/// How soon the daemon must be signed in after the server's return.
const RETURN_BAR: Duration = Duration::from_secs(6);

const FILES: &[File] = &[
    ("/socketio_page.html", "text/html", include_str!("../data/socketio_page.html")),
    ("/socketio_page.js", "text/javascript", include_str!("../data/socketio_page.js")),
];

/// A server, a daemon that is signed in there, and a browser with a page that is there too.
struct Flow {
    browser: Browser,
    daemon: Daemon,
    server: Option<NodeServer>,
    _files: Files,
}

impl Flow {
    fn open(version: &str, role: &str, args: &[&str]) -> Self {
        let server = NodeServer::start("socketio.js", &[version]);
        let url = format!("socketio+http://{}", server.address);
        let setup = Setup::new(&["--source", "pattern", "--name", "desk", "--signaling", &url]).args(args);
        let (daemon, files) = (setup.start(), Files::serve(FILES));
        daemon.logged(SIGNED_IN, SOON);
        let browser = Browser::start();
        let page = format!("/socketio_page.html?server=http://{}&name=pupil&desk=desk&role={role}", server.address);
        browser.open(&files.url(&page));
        Self { browser, daemon, server: Some(server), _files: files }
    }

    /// Fails unless the page's picture goes on.
    fn goes_on(&self) {
        let script = "
            await lt.until(() => lt.video().videoWidth, args[0], () => 'a picture; ' + JSON.stringify([chat.errors, chat.heard]));
            const now = await lt.number(0, ...args);
            await lt.number(now.number + 10, ...args)";
        self.browser.run::<Value>(script, &[millis(SOON), json!(PATTERN)]);
    }

    /// The names of the events that the page has heard of the daemon's.
    fn heard(&self) -> Vec<String> {
        let script = "return chat.heard.map(([event]) => event).filter((event) => !['connect', 'online', 'stop'].includes(event))";
        self.browser.run(script, &[])
    }

    fn errors(&self) -> Vec<String> {
        self.browser.run("return chat.errors", &[])
    }

    /// The page says that it stops, and then its viewer is gone.
    fn stops(self) {
        assert_eq!(self.errors(), [""; 0]);
        self.browser.run::<Value>("chat.stop()", &[]);
        self.daemon.logged(GONE, SOON);
        assert_eq!(self.daemon.count_logged(CAME), 1);
        self.daemon.stop();
    }
}

fn asks_and_plays(version: &str) {
    let _machine = heavy();
    let flow = Flow::open(version, "asks", &[]);
    flow.goes_on();
    assert_eq!(flow.heard(), ["stream ok", "offer"]);
    flow.stops();
}

#[test]
fn a_page_that_asks_at_socketio_2_is_offered_to_and_plays() {
    asks_and_plays("2");
}

#[test]
fn a_page_that_asks_at_socketio_4_is_offered_to_and_plays() {
    asks_and_plays("4");
}

fn offers_and_plays(version: &str) {
    let _machine = heavy();
    let flow = Flow::open(version, "offers", &[]);
    flow.goes_on();
    assert_eq!(flow.heard(), ["answer"]);
    flow.stops();
}

#[test]
fn a_page_that_offers_at_socketio_2_is_answered_and_plays() {
    offers_and_plays("2");
}

#[test]
fn a_page_that_offers_at_socketio_4_is_answered_and_plays() {
    offers_and_plays("4");
}

#[test]
fn a_page_that_only_waits_is_called_where_that_is_wanted() {
    let _machine = heavy();
    let flow = Flow::open("4", "waits", &["--call", "glob:pup*"]);
    flow.goes_on();
    assert_eq!(flow.heard(), ["offer"]);
    flow.stops();
}

/// Kills and restarts the server under a viewer, which must not notice.
fn outlives(version: &str) {
    let _machine = heavy();
    let mut flow = Flow::open(version, "asks", &[]);
    flow.goes_on();
    let mut server = flow.server.take().unwrap();
    let port = server.address.port().to_string();
    for _ in 0..if long() { 20 } else { 3 } {
        let (away, signed_in) = (flow.daemon.log().mark(), flow.daemon.count_logged(SIGNED_IN));
        server.kill();
        flow.daemon.logged_from(away, &["WARN", "away"], SOON);
        flow.goes_on();
        server = NodeServer::start("socketio.js", &[version, &port]);
        let back = Instant::now();
        flow.daemon.logged_times(signed_in + 1, SIGNED_IN, RETURN_BAR * 10);
        report_wall_time(&format!("signed in again at socket.io {version}"), back.elapsed(), RETURN_BAR);
        flow.goes_on();
        let script = "const online = chat.online; await lt.until(() => chat.online > online || chat.socket.connected, args[0], () => 'the page is not back')";
        flow.browser.run::<Value>(script, &[millis(SOON)]);
    }
    assert_eq!(
        (flow.heard(), flow.errors()),
        (vec!["stream ok".to_owned(), "offer".to_owned()], vec![]),
        "one connection"
    );
    assert_eq!((flow.daemon.count_logged(CAME), flow.daemon.count_logged(GONE)), (1, 0));
    flow.daemon.stop();
}

#[test]
fn a_viewer_does_not_notice_that_a_server_of_socketio_2_restarts() {
    outlives("2");
}

#[test]
fn a_viewer_does_not_notice_that_a_server_of_socketio_4_restarts() {
    outlives("4");
}

#[test]
fn what_others_send_at_such_a_server_harms_nobody() {
    let _machine = heavy();
    let flow = Flow::open("4", "asks", &[]);
    flow.goes_on();
    let script = "
        const id = chat.peer;
        const bytes = (text) => new TextEncoder().encode(text);
        for (const what of [null, 7, 'x', {}, [], { type: 'offer' }, { type: 'answer', sdp: '' }, { candidate: 7 }, bytes('41'), bytes('1')])
          for (const event of ['offer', 'answer', 'candidate']) chat.socket.emit(event, id, what);
        for (let n = 0; n < 300; n += 1) chat.socket.emit('candidate', id, { candidate: 'candidate:1 1 udp 1 192.0.2.7 9 typ host ufrag x' + n });
        chat.socket.emit('chat request', { id, name: bytes('41') });
        chat.socket.emit('offer', id, { type: 'offer', sdp: 'v=0 ' + 'x'.repeat(900000) });
        chat.socket.off('stream ok');
        const heard = new Promise((ok) => chat.socket.on('stream ok', ok));
        chat.socket.emit('chat request', { id, name: 'pupil' });
        await heard";
    flow.browser.run::<Value>(script, &[]);
    flow.goes_on();
    flow.daemon.logged(&["WARN", "of no use"], SOON);
    assert_eq!((flow.daemon.count_logged(SIGNED_IN), flow.daemon.count_logged(&["away"])), (1, 0));
    flow.daemon.stop();
}
