//! The daemon as a user of MDN's chat server, with real pages there: one that offers, one that is called.

use serde_json::{Value, json};

use crate::control::json_of;
use crate::signaled::{AWAY, Pages, SIGNED_IN, restarted};
use crate::stage::{CAME, GONE, SOON};
use crate::support::certificates::Certificates;
use crate::support::daemon::{Daemon, Setup};
use crate::support::heavy;
use crate::support::servers::NodeServer;

const SERVER: &str = "mdn.js";

fn daemon_at(url: &str, args: &[&str]) -> Daemon {
    let daemon = Setup::new(&["--source", "pattern", "--name", "desk", "--signaling", url]).args(args).start();
    daemon.logged(SIGNED_IN, SOON);
    daemon
}

#[test]
fn a_page_that_offers_to_a_daemon_of_another_name_plays_and_hangs_up() {
    let _machine = heavy();
    let (server, pages) = (NodeServer::start(SERVER, &["0"]), Pages::new(&[]));
    // The page has the daemon's name.
    pages.open(&format!("/mdn_page.html?name=desk&server=ws://{}/chat", server.address));
    pages.awaits("viewer.users.includes('desk')");
    let daemon = daemon_at(&format!("mdn+ws://{}/chat", server.address), &[]);
    daemon.logged(&["signed in", "desk1"], SOON);
    pages.awaits("viewer.users.includes('desk1')");
    pages.browser.run::<Value>("await viewer.offer('desk1')", &[]);
    pages.goes_on();
    daemon.logged(CAME, SOON);
    pages.browser.run::<Value>("viewer.hangUp()", &[]);
    daemon.logged(GONE, SOON);
    assert_eq!(pages.errors(), [""; 0]);
    daemon.stop();
    pages.awaits("!viewer.users.includes('desk1')");
    let faults: Vec<_> = server.output.lines().into_iter().filter(|line| line.text.starts_with("fault")).collect();
    assert!(faults.is_empty(), "{faults:?}");
}

#[test]
fn a_user_of_an_encrypted_server_is_called_and_plays() {
    let _machine = heavy();
    let certificates = Certificates::make();
    let text = |path: std::path::PathBuf| path.to_str().unwrap().to_owned();
    let files = [text(certificates.certificate()), text(certificates.key())];
    let server = NodeServer::start(SERVER, &["0", &files[0], &files[1]]);
    let url = format!("mdn+wss://{}/", server.address);

    let stranger = Setup::new(&["--source", "pattern", "--signaling", &url]).start();
    let refusal = stranger.logged(AWAY, SOON).text;
    assert!(
        refusal.contains("its certificate is not accepted: nobody whom this machine trusts has signed it"),
        "{refusal}"
    );
    stranger.stop();

    let daemon = daemon_at(&format!("{url}?ca-file={}&call=glob:pupil*", text(certificates.authority())), &[]);
    let pages = Pages::new(&["--ignore-certificate-errors"]);
    pages.open(&format!("/mdn_page.html?name=pupil&server=wss://{}/", server.address));
    pages.goes_on();
    daemon.logged(CAME, SOON);
    let offers: u32 = pages.browser.run("return viewer.offers", &[]);
    assert_eq!((offers, pages.errors()), (1, vec![]));
    daemon.stop();
}

#[test]
fn a_viewer_sees_nothing_of_its_servers_restarts() {
    let _machine = heavy();
    let (server, pages) = (NodeServer::start(SERVER, &["0"]), Pages::new(&[]));
    let daemon = daemon_at(&format!("mdn+ws://{}/", server.address), &[]);
    pages.open(&format!("/mdn_page.html?name=pupil&server=ws://{}/", server.address));
    pages.awaits("viewer.users.includes('desk') && viewer.users.includes('pupil')");
    pages.browser.run::<Value>("await viewer.offer('desk')", &[]);
    pages.goes_on();
    daemon.logged(CAME, SOON);
    let _server = restarted(server, SERVER, &daemon, &pages);
    pages.awaits("viewer.users.includes('desk') && viewer.users.includes('pupil')");
    pages.browser.run::<Value>("await viewer.offer('desk')", &[]);
    pages.goes_on();
    daemon.logged_times(2, CAME, SOON);
    assert_eq!(pages.errors(), [""; 0]);
    daemon.stop();
}

#[test]
fn a_page_that_was_called_and_comes_back_later_than_the_daemon_keeps_its_picture() {
    let _machine = heavy();
    let (server, pages) = (NodeServer::start(SERVER, &["0"]), Pages::new(&[]));
    let (port, url) = (server.address.port().to_string(), format!("ws://{}/", server.address));
    let daemon = daemon_at(&format!("mdn+{url}?call=glob:pupil*"), &[]);
    pages.open(&format!("/mdn_page.html?name=pupil&server={url}"));
    pages.goes_on();
    daemon.logged(CAME, SOON);
    pages.browser.run::<Value>("viewer.waits = true", &[]);
    server.kill();
    daemon.logged(AWAY, SOON);
    let _server = NodeServer::start(SERVER, &[&port]);
    daemon.logged_times(2, SIGNED_IN, SOON);
    pages.browser.run::<Value>("viewer.connect()", &[]);
    pages.awaits("viewer.users.includes('desk') && viewer.users.includes('pupil')");
    let listed = json_of(&daemon.setup().control(), &["peers", "--json"]);
    let (at_server, viewer) = (&listed[1]["peers"], json!([{ "id": 2, "name": "pupil", "viewer": 1 }]));
    assert_eq!(at_server, &viewer, "the operator sees who watches");
    // Whoever comes after it is called, and it would have been before.
    let windows = pages.browser.new_window();
    pages.open(&format!("/mdn_page.html?name=pupil2&server={url}"));
    daemon.logged_times(2, CAME, SOON);
    pages.browser.switch(&windows.before);
    pages.goes_on();
    let offers: u32 = pages.browser.run("return viewer.offers", &[]);
    assert_eq!((offers, daemon.count_logged(CAME), daemon.count_logged(GONE)), (1, 2, 0));
    assert_eq!(pages.errors(), [""; 0]);
    daemon.stop();
}
