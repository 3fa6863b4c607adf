//! `laterna doctor`: what it finds on machines with and without a screen, ports, servers and a daemon.

use std::net::{TcpListener, UdpSocket};
use std::process::Stdio;

use serde_json::Value;

use crate::stage::SOON;
use crate::support::daemon::Setup;
use crate::support::process::{Output, Process};
use crate::support::xclient::XClient;
use crate::support::xvfb::Xvfb;

/// What the doctor says, and its exit code.
struct Said {
    code: Option<i32>,
    text: String,
}

impl Said {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// The checks of a name: level, what was found, and what to do.
    fn checks(&self, name: &str) -> Vec<(String, String, String)> {
        let json = self.json();
        let text = |check: &Value, key: &str| check[key].as_str().unwrap_or_default().to_owned();
        let checks = json["checks"].as_array().unwrap().iter().filter(|check| check["check"] == name);
        checks.map(|check| (text(check, "level"), text(check, "found"), text(check, "advice"))).collect()
    }

    /// The only one.
    fn check(&self, name: &str) -> (String, String, String) {
        let checks = self.checks(name);
        assert_eq!(checks.len(), 1, "{name}: {checks:?}");
        checks.into_iter().next().unwrap()
    }
}

/// Examines the machine as a daemon of `setup` would find it.
fn examine(setup: &Setup) -> Said {
    let mut command = setup.command_of("doctor");
    command.stdin(Stdio::null());
    let mut process = Process::spawn(&mut command);
    let output = Output::follow(process.child().stdout.take().unwrap());
    let errors = Output::follow(process.child().stderr.take().unwrap());
    let status = process.wait(SOON).unwrap_or_else(|| panic!("the doctor does not end"));
    output.wait(SOON, |_| false);
    errors.wait(SOON, |_| false);
    assert!(errors.lines().is_empty(), "{}", errors.tail(10));
    let lines = output.lines().into_iter().map(|line| line.text + "\n");
    Said { code: status.code(), text: lines.collect() }
}

/// A machine where nothing is wrong but what a test wants.
fn setup(args: &[&str]) -> Setup {
    let plain = ["--json", "--listen", "127.0.0.1:0", "--udp-port", "0", "--audio", "tone"];
    Setup::new(&plain).args(args)
}

#[test]
fn a_screen_is_reached_and_captured() {
    let screen = Xvfb::start(640, 480);
    let setup = setup(&["--source", "screen"]).display(&screen.display());
    let said = examine(&setup);
    assert_eq!(said.code, Some(0), "{}", said.text);
    let (level, found, _) = said.check("display");
    assert!(level == "ok" && found.contains("640x480"), "{found}");
    let (level, found, advice) = said.check("capture");
    assert!(
        level == "warn" && found.contains("black") && advice.contains("wake"),
        "nothing is drawn there yet: {found}"
    );

    let mut client = XClient::open(&screen.display());
    client.fill_with_text();
    let (level, found, _) = examine(&setup).check("capture");
    assert!(level == "ok" && found.starts_with("a picture of 640x480 in "), "{level} {found}");
}

#[test]
fn what_is_asked_for_and_missing_fails_and_what_is_not_does_not() {
    let said = examine(&setup(&["--source", "screen"]));
    assert_eq!(said.code, Some(1));
    let (level, found, advice) = said.check("display");
    assert!(level == "fail" && found == "DISPLAY is not set" && !advice.is_empty(), "{found} {advice}");
    assert!(said.checks("capture").is_empty());
    let said = examine(&setup(&["--source", "pattern"]));
    assert_eq!(said.code, Some(0), "{}", said.text);
    assert_eq!(said.check("display").0, "ok");
    assert_eq!(said.checks("codec").len(), 2);
    let words = examine(&Setup::new(&["--source", "auto", "--listen", "127.0.0.1:0", "--udp-port", "0"]));
    assert_eq!(words.code, Some(0), "{}", words.text);
    assert!(
        words.text.contains("warn  display     DISPLAY is not set: the test card is shown\n                  -> "),
        "{}",
        words.text
    );
    assert!(words.text.trim_end().lines().last().unwrap().starts_with("it works; "), "{}", words.text);
}

#[test]
fn a_config_that_makes_no_sense_is_told_with_its_line_and_the_rest_is_looked_at() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("laterna.toml");
    std::fs::write(&file, "source = \"pattern\"\nfps = \"fast\"\n").unwrap();
    let said = examine(&setup(&["--config", file.to_str().unwrap()]));
    assert_eq!(said.code, Some(1));
    let config = said.checks("config");
    assert!(config[0].0 == "fail" && config[0].1.contains("laterna.toml:2"), "{config:?}");
    assert!(!said.checks("ports").is_empty());
}

#[test]
fn a_port_is_named_with_who_has_it() {
    let page = TcpListener::bind("127.0.0.1:0").unwrap();
    let media = UdpSocket::bind("[::]:0").unwrap();
    let (address, port) = (page.local_addr().unwrap().to_string(), media.local_addr().unwrap().port().to_string());
    let args = ["--json", "--source", "pattern", "--audio", "off", "--listen", &address, "--udp-port", &port];
    let said = examine(&Setup::new(&args));
    assert_eq!(said.code, Some(1), "{}", said.text);
    let ports = said.checks("ports");
    let process = format!("(process {})", std::process::id());
    for (level, found, _) in &ports[..2] {
        assert!(level == "fail" && found.contains(&process), "{ports:?}");
    }

    let setup = Setup::new(&["--source", "pattern"]);
    let daemon = setup.start();
    let said = examine(&setup.on_ports_of(&daemon).args(&["--json"]));
    assert_eq!(said.code, Some(0), "{}", said.text);
    assert!(said.check("daemon").1.contains("runs as"), "{}", said.text);
    for (level, found, _) in said.checks("ports") {
        assert!(level == "ok" && found.ends_with("the running laterna has it"), "{found}");
    }
    daemon.stop();
}

#[test]
fn servers_that_are_configured_must_answer() {
    let there = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let stun = UdpSocket::bind("127.0.0.1:0").unwrap();
    let refused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let [signaling, away] = [there.local_addr().unwrap(), refused].map(|at| format!("mdn+ws://{at}/"));
    let [mute, ice] = [&silent, &stun].map(|socket| format!("stun:{}", socket.local_addr().unwrap()));
    // What a server says first of all is that there is one: the request's own bytes, as an answer.
    let answering = std::thread::spawn(move || {
        let mut request = [0; 1500];
        let (length, from) = stun.recv_from(&mut request).unwrap();
        request[..2].copy_from_slice(&[0x01, 0x01]);
        stun.send_to(&request[..length], from).unwrap();
    });
    let said = examine(&setup(&[
        "--source",
        "pattern",
        "--signaling",
        &signaling,
        "--signaling",
        &away,
        "--ice-server",
        &mute,
        "--ice-server",
        &ice,
    ]));
    answering.join().unwrap();
    assert_eq!(said.code, Some(1), "{}", said.text);
    let levels = |check| said.checks(check).into_iter().map(|(level, ..)| level).collect::<Vec<_>>();
    assert_eq!(
        (levels("signaling"), levels("ice server")),
        (vec!["ok".into(), "fail".into()], vec!["fail".into(), "ok".into()]),
        "{}",
        said.text
    );
    assert!(said.checks("signaling")[1].1.contains("refused"), "{}", said.text);
    assert!(said.checks("ice server")[0].1.contains("does not answer"), "{}", said.text);
}
