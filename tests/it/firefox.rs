//! Firefox, which has VP8 but no H.264 of its own: what it can play it plays, what it can't it says.

use serde_json::Value;

use crate::stage::{SOON, millis};
use crate::support::daemon::Setup;
use crate::support::firefox::{Autoplay, Firefox};
use crate::support::heavy;
use crate::support::page::Page;

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
