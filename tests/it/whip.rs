//! Publishing by WHIP to a receiver that others wrote: aiortc behind a small endpoint (`tests/servers/whip_receiver.py`).

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::control::{json_of, says};
use crate::stage::SOON;
use crate::support::daemon::{Daemon, Setup};
use crate::support::long;
use crate::support::servers::NodeServer;

const SCRIPT: &str = "whip_receiver.py";
/// A server that vanished is noticed after 12 s without a word of it.
const VANISHED: Duration = Duration::from_secs(30);
const PUBLISHING: &[&str] = &["INFO", "publishing", "whip+http"];
const AWAY: &[&str] = &["WARN", "not publishing, and trying again"];

fn receiver(arguments: &[&str]) -> NodeServer {
    NodeServer::start(SCRIPT, &[&["0"], arguments].concat())
}

fn publisher(server: &NodeServer, options: &str, more: &[&str]) -> Setup {
    let transport = if options.contains("ca-file") { "https" } else { "http" };
    let url = format!("whip+{transport}://{}/whip{options}", server.address);
    Setup::new(&["--source", "pattern", "--size", "640x360", "--signaling", &url]).args(more)
}

/// Awaits a line of the receiver from `mark` on that begins with `word`; gives its words.
fn said(server: &NodeServer, mark: usize, word: &str, within: Duration) -> Vec<String> {
    let line = server.output.wait_from(mark, within, |line| line.split(' ').next() == Some(word));
    let line = line.unwrap_or_else(|| panic!("no {word:?} within {within:?}:\n{}", server.output.tail(40)));
    line.text.split(' ').map(str::to_owned).collect()
}

/// Awaits decoded pictures of the pattern from `mark` on, each with a later number in it.
fn awaits_pictures(server: &NodeServer, mark: usize) {
    let is_picture = |line: &str| line.starts_with("frames ");
    let last = server.output.wait_nth(4, mark, SOON, is_picture);
    assert!(last.is_some(), "no pictures:\n{}", server.output.tail(40));
    let lines = server.output.lines();
    let pictures: Vec<_> = lines[mark..].iter().filter(|line| is_picture(&line.text)).take(4).collect();
    let numbers: Vec<i64> = pictures.iter().map(|line| line.text.split(' ').nth(3).unwrap().parse().unwrap()).collect();
    assert!(numbers[0] >= 0 && numbers.is_sorted_by(|one, next| one < next), "the strip says {numbers:?}");
    assert!(pictures.iter().all(|line| line.text.ends_with(" 640x360")), "{:?}", pictures[0].text);
}

/// Makes a certificate for 127.0.0.1 that signs itself; gives the file of it, and that of it and its key.
fn certificate(directory: &Path) -> [String; 2] {
    let path = |name: &str| directory.join(name).to_str().unwrap().to_owned();
    let config = "[req]\ndistinguished_name=dn\nx509_extensions=ext\n[dn]\n[ext]\nsubjectAltName=IP:127.0.0.1\n";
    fs::write(path("config"), config).unwrap();
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=sfu", "-newkey", "ec"]);
    command.args(["-pkeyopt", "ec_paramgen_curve:P-256", "-config", &path("config"), "-keyout", &path("key")]);
    let output = command.args(["-out", &path("ca.pem")]).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let [key, ca] = ["key", "ca.pem"].map(|name| fs::read_to_string(path(name)).unwrap());
    fs::write(path("server.pem"), key + &ca).unwrap();
    [path("ca.pem"), path("server.pem")]
}

fn stops(daemon: Daemon, server: &NodeServer) {
    let mark = server.output.mark();
    daemon.stop();
    said(server, mark, "ended", Duration::from_secs(3));
}

#[test]
fn an_sfu_gets_pictures_and_sound_and_is_told_the_end() {
    let state = tempfile::tempdir().unwrap();
    let [ca, pem] = certificate(state.path());
    let server = receiver(&["--redirect", "--token", "a.Token-1", "--tls", &pem]);
    let token = state.path().join("token");
    fs::write(&token, "a.Token-1\n").unwrap();
    let options = format!("?token-file={}&ca-file={ca}", token.display());
    let daemon = publisher(&server, &options, &["--audio", "tone", "--codec", "h264", "--log", "debug"]).start();
    assert_eq!(said(&server, 0, "offered", SOON)[1..], ["1", "/elsewhere"]);
    daemon.logged(PUBLISHING, SOON);
    awaits_pictures(&server, 0);
    said(&server, 0, "sound", SOON);
    assert_eq!(daemon.count_logged(&["a relay that the server names"]), 0, "it is reached without one");
    let log = daemon.log().clone();
    stops(daemon, &server);
    let secret = |word: &str| log.lines().iter().any(|line| line.text.contains(word));
    assert!(!secret("a.Token-1") && !secret("hidden"), "secrets are not logged");
}

#[test]
fn a_server_whose_ice_is_lite_and_that_hangs_up_is_published_to_again() {
    let server = receiver(&["--lite", "--hang-up", "60"]);
    let codec = if cfg!(feature = "vp8") { "vp8" } else { "h264" };
    let daemon = publisher(&server, "", &["--codec", codec]).start();
    let mut mark = 0;
    for session in ["1", "2"] {
        awaits_pictures(&server, mark);
        for word in ["hung-up", "ended"] {
            assert_eq!(said(&server, mark, word, SOON)[1], session);
        }
        let ended = format!("ended {session}");
        mark = 1 + server.output.lines().iter().rposition(|line| line.text == ended).unwrap();
    }
    daemon.logged_times(2, PUBLISHING, SOON);
    daemon.stop();
}

#[test]
fn a_token_that_is_wrong_or_gone_is_said_once_and_read_again_at_each_try() {
    let server = receiver(&["--token", "right"]);
    let state = tempfile::tempdir().unwrap();
    let token = state.path().join("token");
    fs::write(&token, "wrong").unwrap();
    let daemon = publisher(&server, &format!("?token-file={}", token.display()), &[]).start();
    let refused = server.output.wait_nth(3, 0, SOON, |line| line == "unauthorized POST");
    assert!(refused.is_some(), "it is tried again:\n{}", server.output.tail(40));
    daemon.logged(&["WARN", "401 Unauthorized: a token is needed"], SOON);
    fs::remove_file(&token).unwrap();
    daemon.logged(&["WARN", "the token file", "No such file"], SOON);
    fs::write(&token, "right").unwrap();
    daemon.logged(PUBLISHING, SOON);
    awaits_pictures(&server, 0);
    assert_eq!(daemon.count_logged(AWAY), 2, "one line for each reason:\n{}", daemon.log().tail(30));
    stops(daemon, &server);
}

#[test]
fn a_token_that_is_not_there_at_the_start_is_an_end_that_names_it() {
    let url = "whip+http://127.0.0.1:9/whip?token-file=/nowhere/token";
    let failure = Setup::new(&["--source", "pattern", "--signaling", url]).fail();
    assert_eq!(failure.status.code(), Some(1));
    let last = failure.stderr.last().unwrap();
    assert!(last.contains("--signaling whip+http://127.0.0.1:9/whip: ") && last.contains("/nowhere/token"), "{last}");
}

#[test]
fn a_publication_that_the_operator_ended_stays_away_until_it_is_called() {
    let server = receiver(&[]);
    let daemon = publisher(&server, "", &[]).start();
    let (control, label) = (daemon.setup().control(), format!("whip+http://{}/whip", server.address));
    daemon.logged(PUBLISHING, SOON);
    awaits_pictures(&server, 0);
    let at = |status: &Value| {
        let servers = status["signaling"].as_array().unwrap();
        servers.iter().find(|at| at["server"] == label.as_str()).unwrap().clone()
    };
    let sfu = at(&json_of(&control, &["status", "--json"]));
    let peers = json!([{ "id": 1, "name": label, "viewer": 1 }]);
    assert_eq!((&sfu["standing"], &sfu["peers"]), (&json!("publishing"), &peers), "{sfu}");
    let mark = server.output.mark();
    let words = says(&control, &["kick", "1"]);
    assert!(words.contains("nothing is published there until") && words.contains(&label), "{words}");
    said(&server, mark, "ended", SOON);
    daemon.logged(&["INFO", "the operator has ended it"], SOON);
    let sfu = at(&json_of(&control, &["status", "--json"]));
    assert_eq!((&sfu["standing"], &sfu["peers"][0]["viewer"]), (&json!("dismissed"), &Value::Null), "{sfu}");
    let mark = server.output.mark();
    says(&control, &["call", &label]);
    daemon.logged_times(2, PUBLISHING, SOON);
    awaits_pictures(&server, mark);
    let status = json_of(&control, &["status", "--json"]);
    assert_eq!(at(&status)["peers"][0]["viewer"], 2, "nothing was tried between: {status}");
    stops(daemon, &server);
}

#[test]
fn a_server_that_is_killed_and_comes_again_gets_the_stream_again() {
    let mut server = receiver(&[]);
    let port = server.address.port().to_string();
    let daemon = publisher(&server, "", &[]).start();
    daemon.logged(PUBLISHING, SOON);
    awaits_pictures(&server, 0);
    for turn in 1..=if long() { 20 } else { 3 } {
        let mark = daemon.log().mark();
        server.kill();
        daemon.logged_from(mark, AWAY, VANISHED);
        daemon.logged_from(mark, &["can't be reached"], VANISHED);
        server = NodeServer::start(SCRIPT, &[&port]);
        daemon.logged_from(mark, PUBLISHING, SOON);
        awaits_pictures(&server, 0);
        println!("turn {turn}: published again");
    }
    stops(daemon, &server);
}
