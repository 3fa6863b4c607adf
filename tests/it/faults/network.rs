//! What the network does: an interface goes down and up, the machine gets another address, a signaling server is not to be reached.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::{Eye as _, Fault, times};
use crate::light::{Manner, Viewer, offer_at};
use crate::stage::SOON;
use crate::support::daemon::{Daemon, Setup};
use crate::support::heavy;
use crate::support::process::{Output, Process};
use crate::support::servers::NodeServer;
use crate::support::turn::{command_in, ip};

/// What an inner half finds its cable by.
const CABLE: &str = "LATERNA_TEST_CABLE";
const PATTERN: &[&str] = &["--source", "pattern", "--size", "640x360", "--audio", "off"];

/// Two networks of their own, the daemon's and the viewers', with a cable between them.
struct Cable {
    prefix: String,
}

impl Cable {
    const DAEMON: &str = "10.78.1.2";
    const OTHER: &str = "10.78.1.9";
    const VIEWER: &str = "10.78.1.1";

    /// Makes them; says why where that is not permitted.
    fn make() -> Result<Self, String> {
        let cable = Self { prefix: format!("laternac{}", std::process::id()) };
        let (daemon, viewers) = (cable.daemon(), cable.viewers());
        for namespace in [&daemon, &viewers] {
            ip(&["netns", "add", namespace])?;
            ip(&["-n", namespace, "link", "set", "lo", "up"])?;
        }
        ip(&["-n", &viewers, "link", "add", "near", "type", "veth", "peer", "name", "cable", "netns", &daemon])?;
        ip(&["-n", &viewers, "addr", "add", &format!("{}/24", Self::VIEWER), "dev", "near"])?;
        ip(&["-n", &daemon, "addr", "add", &format!("{}/24", Self::DAEMON), "dev", "cable"])?;
        ip(&["-n", &viewers, "link", "set", "near", "up"])?;
        ip(&["-n", &daemon, "link", "set", "cable", "up"])?;
        Ok(cable)
    }

    fn daemon(&self) -> String {
        format!("{}a", self.prefix)
    }

    fn viewers(&self) -> String {
        format!("{}b", self.prefix)
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        for namespace in [self.daemon(), self.viewers()] {
            // What was not made can't be taken away.
            let _ = ip(&["netns", "del", &namespace]);
        }
    }
}

/// Runs an inner half where the viewers are.
fn at_the_other_end(inner: &str) {
    let _machine = heavy();
    let cable = match Cable::make() {
        Ok(cable) => cable,
        Err(why) => {
            println!("skipped: networks of one's own are not permitted here ({why})");
            return;
        }
    };
    let mut command = command_in(Some(&cable.viewers()), &std::env::current_exe().unwrap());
    command.args(["--exact", inner, "--ignored", "--nocapture"]).env(CABLE, cable.daemon());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = Process::spawn(&mut command);
    let output = Output::follow(process.child().stdout.take().unwrap());
    let errors = Output::follow(process.child().stderr.take().unwrap());
    let status = process.wait(Duration::from_secs(400));
    let passed = status.is_some_and(|status| status.success());
    assert!(passed, "{status:?}\n{}{}", output.tail(60), errors.tail(120));
    assert!(output.wait(SOON, |line| line.contains("1 passed")).is_some(), "it did not run:\n{}", output.tail(20));
    output.lines().iter().for_each(|line| println!("{}", line.text));
}

/// Awaits that the kernel takes the cable for connected, which it looks at once a second.
fn is_plugged(network: &str) -> bool {
    let mut command = Command::new("ip");
    command.args(["-n", network, "-o", "link", "show", "dev", "cable"]);
    String::from_utf8_lossy(&command.output().unwrap().stdout).contains("state UP")
}

/// A daemon at the far end, and the network that it is in.
fn far_daemon() -> (Daemon, String) {
    let network = std::env::var(CABLE).unwrap();
    let deadline = Instant::now() + SOON;
    while !is_plugged(&network) {
        assert!(Instant::now() < deadline, "the cable is never connected");
    }
    let setup = Setup::new(PATTERN).args(&["--auth", "none", "--listen", "0.0.0.0:0"]).in_network(&network);
    (setup.start(), network)
}

/// Watches a daemon by one of its addresses.
fn watches(daemon: &Daemon, at: &str) -> Viewer {
    let http = SocketAddr::new(at.parse().unwrap(), daemon.http().port());
    let viewer: IpAddr = Cable::VIEWER.parse().unwrap();
    offer_at(http, None, viewer, Manner::Honest).unwrap().connect(Manner::Honest)
}

#[test]
fn an_interface_that_goes_down_and_up_is_survived() {
    at_the_other_end("faults::network::inside_with_an_interface");
}

/// The inner half of the test above.
#[test]
#[ignore = "run by its outer half, in a network namespace"]
fn inside_with_an_interface() {
    let (daemon, network) = far_daemon();
    let viewer = watches(&daemon, Cable::DAEMON);
    viewer.goes_on();
    let lasting = Duration::from_secs(4);
    let fault = Fault {
        name: "an interface down for four seconds",
        comes: &["WARN", "has lost a network", "cable"],
        passes: &["INFO", "a network is back", "cable"],
        lasting,
        most: lasting + Duration::from_secs(3),
    };
    let turn = |which: &str| ip(&["-n", &network, "link", "set", "cable", which]).unwrap();
    fault.strikes(&daemon, &viewer, || turn("down"), || turn("up"));
    let pulled = Fault { name: "a cable pulled for four seconds", ..fault };
    let turn = |which: &str| ip(&["link", "set", "near", which]).unwrap();
    pulled.strikes(&daemon, &viewer, || turn("down"), || turn("up"));
    drop(viewer);
    daemon.stop();
}

#[test]
fn an_address_that_changes_is_survived() {
    at_the_other_end("faults::network::inside_with_another_address");
}

/// The inner half of the test above.
#[test]
#[ignore = "run by its outer half, in a network namespace"]
fn inside_with_another_address() {
    let (daemon, network) = far_daemon();
    let change = |from: &str, to: &str| {
        ip(&["-n", &network, "addr", "del", &format!("{from}/24"), "dev", "cable"]).unwrap();
        ip(&["-n", &network, "addr", "add", &format!("{to}/24"), "dev", "cable"]).unwrap();
    };
    let viewer = watches(&daemon, Cable::DAEMON);
    viewer.goes_on();
    for round in 1..=times() {
        let fault = Fault {
            name: "another address, and the old one again",
            comes: &[],
            passes: &["INFO", "has other addresses", "cable"],
            lasting: Duration::ZERO,
            most: Duration::from_secs(6),
        };
        let mark = daemon.log().mark();
        viewer.begin();
        change(Cable::DAEMON, Cable::OTHER);
        daemon.logged_from(mark, fault.passes, SOON);
        let newcomer = watches(&daemon, Cable::OTHER);
        newcomer.goes_on();
        let lines = daemon.log().lines()[mark..].to_vec();
        let mark = daemon.log().mark();
        change(Cable::OTHER, Cable::DAEMON);
        daemon.logged_from(mark, fault.passes, SOON);
        viewer.goes_on();
        fault.judge(round, viewer.gap(), &lines);
        drop(newcomer);
    }
    drop(viewer);
    daemon.stop();
}

#[test]
fn a_signaling_server_that_is_not_to_be_reached_is_survived() {
    let _machine = heavy();
    let mut server = Some(NodeServer::start("mdn.js", &["0"]));
    let port = server.as_ref().map(|server| server.address.port().to_string()).unwrap();
    let url = format!("mdn+ws://127.0.0.1:{port}");
    let daemon = Setup::new(PATTERN).args(&["--name", "desk", "--signaling", &url]).start();
    daemon.logged(&["signed in"], SOON);
    let viewer = Viewer::join(&daemon, Ipv4Addr::new(127, 6, 0, 1).into(), Manner::Honest);
    viewer.goes_on();
    let fault = Fault {
        name: "a signaling server away for two seconds",
        comes: &["WARN", "signaling server is away"],
        passes: &["INFO", "signed in"],
        lasting: Duration::from_secs(2),
        most: Duration::from_millis(200),
    };
    let server = std::cell::RefCell::new(&mut server);
    fault.strikes(
        &daemon,
        &viewer,
        || server.borrow_mut().take().unwrap().kill(),
        || **server.borrow_mut() = Some(NodeServer::start("mdn.js", &[&port])),
    );
    assert_eq!(viewer.seen().missing, 0);
    drop(viewer);
    daemon.stop();
}
