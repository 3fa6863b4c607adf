//! What fails inside the daemon: an encoder, and the code of one session.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

use super::{Eye as _, Fault, times};
use crate::light::{Manner, Viewer};
use crate::stage::SOON;
use crate::support::daemon::{Daemon, Setup};
use crate::support::heavy;

fn address(index: u8) -> IpAddr {
    Ipv4Addr::new(127, 4, 0, index).into()
}

fn failing(directory: &Path) -> Daemon {
    let setup = Setup::new(&["--source", "pattern", "--size", "640x360", "--audio", "off"]);
    // Finding the names of a backtrace takes the thread that panics a second, the first time.
    let setup = setup.variable("LATERNA_TEST_FAULTS", directory.to_str().unwrap()).variable("RUST_BACKTRACE", "0");
    let daemon = setup.start();
    daemon.logged(&["WARN", "LATERNA_TEST_FAULTS", "for tests only"], SOON);
    daemon
}

#[test]
fn an_encoder_error_is_survived() {
    let _machine = heavy();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("encode-error");
    let daemon = failing(directory.path());
    let viewer = Viewer::join(&daemon, address(1), Manner::Honest);
    viewer.goes_on();
    let fault = Fault {
        name: "an encoder that fails for two seconds",
        comes: &["WARN", "the encoder failed"],
        passes: &["INFO", "the encoder works again"],
        lasting: Duration::from_secs(2),
        most: Duration::from_millis(3_600),
    };
    let inject = || std::fs::write(&file, "").unwrap();
    fault.strikes(&daemon, &viewer, inject, || std::fs::remove_file(&file).unwrap());
    assert_eq!(viewer.seen().missing, 0);
    drop(viewer);
    daemon.stop();
}

#[test]
fn a_panic_in_one_session_is_its_own() {
    let _machine = heavy();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("session-panic");
    let mut daemon = failing(directory.path());
    daemon.forgive("a session failed by a fault");
    daemon.forgive("panicked at");
    let viewer = Viewer::join(&daemon, address(1), Manner::Honest);
    viewer.goes_on();
    let fault = Fault {
        name: "a panic in one session",
        comes: &["ERROR", "a session failed by a fault"],
        passes: &["INFO", "viewer left", "fault"],
        lasting: Duration::ZERO,
        most: Duration::from_millis(200),
    };
    // Viewers are numbered from one on.
    for round in 1..=times() {
        let number = round + 1;
        let victim = Viewer::join(&daemon, address(2), Manner::Honest);
        daemon.logged(&["viewer came", &format!("viewer={number} ")], SOON);
        victim.goes_on();
        let mark = daemon.log().mark();
        viewer.begin();
        std::fs::write(&file, number.to_string()).unwrap();
        daemon.logged_from(mark, fault.comes, SOON);
        daemon.logged_from(mark, fault.passes, SOON);
        std::fs::remove_file(&file).unwrap();
        viewer.goes_on();
        fault.judge(round, viewer.gap(), &daemon.log().lines()[mark..]);
    }
    assert_eq!(viewer.seen().missing, 0);
    drop(viewer);
    daemon.stop();
}

#[test]
fn the_hook_for_faults_is_refused_where_it_names_no_directory() {
    let failure = Setup::new(&["--source", "pattern", "--listen", "127.0.0.1:0", "--udp-port", "0"]);
    let failure = failure.variable("LATERNA_TEST_FAULTS", "encode-error").fail();
    assert_eq!(failure.status.code(), Some(1), "{failure:#?}");
    let last = failure.stderr.last().unwrap();
    assert!(last.contains("LATERNA_TEST_FAULTS") && last.contains("leave it unset"), "{last}");
}
