//! The room with real pages of another origin: one that only joins and is called, one that offers by itself.

use serde_json::{Value, json};

use crate::stage::{CAME, GONE, SOON, millis};
use crate::support::browser::Browser;
use crate::support::daemon::{Daemon, Setup};
use crate::support::files::{File, Files};
use crate::support::heavy;

const PATTERN: [u16; 2] = [1280, 720];

const FILES: &[File] = &[
    ("/room_page.html", "text/html", include_str!("../data/room_page.html")),
    ("/room_page.js", "text/javascript", include_str!("../data/room_page.js")),
    ("/room_offers.html", "text/html", include_str!("../data/room_offers.html")),
    ("/room_offers.js", "text/javascript", include_str!("../data/room_offers.js")),
];

/// A daemon, and a browser with a page that is in its room.
pub struct InRoom {
    /// The browser.
    pub browser: Browser,
    /// The daemon.
    pub daemon: Daemon,
    _files: Files,
}

impl InRoom {
    /// Opens a page that joins the room by the address of a server with its code.
    pub fn open(page: &str, args: &[&str]) -> Self {
        let daemon = Setup::new(&["--source", "pattern"]).args(args).start();
        let server = format!("http://{}/k/{}", daemon.http(), daemon.code().unwrap());
        Self::join(daemon, page, &server, "pupil")
    }

    /// Opens a page that joins a server where the daemon is, under a name that the page's address has.
    pub fn join(daemon: Daemon, page: &str, server: &str, name: &str) -> Self {
        let (browser, files) = (Browser::start(), Files::serve(FILES));
        browser.open(&files.url(&format!("{page}?name={name}&server={server}")));
        Self { browser, daemon, _files: files }
    }

    /// Fails unless the page's picture goes on.
    pub fn goes_on(&self) {
        let script = "await lt.until(() => lt.video().videoWidth, args[0], () => 'a picture; errors: ' + room.errors);
                      const now = await lt.number(0, ...args);
                      await lt.number(now.number + 10, ...args)";
        let went_on: Result<Value, String> = self.browser.try_run(script, &[millis(SOON), json!(PATTERN)]);
        if let Err(error) = went_on {
            let script = "const { srcObject, readyState, paused } = lt.video();
                          const tracks = srcObject.getTracks().map(({ id, readyState, muted }) => [id, readyState, muted]);
                          return { readyState, paused, tracks, stats: await lt.stats(room.pc) }";
            let page: Value = self.browser.run(script, &[]);
            panic!("{error}\nthe page: {page}");
        }
    }

    /// The page's errors.
    pub fn errors(&self) -> Vec<String> {
        self.browser.run("return room.errors", &[])
    }

    /// The page leaves: so does its viewer.
    pub fn leaves(&self) {
        self.browser.run::<Value>("await room.leave()", &[]);
        self.daemon.logged(GONE, SOON);
        assert_eq!(self.daemon.count_logged(CAME), 1);
    }
}

#[test]
fn a_page_that_only_joins_is_called_and_plays() {
    let _machine = heavy();
    let room = InRoom::open("/room_page.html", &["--call", "joined"]);
    room.goes_on();
    room.daemon.logged(CAME, SOON);
    let heard: Vec<Value> = room.browser.run("return room.heard", &[]);
    let texts: Vec<&str> = heard.iter().map(|message| message["text"].as_str().unwrap()).collect();
    assert!(texts[0].contains("offer"), "the first message is no offer: {texts:?}");
    for later in &texts[1..] {
        let candidate: Value = serde_json::from_str(later).unwrap();
        assert!(candidate["sdpMLineIndex"].is_number() && !later.contains("offer"), "no candidate: {later}");
    }
    let answer: String = room.browser.run("return room.pc.localDescription.sdp", &[]);
    assert!(answer.contains("a=recvonly") && !answer.contains("a=sendrecv"), "{answer}");
    let stats: Value = room.browser.run("return lt.stats(room.pc)", &[]);
    assert_eq!((&stats["mimeType"], &stats["connectionState"]), (&json!("video/H264"), &json!("connected")), "{stats}");
    assert_eq!(room.errors(), [""; 0]);
    room.leaves();
    room.daemon.stop();
}

#[test]
fn a_page_that_nobody_calls_hears_nothing() {
    let room = InRoom::open("/room_page.html", &["--call", "none"]);
    let script = "await lt.until(() => room.id > 0, args[0], () => 'an id');
                  await lt.pass(2500);
                  return [room.heard.length, Object.values(room.members).length]";
    let [heard, members]: [usize; 2] = room.browser.run(script, &[millis(SOON)]);
    assert_eq!((heard, members), (0, 1), "messages heard, others in the room");
    assert_eq!(room.errors(), [""; 0]);
    room.daemon.stop();
}

#[test]
fn a_page_that_offers_to_talk_is_answered_and_plays() {
    let _machine = heavy();
    let room = InRoom::open("/room_offers.html", &["--call", "none"]);
    let answer: String = room.browser.run("room.talk(); return room.negotiate()", &[]);
    let sections: Vec<&str> = answer.split("\r\nm=").skip(1).collect();
    assert!(sections.len() == 2 && sections[0].starts_with("audio") && sections[1].starts_with("video"), "{answer}");
    for (section, mid) in sections.iter().zip(["audio", "video"]) {
        assert!(section.contains(&format!("\r\na=mid:{mid}\r\n")), "{section}");
        assert!(!section.contains("a=sendrecv") && !section.contains("a=recvonly"), "{section}");
    }
    assert!(sections[1].contains("a=sendonly"), "{answer}");
    room.goes_on();
    assert_eq!(room.errors(), [""; 0]);
    room.leaves();
    room.daemon.stop();
}
