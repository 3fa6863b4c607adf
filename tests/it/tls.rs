//! The web page by TLS: certificates of the operator's, renewed while somebody watches, and one that laterna makes.

use std::fs;

use crate::stage::{SOON, Stage};
use crate::support::browser::Browser;
use crate::support::certificates::Certificates;
use crate::support::daemon::{Daemon, Setup};
use crate::support::heavy;
use crate::support::http;

const PATTERN: (u16, u16) = (640, 360);
const ARGS: [&str; 4] = ["--source", "pattern", "--size", "640x360"];
/// The tests' certificates are nobody's whom Chromium trusts.
const TRUSTING: &str = "--ignore-certificate-errors";

/// The fingerprint that the daemon says at its start.
fn fingerprint(daemon: &Daemon) -> String {
    let line = daemon.logged(&["the web page is encrypted", "fingerprint="], SOON).text;
    line.split_once("fingerprint=").unwrap().1.trim_matches('"').to_owned()
}

fn watched(daemon: Daemon) -> Stage {
    let page = daemon.page();
    assert!(page.starts_with("https://"), "{page}");
    let browser = Browser::start_with(&[TRUSTING]);
    browser.open(&page);
    let stage = Stage::of(browser, daemon, PATTERN);
    stage.awaits_state(&["playing"], SOON);
    stage.goes_on();
    stage
}

#[test]
fn a_certificate_that_laterna_makes_stays_and_who_speaks_no_tls_is_told() {
    let _machine = heavy();
    let setup = Setup::new(&[&ARGS[..], &["--tls", "self-signed"]].concat());
    let daemon = setup.start();
    let first = fingerprint(&daemon);
    let told = http::request(daemon.http(), "GET", "/healthz", &[], b"");
    assert!(told.status == 400 && told.body.contains("https"), "{told:?}");
    let stage = watched(daemon);
    drop(stage);
    let again = setup.start();
    assert_eq!(fingerprint(&again), first, "browsers were told to trust the former");
    again.stop();
}

#[test]
fn a_renewed_certificate_is_taken_while_somebody_watches() {
    let _machine = heavy();
    let (before, after) = (Certificates::make(), Certificates::make());
    let (certificate, key) = (before.certificate(), before.key());
    let files = ["--tls-cert", certificate.to_str().unwrap(), "--tls-key", key.to_str().unwrap()];
    let stage = watched(Setup::new(&[&ARGS[..], &files].concat()).start());
    let first = fingerprint(&stage.daemon);
    fs::copy(after.key(), &key).unwrap();
    fs::copy(after.certificate(), &certificate).unwrap();
    let line = stage.daemon.logged(&["INFO", "the certificate was renewed"], SOON).text;
    assert!(!line.contains(&first), "{line}");
    stage.goes_on();
    // Who comes now comes by the renewed one.
    stage.browser.open(&stage.daemon.page());
    stage.awaits_state(&["playing"], SOON);
    stage.goes_on();
}
