//! The control socket and its commands, with the real daemon: what they say, what they do, and what they leave behind.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::stage::{CAME, GONE, SOON, Stage};
use crate::support::daemon::{Setup, binary};
use crate::support::heavy;
use crate::support::http::request;
use crate::support::process::{Output, Process};

/// How a command ended.
#[derive(Debug)]
struct Done {
    code: Option<i32>,
    out: String,
    err: String,
}

/// A command without any variable that it knows but those of `variables`.
pub fn command(args: &[&str], variables: &[(&str, &Path)]) -> Command {
    let mut command = Command::new(binary());
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("LATERNA_") || text.starts_with("XDG_") {
            command.env_remove(&name);
        }
    }
    command.args(args).envs(variables.iter().copied());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn done(command: &mut Command) -> Done {
    let mut process = Process::spawn(command);
    let (mut out, mut err) = (process.child().stdout.take().unwrap(), process.child().stderr.take().unwrap());
    let status = process.wait(SOON).unwrap_or_else(|| panic!("{command:?} does not end"));
    let (mut done, code) = (Done { code: None, out: String::new(), err: String::new() }, status.code());
    out.read_to_string(&mut done.out).unwrap();
    err.read_to_string(&mut done.err).unwrap();
    Done { code, ..done }
}

/// What a command says of the daemon at `control`; it must succeed.
pub fn says(control: &Path, args: &[&str]) -> String {
    let done = done(&mut command(args, &[("LATERNA_CONTROL", control)]));
    assert!(done.code == Some(0) && done.err.is_empty(), "{args:?}: {done:?}");
    done.out
}

pub fn json_of(control: &Path, args: &[&str]) -> Value {
    let text = says(control, args);
    assert_eq!(text.lines().count(), 1, "{text}");
    serde_json::from_str(&text).unwrap()
}

/// The one line of a command that fails with `code`.
pub fn refused(control: &Path, args: &[&str], code: i32) -> String {
    let done = done(&mut command(args, &[("LATERNA_CONTROL", control)]));
    assert!(done.code == Some(code) && done.out.is_empty(), "{args:?}: {done:?}");
    assert!(done.err.starts_with("laterna: ") && done.err.lines().count() == 1, "{args:?}: {done:?}");
    done.err
}

#[test]
fn a_viewer_is_shown_and_ended_and_its_page_stays_away_until_it_is_loaded_again() {
    let _machine = heavy();
    let stage = Stage::open(&Setup::new(&["--source", "pattern", "--audio", "tone"]), (1280, 720));
    let control = stage.daemon.setup().control();
    let status = json_of(&control, &["status", "--json"]);
    assert_eq!(status["http"], json!([stage.daemon.http()]), "{status}");
    assert_eq!((&status["udp"], &status["max_viewers"]), (&json!(stage.daemon.udp()), &json!(500)), "{status}");
    assert_eq!((&status["size"], &status["source"]["running"]), (&json!("1280x720"), &json!(true)), "{status}");
    assert_eq!(status["sound"]["running"], true, "{status}");
    let viewer = &status["viewers"][0];
    assert_eq!(
        (&viewer["viewer"], &viewer["at"], &viewer["name"], &viewer["state"], &viewer["codecs"]),
        (&json!(1), &json!("whep"), &json!("127.0.0.1"), &json!("connected"), &json!(["h264", "opus"])),
        "{status}"
    );
    assert!(viewer["rtt_ms"].is_u64() && viewer["loss_percent"] == 0, "{status}");
    let [h264, vp8] = [0, 1].map(|index| &status["encoders"][index]);
    assert!(h264["codec"] == "h264" && h264["running"] == true && h264["units"].as_u64() > Some(0), "{status}");
    assert!(vp8["codec"] == "vp8" && vp8["running"] == false && vp8["units"] == 0, "{status}");
    assert!(
        status["signaling"][0]["server"] == "room" && status["signaling"][0]["standing"] == "signed-in",
        "{status}"
    );
    let words = says(&control, &["status"]);
    for part in
        ["viewers: 1 connected, of 500 at most", "127.0.0.1", "h264,opus", "room", &stage.daemon.http().to_string()]
    {
        assert!(words.contains(part), "no {part} in:\n{words}");
    }
    println!("{words}");
    let code = stage.daemon.code().unwrap();
    assert!(!words.contains(&code) && !status.to_string().contains(&code), "the code is a secret");

    let mut watching = Process::spawn(&mut command(&["status", "--watch", "--json"], &[("LATERNA_CONTROL", &control)]));
    let watched = Output::follow(watching.child().stdout.take().unwrap());
    assert!(watched.wait(SOON, |line| line.contains("\"state\":\"connected\"")).is_some());
    assert!(refused(&control, &["kick", "2"], 1).contains("no viewer has the number 2"));
    assert!(says(&control, &["kick", "1"]).starts_with("ended viewer 1 (127.0.0.1 at whep); its page stays away"));
    stage.daemon.logged(&[GONE[0], "viewer=1", "ended by the operator"], SOON);
    stage.awaits_state(&["dismissed"], SOON);
    assert!(watched.wait(SOON, |line| line.contains("\"viewers\":[]")).is_some(), "{}", watched.tail(9));
    stage.browser.run::<Value>("return lt.pass(3000)", &[]);
    stage.awaits_state(&["dismissed"], SOON);
    assert_eq!(stage.daemon.count_logged(CAME), 1, "it came back by itself");
    assert!(refused(&control, &["kick", "1"], 1).contains("no viewer"));
    stage.browser.run::<Value>("location.reload()", &[]);
    stage.awaits_state(&["playing"], SOON);
    let status = json_of(&control, &["status", "--json"]);
    assert_eq!(status["viewers"][0]["viewer"], 2, "{status}");

    stage.daemon.stop();
    let ended = watching.wait(SOON).unwrap();
    assert_eq!(ended.code(), Some(0));
    let lines = watched.lines();
    assert!(lines.len() <= 12 && lines.windows(2).all(|pair| pair[0].text != pair[1].text), "{}", watched.tail(20));
    assert!(!control.exists());
}

#[test]
fn members_of_the_room_are_listed_and_called_by_name_and_id() {
    let daemon = Setup::new(&["--source", "pattern", "--name", "the desk"]).start();
    let (to, control) = (daemon.http(), daemon.setup().control());
    let under = |path: &str| format!("/k/{}{path}", daemon.code().unwrap());
    let sign_in = |name: &str| {
        let signed_in = request(to, "GET", &under(&format!("/sign_in?{name}")), &[], b"");
        signed_in.header("pragma").unwrap().parse::<u64>().unwrap()
    };
    let offer_to = |id: u64| {
        let reply = request(to, "GET", &under(&format!("/wait?peer_id={id}")), &[], b"");
        let offer: Value = serde_json::from_str(&reply.body).unwrap();
        assert_eq!(offer["type"], "offer");
        assert!(offer["sdp"].as_str().unwrap().contains("a=sendonly\r\n"), "{offer}");
    };
    assert!(says(&control, &["peers"]).contains("room: signed in as the desk\n  nobody else is there"));
    let [old, bob, new] = ["alice", "bob", "alice"].map(sign_in);
    let peers = json_of(&control, &["peers", "--json"]);
    let listed = json!([{ "id": old, "name": "alice" }, { "id": bob, "name": "bob" }, { "id": new, "name": "alice" }]);
    assert_eq!((&peers[0]["name"], &peers[0]["peers"]), (&json!("the desk"), &listed));
    assert_eq!(says(&control, &["call", "alice"]), format!("called alice ({new} at room)\n"));
    offer_to(new);
    assert!(refused(&control, &["call", "alice"], 1).contains("under way"));
    assert!(refused(&control, &["call", "carol"], 1).contains("carol"));
    assert!(refused(&control, &["call", "alice", "--server", "moon"], 1).contains("room"));
    says(&control, &["call", &bob.to_string(), "--server", "room"]);
    offer_to(bob);
    let status = json_of(&control, &["status", "--json"]);
    let viewers: Vec<_> =
        status["viewers"].as_array().unwrap().iter().map(|v| (&v["name"], &v["at"], &v["state"])).collect();
    let (room, joining) = (json!("room"), json!("joining"));
    assert_eq!(viewers, [(&json!("alice"), &room, &joining), (&json!("bob"), &room, &joining)]);
    assert_eq!(status["signaling"][0]["peers"][2], json!({ "id": new, "name": "alice", "viewer": 1 }));
    assert!(says(&control, &["kick", "1"]).starts_with("ended viewer 1 (alice at room); it is not called again"));
    daemon.logged(&["viewer never connected", "viewer=1", "ended by the operator"], SOON);
    daemon.stop();
}

#[test]
fn ice_servers_are_shown_with_their_standing_and_without_their_credentials() {
    let directory = tempfile::tempdir().unwrap();
    let password = directory.path().join("password");
    std::fs::write(&password, "hunter2\n").unwrap();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let relay = format!("turn:{closed}?transport=tcp&user=pupil&password-file={}", password.display());
    let args = ["--source", "pattern", "--ice-server", &relay, "--ice-server", "stuns:127.0.0.1:9"];
    let daemon = Setup::new(&args).start();
    let control = daemon.setup().control();
    daemon.logged(&["relay is away"], SOON);
    let status = json_of(&control, &["status", "--json"]);
    let [relay, stuns] = [0, 1].map(|index| &status["ice_servers"][index]);
    let url = format!("turn:{closed}?transport=tcp");
    assert_eq!((&relay["url"], &relay["standing"]), (&json!(url), &json!("away")), "{status}");
    assert!(relay["why"].as_str().unwrap().contains("Connection refused"), "{status}");
    assert_eq!(*stuns, json!({ "url": "stuns:127.0.0.1:9", "standing": "for-viewers" }), "{status}");
    let words = says(&control, &["status"]);
    let line = words.lines().find(|line| line.contains(&url)).unwrap();
    assert!(line.contains("away, tries again: ") && line.contains("Connection refused"), "{words}");
    for secret in ["hunter2", "pupil", password.to_str().unwrap()] {
        assert!(!words.contains(secret) && !status.to_string().contains(secret), "{words}");
    }
    daemon.stop();
}

#[test]
fn a_filter_of_networks_that_leaves_none_is_said() {
    let daemon = Setup::new(&["--source", "pattern", "--network", "!*"]).start();
    let line = daemon.logged(&["WARN", "no address but"], SOON).text;
    println!("{line}");
    daemon.stop();
}

#[test]
fn where_no_daemon_is_or_the_command_is_wrong_one_line_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let nowhere = directory.path().join("control.sock");
    for args in [&["status"][..], &["status", "--watch"], &["peers", "--json"], &["call", "x"], &["kick", "1"]] {
        let line = refused(&nowhere, args, 1);
        assert!(line.contains(&nowhere.display().to_string()) && line.contains("laterna run"), "{line}");
    }
    assert!(refused(directory.path(), &["status"], 1).contains("it is a directory"));
    for args in [&["kick"][..], &["kick", "me"], &["call"], &["call", ""], &["status", "now"], &["peers", "--xml"]] {
        refused(&nowhere, args, 2);
    }
    // Something else that listens there.
    let strange = std::os::unix::net::UnixListener::bind(&nowhere).unwrap();
    let answering = std::thread::spawn(move || strange.accept().unwrap().0.write_all(b"220 mail.example ESMTP\r\n"));
    let line = refused(&nowhere, &["status"], 1);
    assert!(line.contains("no laterna daemon"), "{line}");
    answering.join().unwrap().unwrap();
}

#[test]
fn the_default_place_is_private_found_by_the_commands_and_given_back() {
    let runtime = tempfile::tempdir().unwrap();
    let setup = Setup::new(&["--source", "pattern", "--auth", "none"]).runtime(runtime.path());
    let daemon = setup.start();
    let control = setup.control();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&control), mode(control.parent().unwrap())), (0o600, 0o700));
    let status = || done(&mut command(&["status", "--json"], &[("XDG_RUNTIME_DIR", runtime.path())]));
    assert_eq!(status().code, Some(0));

    // Garbage, a line without an end, and one who does not read: the next command is answered all the same.
    let mut hostile = UnixStream::connect(&control).unwrap();
    hostile.write_all(b"\0\0\xff garbage\n{\"laterna\":2,\"ask\":\"kick\"}\n").unwrap();
    hostile.write_all(&vec![b'['; 1 << 20]).unwrap();
    assert_eq!(status().code, Some(0));

    let second = Setup::new(&["--source", "pattern", "--listen", "127.0.0.1:0", "--udp-port", "0"]);
    let failure = second.runtime(runtime.path()).fail();
    assert_eq!(failure.status.code(), Some(1), "{failure:#?}");
    let last = failure.stderr.last().unwrap();
    assert!(last.contains("another daemon has it") && last.contains("--control PATH"), "{last}");
    assert_eq!(status().code, Some(0), "the first one goes on");

    let setup = daemon.crash();
    assert!(control.exists());
    let daemon = setup.start();
    assert_eq!(status().code, Some(0), "the dead one is replaced");
    daemon.stop();
    assert_eq!(std::fs::read_dir(control.parent().unwrap()).unwrap().count(), 0);
}

#[test]
fn a_place_that_was_asked_for_and_can_not_be_made_is_exit_1() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "kept").unwrap();
    for place in [file.clone(), file.join("control.sock")] {
        let place = place.to_str().unwrap();
        let failure =
            Setup::new(&["--source", "pattern", "--listen", "off", "--udp-port", "0", "--control", place]).fail();
        assert_eq!(failure.status.code(), Some(1), "{failure:#?}");
        assert!(failure.stderr.last().unwrap().contains(place) && failure.stdout.is_empty(), "{failure:#?}");
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "kept");
}
