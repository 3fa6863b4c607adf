//! A daemon that is signed in at all systems at once, with one viewer from each, off one encoder.

use serde_json::{Value, json};

use crate::control::json_of;
use crate::signaled::SIGNED_IN;
use crate::stage::{CAME, GONE, SOON, millis};
use crate::support::browser::Browser;
use crate::support::daemon::Setup;
use crate::support::files::{File, Files};
use crate::support::heavy;
use crate::support::servers::NodeServer;

const FILES: &[File] = &[
    ("/frames_page.html", "text/html", include_str!("../data/frames_page.html")),
    ("/room_page.html", "text/html", include_str!("../data/room_page.html")),
    ("/room_page.js", "text/javascript", include_str!("../data/room_page.js")),
    ("/mdn_page.html", "text/html", include_str!("../data/mdn_page.html")),
    ("/mdn_page.js", "text/javascript", include_str!("../data/mdn_page.js")),
    ("/channel_page.html", "text/html", include_str!("../data/channel_page.html")),
    ("/channel_page.js", "text/javascript", include_str!("../data/channel_page.js")),
    ("/socketio_page.html", "text/html", include_str!("../data/socketio_page.html")),
    ("/socketio_page.js", "text/javascript", include_str!("../data/socketio_page.js")),
];

#[test]
fn one_encoder_serves_a_viewer_from_each_system() {
    let _machine = heavy();
    let http = NodeServer::start("webrtc_signal_http.js", &["0"]);
    let mdn = NodeServer::start("mdn.js", &["0"]);
    let socketio = NodeServer::start("socketio.js", &["4"]);
    let channel = NodeServer::start("channel.js", &["0"]);
    let sfu = NodeServer::start("whip_receiver.py", &["0"]);
    let urls = [
        format!("peerconnection+http://{}?sign-in=peer_name%3D{{name}}", http.address),
        format!("mdn+ws://{}/", mdn.address),
        format!("socketio+http://{}", socketio.address),
        format!("channel+ws://{}/", channel.address),
        format!("whip+http://{}/whip", sfu.address),
    ];
    let args = ["--source", "pattern", "--size", "640x360", "--name", "desk", "--call", "joined", "--signaling"];
    let daemon = Setup::new(&args).args(&[&urls.join(",")]).start();
    daemon.logged_times(4, SIGNED_IN, SOON);

    let (browser, files) = (Browser::start(), Files::serve(FILES));
    browser.open(&files.url("/frames_page.html"));
    let room = format!("http://{}/k/{}", daemon.http(), daemon.code().unwrap());
    let pages = [
        format!("/room_page.html?name=embedded&server={room}"),
        format!("/room_page.html?name=peer_name%3Dpupil&server=http://{}", http.address),
        format!("/mdn_page.html?name=pupil&server=ws://{}/", mdn.address),
        format!("/socketio_page.html?name=pupil&desk=desk&role=waits&server=http://{}", socketio.address),
        format!("/channel_page.html?key=desc&waits=1&server=ws://{}/", channel.address),
    ];
    let script = "
        for (const page of args[1]) document.body.appendChild(document.createElement('iframe')).src = page;
        const videos = () => Array.from(frames).map((frame) => frame.document.querySelector('video'));
        const pictures = () => videos().map((video) => video?.getVideoPlaybackQuality().totalVideoFrames ?? 0);
        const grow = (from, by) => lt.until(() => pictures().every((count, i) => count >= from[i] + by), args[0], () => `pictures: ${pictures()}`);
        await grow(pictures().map(() => 0), 1);
        await grow(pictures(), 20);
        return pictures().length";
    let playing: usize = browser.run(script, &[millis(SOON), json!(pages)]);
    assert_eq!(playing, pages.len());
    let published = sfu.output.wait_nth(2, 0, SOON, |line| line.starts_with("frames "));
    assert!(published.is_some(), "{}", sfu.output.tail(20));

    daemon.logged_times(pages.len() + 1, CAME, SOON);
    let status: Value = json_of(&daemon.setup().control(), &["status", "--json"]);
    let mut at: Vec<_> = status["viewers"].as_array().unwrap().iter().map(|viewer| viewer["at"].to_string()).collect();
    at.sort();
    at.dedup();
    assert_eq!(at.len(), pages.len() + 1, "{at:?}");
    let encoders = status["encoders"].as_array().unwrap();
    let running: Vec<_> = encoders.iter().filter(|encoder| encoder["running"] == true).collect();
    assert_eq!(running.len(), 1, "{encoders:?}");
    assert_eq!(daemon.count_logged(GONE), 0);
    daemon.stop();
}
