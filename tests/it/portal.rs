//! Wayland screens on a machine without Wayland: what is said where there is no session bus, and where nobody answers to the portal's name.
//!
//! How they are shown is tested in a machine with a desktop (`lab_wayland`).

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::daemon::Setup;
use crate::support::process::{Output, Process};

/// How the daemon ends that is to show a Wayland screen.
fn refused(variables: &[(&str, &str)]) -> String {
    let mut setup =
        Setup::new(&["--source", "screen", "--capture", "portal", "--audio", "off", "--listen", "127.0.0.1:0"]);
    for (name, value) in variables {
        setup = setup.variable(name, value);
    }
    let failure = setup.fail();
    assert_eq!(failure.status.code(), Some(1), "{failure:?}");
    let errors: Vec<_> = failure.stderr.iter().filter(|line| line.contains("source screen")).collect();
    assert_eq!(errors.len(), 1, "{failure:?}");
    errors[0].clone()
}

#[test]
fn without_a_session_bus_it_says_where_to_run() {
    for address in ["", "unix:path=/nonexistent/bus"] {
        let said = refused(&[("DBUS_SESSION_BUS_ADDRESS", address)]);
        assert!(said.contains("source screen: the session bus can't be reached ("), "{said}");
        assert!(
            said.contains("; start laterna in the desktop's session, as the user who is logged in there"),
            "{said}"
        );
    }
}

#[test]
fn without_a_portal_it_says_what_to_install() {
    let mut command = Command::new("dbus-daemon");
    command.args(["--session", "--nofork", "--nopidfile", "--print-address", "--address=unix:tmpdir=/tmp"]);
    // No service can be started by it.
    command.env("XDG_DATA_DIRS", "/nonexistent").env("XDG_DATA_HOME", "/nonexistent");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut bus = Process::spawn(&mut command);
    let output = Output::follow(bus.child().stdout.take().unwrap());
    let address = output.wait(Duration::from_secs(20), |line| line.starts_with("unix:")).expect("a session bus").text;
    let said = refused(&[("DBUS_SESSION_BUS_ADDRESS", &address)]);
    assert!(said.contains("nobody answers to the name org.freedesktop.portal.Desktop"), "{said}");
    assert!(said.contains("; install and start xdg-desktop-portal and the backend of your desktop"), "{said}");
}
