//! Codes and tokens: who gets in by them, for how long, and what follows when they are taken back.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use rustix::process::Signal;
use serde_json::json;

use crate::control::{json_of, refused, says};
use crate::stage::{GONE, SOON, Stage};
use crate::support::daemon::{Daemon, Setup};
use crate::support::heavy;
use crate::support::http;

const OFFER: &str = include_str!("../data/offers/chromium-recvonly-video.sdp");
const PATTERN: (u16, u16) = (1280, 720);

fn control(daemon: &Daemon) -> std::path::PathBuf {
    daemon.setup().control()
}

fn offered(daemon: &Daemon, code: &str) -> u16 {
    http::offer(daemon.http(), Some(code), OFFER.as_bytes()).status
}

/// The code in the first address of a line of JSON.
fn code_in(said: &serde_json::Value) -> String {
    said["open"][0].as_str().unwrap().rsplit_once('#').unwrap().1.to_owned()
}

#[test]
fn an_added_code_lets_in_until_it_is_revoked_and_then_ends_who_came_by_it_alone() {
    let _machine = heavy();
    let setup = Setup::new(&["--source", "pattern"]);
    let daemon = setup.start();
    let friday = code_in(&json_of(&control(&daemon), &["codes", "add", "friday", "--expires", "8h", "--json"]));
    let kept = setup.state().join("codes.json");
    assert_eq!(std::fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(refused(&control(&daemon), &["codes", "add", "friday"], 1).contains("there is a code called friday"));
    daemon.stop();

    // It is kept over a restart.
    let daemon = setup.start();
    let main = daemon.code().unwrap();
    let browser = crate::support::browser::Browser::start();
    browser.open(&daemon.page().replace(&main, &friday));
    let stage = Stage::of(browser, daemon, PATTERN);
    stage.awaits_state(&["playing"], SOON);
    let daemon = &stage.daemon;
    assert_eq!(offered(daemon, &main), 201);
    let list = json_of(&control(daemon), &["codes", "list", "--json"]);
    let brief: Vec<_> =
        list.as_array().unwrap().iter().map(|code| (&code["name"], &code["origin"], &code["viewers"])).collect();
    assert_eq!(brief, [(&json!("main"), &json!("main"), &json!(1)), (&json!("friday"), &json!("added"), &json!(1))]);
    let shown = says(&control(daemon), &["codes", "list"]);
    assert!(!shown.contains(&main) && !shown.contains(&friday), "{shown}");
    assert!(says(&control(daemon), &["codes", "list", "--show"]).contains(&friday));

    let said = says(&control(daemon), &["codes", "revoke", "friday"]);
    assert_eq!(said, "friday is revoked, 1 viewer is ended\n");
    daemon.logged(&[GONE[0], "viewer=1", "ended by the operator"], SOON);
    assert_eq!((offered(daemon, &friday), offered(daemon, &main)), (401, 201));
    assert!(!std::fs::read_to_string(&kept).unwrap().contains(&friday));
    assert!(refused(&control(daemon), &["codes", "revoke", "friday"], 1).contains("no code called friday"));

    let said = says(&control(daemon), &["codes", "revoke", "main"]);
    let fresh = said.rsplit_once('#').unwrap().1.trim().to_owned();
    assert!(said.contains("the new one:") && fresh != main, "{said}");
    assert_eq!((offered(daemon, &main), offered(daemon, &fresh)), (401, 201));
    assert_eq!(std::fs::read_to_string(setup.state().join("code")).unwrap().trim(), fresh);
    let secrets = [&main, &friday, &fresh];
    assert!(daemon.log().lines().iter().all(|line| secrets.iter().all(|code| !line.text.contains(*code))));
}

#[test]
fn codes_and_tokens_of_the_config_file_come_and_go_by_a_reload() {
    let setup = Setup::new(&["--source", "pattern"]);
    let place = |name: &str| setup.state().join(name).to_str().unwrap().to_owned();
    std::fs::write(place("guests"), "abcdefgh23\n").unwrap();
    std::fs::write(place("token"), "a-token-of-prometheus\n").unwrap();
    for name in ["guests", "token"] {
        std::fs::set_permissions(place(name), std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    let config = place("laterna.toml");
    let tables = |expires: &str| {
        format!(
            "[codes.guests]\nfile = \"{}\"\n{expires}\n[tokens.prometheus]\nfile = \"{}\"\n",
            place("guests"),
            place("token")
        )
    };
    std::fs::write(&config, tables("")).unwrap();
    let daemon = setup.clone().args(&["--config", &config]).start();
    let reload = |text: &str| {
        std::fs::write(&config, text).unwrap();
        let mark = daemon.log().mark();
        daemon.signal(Signal::HUP);
        daemon.logged_from(mark, &["the configuration is taken over"], SOON);
    };
    assert_eq!(offered(&daemon, "abcdefgh23"), 201);
    assert!(refused(&control(&daemon), &["codes", "revoke", "guests"], 1).contains("in the config file"));
    reload(&tables("expires = 2020-01-01T00:00:00Z"));
    assert_eq!(offered(&daemon, "abcdefgh23"), 401, "it has expired");
    assert!(says(&control(&daemon), &["codes", "list"]).contains("2020-01-01T00:00:00Z (expired)"));
    reload(&tables("expires = 2999-01-01T00:00:00Z"));
    assert_eq!(offered(&daemon, "abcdefgh23"), 201);
    reload("");
    assert_eq!(offered(&daemon, "abcdefgh23"), 401);
    daemon.logged_times(2, &["viewer never connected", "ended by the operator"], SOON);

    // A file that is not there changes nothing.
    std::fs::write(&config, "fps = 3\n[codes.guests]\nfile = \"/nowhere\"\n").unwrap();
    daemon.signal(Signal::HUP);
    daemon.logged(&["is not taken over", "codes.guests", "/nowhere: no such file"], SOON);
    daemon.stop();
}

#[test]
fn a_code_of_the_config_file_takes_the_place_of_an_added_one_by_a_reload_and_at_the_start() {
    let setup = Setup::new(&["--source", "pattern"]);
    let place = |name: &str| setup.state().join(name).to_str().unwrap().to_owned();
    std::fs::write(place("friday"), "abcdefgh23\n").unwrap();
    std::fs::set_permissions(place("friday"), std::fs::Permissions::from_mode(0o600)).unwrap();
    let (config, kept) = (place("laterna.toml"), setup.state().join("codes.json"));
    std::fs::write(&config, "").unwrap();
    let setup = setup.clone().args(&["--config", &config]);
    let daemon = setup.start();
    let added = code_in(&json_of(&control(&daemon), &["codes", "add", "friday", "--json"]));
    let before = std::fs::read(&kept).unwrap();
    std::fs::write(&config, format!("[codes.friday]\nfile = \"{}\"\n", place("friday"))).unwrap();
    daemon.signal(Signal::HUP);
    daemon.logged(&["the configuration is taken over"], SOON);
    let holds = |daemon: &Daemon| {
        daemon.logged(&["WARN", "an added code is revoked", "friday"], SOON);
        assert_eq!((offered(daemon, &added), offered(daemon, "abcdefgh23")), (401, 201));
        assert_eq!(std::fs::read_to_string(&kept).unwrap().trim(), "[]");
    };
    holds(&daemon);
    daemon.stop();
    std::fs::write(&kept, before).unwrap();
    let daemon = setup.start();
    holds(&daemon);
    daemon.stop();
}

#[test]
fn a_state_directory_that_others_can_read_is_told_once_and_keeps_its_mode() {
    let setup = Setup::new(&["--source", "pattern"]);
    std::fs::set_permissions(setup.state(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let daemon = setup.start();
    daemon.logged(&["WARN", "a directory that others can read or change", "mode=\"755\"", "chmod 700"], SOON);
    assert_eq!(daemon.count_logged(&["others can read or change"]), 1);
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(setup.state()), mode(&setup.state().join("code"))), (0o755, 0o600));
    daemon.stop();
}

#[test]
fn a_revoked_code_that_can_not_be_taken_out_of_its_file_is_told_and_tried_again() {
    let setup = Setup::new(&["--source", "pattern"]);
    let daemon = setup.start();
    let friday = code_in(&json_of(&control(&daemon), &["codes", "add", "friday", "--json"]));
    // What can't be replaced, even by root: a directory that is not empty.
    let file = setup.state().join("codes.json");
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir_all(file.join("in the way")).unwrap();
    let said = refused(&control(&daemon), &["codes", "revoke", "friday"], 1);
    assert!(said.contains("friday is revoked") && said.contains("a restart would let it in again"), "{said}");
    assert_eq!(offered(&daemon, &friday), 401);
    std::fs::remove_dir_all(&file).unwrap();
    daemon.logged(&["what was revoked is out of the state directory now"], SOON * 2);
    assert_eq!(std::fs::read_to_string(&file).unwrap().trim(), "[]");
    daemon.stop();
}

#[test]
fn an_address_that_asks_too_often_waits() {
    let setup = Setup::new(&["--source", "pattern", "--auth", "none"]);
    let config = setup.state().join("laterna.toml");
    std::fs::write(&config, "[limits]\noffers-per-minute-per-address = 3\n").unwrap();
    let daemon = setup.args(&["--config", config.to_str().unwrap()]).start();
    let offers = [(); 4].map(|()| http::offer(daemon.http(), None, OFFER.as_bytes()));
    assert_eq!(offers.each_ref().map(|reply| reply.status), [201, 201, 201, 429], "{}", offers[3].body);
    assert!(offers[3].header("retry-after").is_some());
    daemon.stop();
}

#[test]
fn pages_of_other_sites_than_those_that_are_allowed_are_refused() {
    let daemon =
        Setup::new(&["--source", "pattern", "--auth", "none", "--allow-origin", "https://school.example"]).start();
    let post = |origin: Option<&str>| {
        let mut headers = vec![("content-type", "application/sdp")];
        headers.extend(origin.map(|origin| ("origin", origin)));
        http::request(daemon.http(), "POST", "/whep", &headers, OFFER.as_bytes())
    };
    let own = format!("http://{}", daemon.http());
    for (origin, status, allowed) in [
        (None, 201, None),
        (Some("https://school.example"), 201, Some("https://school.example")),
        (Some(own.as_str()), 201, Some(own.as_str())),
        (Some("https://evil.example"), 403, None),
        (Some("null"), 403, None),
    ] {
        let reply = post(origin);
        assert_eq!(
            (reply.status, reply.header("access-control-allow-origin")),
            (status, allowed),
            "{origin:?}: {}",
            reply.body
        );
    }
    for (origin, status) in [("https://evil.example", 403), ("https://school.example", 200)] {
        let reply = http::request(daemon.http(), "GET", "/sign_in?me", &[("origin", origin)], b"");
        assert_eq!(reply.status, status, "{}", reply.body);
    }
    daemon.stop();
}

#[test]
fn a_group_may_use_the_control_socket_where_one_is_named() {
    let setup = Setup::new(&["--source", "pattern"]);
    let none = setup.clone().args(&["--control-group", "no-such-group"]).fail();
    let said = none.stderr.join("\n");
    assert!(none.status.code() == Some(1) && said.contains("this machine has no such group"), "{said}");
    // The tests' own group is one that their daemon may give it to.
    let own = rustix::process::getgid();
    let groups = std::fs::read_to_string("/etc/group").unwrap();
    let own_name = groups.lines().find(|line| line.split(':').nth(2) == Some(&own.as_raw().to_string())).unwrap();
    let daemon = setup.clone().args(&["--control-group", own_name.split(':').next().unwrap()]).start();
    let socket = std::fs::metadata(setup.control()).unwrap();
    assert_eq!((socket.permissions().mode() & 0o777, socket.gid()), (0o660, own.as_raw()));
    daemon.stop();
}
