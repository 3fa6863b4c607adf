//! A daemon that is a client of a signaling server, the server, and a page there: what all of these protocols have to do alike.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::stage::{CAME, GONE, SOON, millis};
use crate::support::browser::Browser;
use crate::support::daemon::Daemon;
use crate::support::files::{File, Files};
use crate::support::servers::NodeServer;
use crate::support::{long, report_wall_time};

/// What the log line says once the daemon is signed in.
pub const SIGNED_IN: &[&str] = &["signed in", "server="];
/// What it says once the server is away.
pub const AWAY: &[&str] = &["signaling server is away"];
/// How soon after its return the daemon is to be signed in to a server.
const AGAIN: Duration = Duration::from_secs(6);
const PATTERN: [u16; 2] = [1280, 720];

const FILES: &[File] = &[
    ("/mdn_page.html", "text/html", include_str!("../data/mdn_page.html")),
    ("/mdn_page.js", "text/javascript", include_str!("../data/mdn_page.js")),
    ("/channel_page.html", "text/html", include_str!("../data/channel_page.html")),
    ("/channel_page.js", "text/javascript", include_str!("../data/channel_page.js")),
];

/// A browser with pages that have `window.viewer`.
pub struct Pages {
    /// The browser.
    pub browser: Browser,
    files: Files,
}

impl Pages {
    /// Starts a browser with more arguments.
    pub fn new(args: &[&str]) -> Self {
        Self { browser: Browser::start_with(args), files: Files::serve(FILES) }
    }

    /// Opens a page in the present window.
    pub fn open(&self, page: &str) {
        self.browser.open(&self.files.url(page));
    }

    /// Awaits that this is true in the page.
    pub fn awaits(&self, condition: &str) {
        let what = "() => `${args[1]}: ${JSON.stringify({ ...viewer, pc: null, kept: null })}`";
        let script = format!("await lt.until(() => {condition}, args[0], {what})");
        self.browser.run::<Value>(&script, &[millis(SOON), json!(condition)]);
    }

    /// Fails unless the page's picture goes on.
    pub fn goes_on(&self) {
        let script =
            "await lt.until(() => lt.video().videoWidth, args[0], () => 'a picture; errors: ' + viewer.errors);
                      const now = await lt.number(0, ...args);
                      await lt.number(now.number + 10, ...args)";
        self.browser.run::<Value>(script, &[millis(SOON), json!(PATTERN)]);
    }

    /// The page's errors.
    pub fn errors(&self) -> Vec<String> {
        self.browser.run("return viewer.errors", &[])
    }
}

/// Kills the server and starts it again at the same port, three times (twenty where all is to be tested): the page's picture goes on meanwhile, and the daemon comes back. Gives the last one.
pub fn restarted(mut server: NodeServer, script: &str, daemon: &Daemon, pages: &Pages) -> NodeServer {
    let port = server.address.port().to_string();
    pages.browser.run::<Value>("viewer.kept = viewer.pc", &[]);
    for round in 1..=if long() { 20 } else { 3 } {
        server.kill();
        daemon.logged_times(round, AWAY, SOON);
        pages.goes_on();
        server = NodeServer::start(script, &[&port]);
        let back = Instant::now();
        daemon.logged_times(round + 1, SIGNED_IN, AGAIN * 10);
        report_wall_time("signed in again", back.elapsed(), AGAIN);
        pages.awaits(&format!("viewer.connections > {round}"));
        pages.goes_on();
        assert_eq!(daemon.count_logged(AWAY), round, "one line for each change");
    }
    let stats: Value = pages.browser.run("return lt.stats(viewer.kept)", &[]);
    println!("packets lost: {}, frames dropped: {}", stats["packetsLost"], stats["framesDropped"]);
    let state = &stats["connectionState"];
    assert_eq!((state, daemon.count_logged(CAME), daemon.count_logged(GONE)), (&json!("connected"), 1, 0));
    server
}
