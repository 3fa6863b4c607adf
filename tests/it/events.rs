//! `laterna events`, and the problems of `laterna status`: what happens is told as it happens, and what is wrong with what to do.

use std::process::Stdio;

use serde_json::Value;

use crate::control::{command, json_of, says};
use crate::stage::{SOON, Stage};
use crate::support::daemon::{Daemon, Setup};
use crate::support::process::{Output, Process};
use crate::support::xclient::XClient;
use crate::support::xvfb::Xvfb;
use crate::support::{heavy, http};

const OFFER: &str = include_str!("../data/offers/chromium-recvonly-video.sdp");

/// A `laterna events` that has heard its first line.
struct Follower {
    process: Process,
    output: Output,
}

impl Follower {
    fn start(daemon: &Daemon, args: &[&str]) -> Self {
        let control = daemon.setup().control();
        let args: Vec<_> = ["events"].iter().chain(args).copied().collect();
        let mut process = Process::spawn(command(&args, &[("LATERNA_CONTROL", &control)]).stderr(Stdio::inherit()));
        let output = Output::follow(process.child().stdout.take().unwrap());
        let follower = Self { process, output };
        follower.hears(&["following"]);
        follower
    }

    /// Awaits a line with all of these words.
    fn hears(&self, words: &[&str]) -> String {
        let line = self.output.wait(SOON, |line| words.iter().all(|word| line.contains(word)));
        line.unwrap_or_else(|| panic!("no {words:?} in:\n{}", self.output.tail(30))).text
    }

    fn ends(mut self) {
        assert_eq!(self.process.wait(SOON).and_then(|status| status.code()), Some(0));
    }
}

/// What is lost or away, by the daemon's own word; how quick a busy machine is, is another matter.
fn problems(daemon: &Daemon) -> Vec<Value> {
    let status = json_of(&daemon.setup().control(), &["status", "--json"]);
    let mut problems = status["problems"].as_array().unwrap().clone();
    problems.retain(|problem| {
        let what = problem["what"].as_str().unwrap();
        what.contains(" is lost") || what.contains(" is away")
    });
    problems
}

#[test]
fn a_viewer_and_the_loss_of_its_screen_are_told_to_all_who_follow() {
    let _machine = heavy();
    let mut screen = Xvfb::start(640, 480);
    let mut client = XClient::open(&screen.display());
    client.fill_with_text();
    let setup = Setup::new(&["--source", "screen"]).display(&screen.display());
    let stage = Stage::open(&setup, screen.size());
    let daemon = &stage.daemon;
    let all = [Follower::start(daemon, &["--json"]), Follower::start(daemon, &[])];
    let control = daemon.setup().control();
    assert_eq!(problems(daemon), Vec::<Value>::new());
    let status = json_of(&control, &["status", "--json"]);
    assert_eq!(status["viewers"][0]["way"], "udp", "{status}");
    assert!(status["viewers"][0]["quality"].is_string(), "{status}");

    drop(client);
    screen.kill();
    for follower in &all {
        follower.hears(&["source-lost", "640x480"]);
    }
    let found = problems(daemon);
    assert!(found.len() == 1 && found[0]["what"].as_str().unwrap().contains("is lost"), "{found:?}");
    assert!(found[0]["since_s"].is_u64() && found[0]["advice"].is_string(), "{found:?}");
    assert!(says(&control, &["status"]).contains("\nproblems:\n  screen "));
    screen.restart(640, 480);
    for follower in &all {
        follower.hears(&["source-back"]);
    }
    assert_eq!(problems(daemon), Vec::<Value>::new());

    says(&control, &["kick", "1"]);
    let line = all[0].hears(&["viewer-ended"]);
    let event: Value = serde_json::from_str(&line).unwrap();
    assert!(
        event["viewer"] == 1 && event["at"] == "whep" && event["watching"] == 0 && event["at_ms"].is_u64(),
        "{line}"
    );
    all[1].hears(&["viewer-ended", "viewer=1", "why=\"", "watching=0"]);
    all[1].hears(&["encoder", "codec=h264", "state=idle"]);
    stage.browser.run::<Value>("location.reload()", &[]);
    for follower in &all {
        follower.hears(&["viewer-connected", "2"]);
    }
    stage.daemon.stop();
    for follower in all {
        follower.hears(&["stopping", "SIGTERM"]);
        follower.ends();
    }
}

#[test]
fn where_nothing_is_wrong_all_is_well() {
    let daemon = Setup::new(&["--source", "pattern", "--audio", "off"]).start();
    let words = says(&daemon.setup().control(), &["status"]);
    assert!(words.ends_with("\nall is well\n"), "{words}");
    daemon.stop();
}

#[test]
fn a_viewer_that_never_came_is_told_too_and_servers_that_are_away_are_problems() {
    let args = ["--source", "pattern", "--audio", "off", "--max-viewers", "1", "--signaling", "mdn+ws://127.0.0.1:9/"];
    let daemon = Setup::new(&args).start();
    let follower = Follower::start(&daemon, &[]);
    let code = daemon.code();
    let offered = http::offer(daemon.http(), code.as_deref(), OFFER.as_bytes());
    assert_eq!(offered.status, 201, "{}", offered.body);
    let refused = http::offer(daemon.http(), code.as_deref(), OFFER.as_bytes());
    assert_eq!(refused.status, 503, "{}", refused.body);
    follower.hears(&["viewer-refused", "at=whep", "name=127.0.0.1", "why="]);
    let bearer = format!("Bearer {}", code.unwrap());
    let session = offered.header("location").unwrap().to_owned();
    let gone = http::request(daemon.http(), "DELETE", &session, &[("authorization", &bearer)], b"");
    assert_eq!(gone.status, 200, "{}", gone.body);
    follower.hears(&["viewer-failed", "viewer=1", "name=127.0.0.1"]);

    daemon.logged(&["WARN", "signaling server is away"], SOON);
    let found = problems(&daemon);
    let away =
        found.iter().find(|problem| problem["what"].as_str().unwrap().starts_with("mdn+ws://127.0.0.1:9/ is away"));
    assert!(away.is_some_and(|away| away["since_s"].is_u64()), "{found:?}");
    daemon.stop();
    follower.hears(&["stopping"]);
    follower.ends();
}
