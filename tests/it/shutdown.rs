//! How the daemon ends: in order by signals, with a reason where it can't start; and that it needs no network but loopback.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::stage::{GONE, SOON, Stage};
use crate::support::daemon::Setup;
use crate::support::heavy;
use crate::support::process::{Output, Process};

fn ends_in_order(signal: Signal) {
    let _machine = heavy();
    let mut stage = Stage::open(&Setup::new(&["--source", "pattern"]), (1280, 720));
    let since = Instant::now();
    stage.daemon.signal(signal);
    assert_eq!(stage.daemon.ended().code(), Some(0));
    println!("ended after {:.1?}", since.elapsed());
    println!("{}", stage.daemon.logged(GONE, SOON).text);
    let (state, _) = stage.awaits_state(&["ended", "waiting", "connecting"], Duration::from_secs(3));
    println!("the page says {state} {:.1?} after the signal", since.elapsed());
}

#[test]
fn sigterm_tells_the_viewers_and_exits_0() {
    ends_in_order(Signal::TERM);
}

#[test]
fn ctrl_c_tells_the_viewers_and_exits_0() {
    ends_in_order(Signal::INT);
}

#[test]
fn a_second_signal_ends_it_at_once_with_1() {
    let mut daemon = Setup::new(&["--source", "pattern", "--auth", "none"]).start();
    // A request whose body does not come is waited for: that keeps the orderly end from being over too early.
    let mut request = TcpStream::connect(daemon.http()).unwrap();
    request.set_read_timeout(Some(SOON)).unwrap();
    let head = format!(
        "POST /whep HTTP/1.1\r\nHost: {}\r\nContent-Type: application/sdp\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n",
        daemon.http()
    );
    request.write_all(head.as_bytes()).unwrap();
    let mut answer = [0; 12];
    request.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 100", "its body is not awaited");
    daemon.signal(Signal::TERM);
    daemon.logged(&["stopping"], SOON);
    daemon.signal(Signal::INT);
    assert_eq!(daemon.ended().code(), Some(1));
    daemon.logged(&["laterna: ", "SIGINT", "not in order"], SOON);
}

fn fails_with_1(args: &[&str], display: Option<&str>, words: &[&str]) {
    let setup = Setup::new(args);
    let setup = display.map_or(setup.clone(), |display| setup.display(display));
    let failure = setup.fail();
    assert_eq!(failure.status.code(), Some(1), "{failure:#?}");
    let last = failure.stderr.last().unwrap_or_else(|| panic!("nothing was said: {failure:#?}"));
    assert!(words.iter().all(|word| last.contains(word)), "{words:?} are not all in: {last}");
    assert!(failure.stdout.is_empty(), "it said it was ready: {failure:#?}");
}

#[test]
fn an_unknown_display_is_exit_1() {
    let args = ["--source", "screen", "--listen", "127.0.0.1:0", "--udp-port", "0"];
    fails_with_1(&args, Some(":4711"), &["screen", ":4711"]);
    fails_with_1(&args, None, &["screen", "DISPLAY"]);
}

#[test]
fn without_http_it_warns_that_nobody_can_watch() {
    let args = ["--source", "screen", "--listen", "off", "--call", "joined", "--udp-port", "0"];
    let failure = Setup::new(&args).display(":4711").fail();
    let warnings: Vec<_> = failure.stderr.iter().filter(|line| line.contains("--listen off")).collect();
    assert_eq!(warnings.len(), 1, "{failure:#?}");
    assert!(
        ["WARN", "nobody at all can watch", "--signaling"].iter().all(|word| warnings[0].contains(word)),
        "{warnings:?}"
    );
}

#[test]
fn a_taken_port_is_exit_1() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let args = ["--source", "pattern", "--listen", &address, "--udp-port", "0"];
    fails_with_1(&args, None, &[&address, "--listen"]);

    let taken = UdpSocket::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let args = ["--source", "pattern", "--listen", "127.0.0.1:0", "--udp-port", &port];
    fails_with_1(&args, None, &[&port, "--udp-port"]);
}

#[test]
fn a_browser_on_a_machine_with_loopback_only_still_works() {
    let _machine = heavy();
    let inner = "shutdown::inside_a_network_of_loopback_only";
    let script = format!("ip link set lo up && exec \"$0\" --exact {inner} --ignored --nocapture");
    let mut command = Command::new("unshare");
    // Without root, a user namespace gives the right to have a network of one's own.
    if !rustix::process::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    command.args(["--net", "--", "sh", "-c", &script]).arg(std::env::current_exe().unwrap());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = Process::spawn(&mut command);
    let output = Output::follow(process.child().stdout.take().unwrap());
    let errors = Output::follow(process.child().stderr.take().unwrap());
    let status = process.wait(Duration::from_secs(120));
    let passed = status.is_some_and(|status| status.success());
    assert!(passed, "{status:?}\n{}{}", output.tail(40), errors.tail(60));
    let ran = output.wait(SOON, |line| line.contains("1 passed"));
    assert!(ran.is_some(), "the inner test did not run:\n{}", output.tail(20));
}

/// The inner half of the test above.
#[test]
#[ignore = "run by its outer half, in a network namespace"]
fn inside_a_network_of_loopback_only() {
    // By itself Chromium neither uses loopback interfaces nor, without multicast, gives away an address: it gathers for ever.
    let args = ["--allow-loopback-in-peer-connection", "--disable-features=WebRtcHideLocalIpsWithMdns"];
    let stage = Stage::open_with(&Setup::new(&["--source", "pattern"]), (1280, 720), &args);
    stage.goes_on();
    stage.shows(10, SOON);
    stage.daemon.stop();
}
