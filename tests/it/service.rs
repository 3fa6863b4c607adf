//! The daemon under a service manager: a socket that hears what it says of itself, as systemd does.

use std::io::{ErrorKind, PipeReader, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use rustix::io::ioctl_fionbio;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::control::json_of;
use crate::light::{Manner, Viewer};
use crate::stage::SOON;
use crate::support::daemon::Setup;
use crate::support::heavy;
use crate::support::process::{Output, Process};

/// The watchdog's interval.
const INTERVAL: Duration = Duration::from_secs(2);
const FED: &str = "WATCHDOG=1";

/// A service manager of one service.
struct Manager {
    socket: UnixDatagram,
    directory: TempDir,
}

impl Manager {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self { socket: UnixDatagram::bind(directory.path().join("notify")).unwrap(), directory }
    }

    /// The daemon that is its service, with a test card.
    fn service(&self, args: &[&str]) -> Setup {
        let setup = Setup::new(&["--auth", "none", "--audio", "off"]).args(args);
        let setup = setup.variable("NOTIFY_SOCKET", self.directory.path().join("notify").to_str().unwrap());
        setup.variable("WATCHDOG_USEC", &INTERVAL.as_micros().to_string())
    }

    /// What the service says next; nothing where it is silent for so long.
    fn hears(&self, within: Duration) -> Option<String> {
        self.socket.set_read_timeout(Some(within)).unwrap();
        let mut buffer = [0; 4096];
        match self.socket.recv(&mut buffer) {
            Ok(length) => Some(String::from_utf8(buffer[..length].to_vec()).unwrap()),
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
                None
            }
        }
    }

    /// Awaits something with `word` in it; what comes before is a sign of life and nothing else.
    fn awaits(&self, word: &str) -> String {
        let deadline = Instant::now() + SOON;
        loop {
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            let said = self.hears(left).unwrap_or_else(|| panic!("nothing with {word} was said within {SOON:?}"));
            if said.contains(word) {
                return said;
            }
            assert_eq!(said, FED, "while waiting for {word}");
        }
    }

    /// Awaits signs of life over so many intervals, and that there are two in each.
    fn is_fed(&self, intervals: u32) {
        self.awaits(FED);
        let (since, mut count) = (Instant::now(), 0);
        while let Some(left) = (INTERVAL * intervals).checked_sub(since.elapsed()).filter(|left| !left.is_zero()) {
            match self.hears(left.min(INTERVAL)) {
                Some(said) => assert_eq!(said, FED),
                None => assert!(left < INTERVAL, "not fed for {INTERVAL:?}: it would have been killed"),
            }
            count += 1;
        }
        assert!(count >= 2 * intervals, "fed {count} times in {intervals} intervals");
    }
}

/// A pipe that takes nothing until it is read.
fn full_pipe() -> (PipeReader, std::io::PipeWriter) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    ioctl_fionbio(&writer, true).unwrap();
    while writer.write(&[b'\n'; 4096]).is_ok() {}
    while writer.write(b"\n").is_ok() {}
    ioctl_fionbio(&writer, false).unwrap();
    (reader, writer)
}

#[test]
fn it_is_ready_after_its_ready_line_and_says_that_it_stops() {
    let manager = Manager::new();
    let setup = manager.service(&["--source", "pattern", "--listen", "127.0.0.1:0", "--udp-port", "0"]);
    let (mut reader, writer) = full_pipe();
    let mut process = Process::spawn(setup.command().stdout(writer));
    let log = Output::follow(process.child().stderr.take().unwrap());
    let told = log.wait(SOON, |line| line.contains("viewers are told how to reach this machine"));
    assert!(told.is_some(), "{}", log.tail(30));
    assert_eq!(manager.hears(Duration::from_secs(1)), None, "its ready line is not out yet");

    let mut printed = Vec::<u8>::new();
    while !printed.windows(10).any(|bytes| bytes == b"listening ") {
        let mut buffer = [0; 65536];
        let length = reader.read(&mut buffer).unwrap();
        assert!(length > 0, "{}", log.tail(30));
        printed.extend(&buffer[..length]);
    }
    let ready = manager.awaits("READY=1");
    let status = ready.strip_prefix("READY=1\nSTATUS=").unwrap_or_else(|| panic!("{ready}"));
    assert!(status.starts_with("broadcasting pattern 1280x720 to nobody as laterna@"), "{status}");
    assert!(status.contains("http 127.0.0.1:") && status.contains("media at UDP port"), "{status}");
    manager.is_fed(3);

    process.signal(Signal::TERM);
    manager.awaits("STOPPING=1\nSTATUS=stopping");
    assert_eq!(process.wait(SOON).unwrap().code(), Some(0), "{}", log.tail(30));
    let rest = std::iter::from_fn(|| manager.hears(Duration::from_millis(10)));
    assert!(rest.into_iter().all(|said| said == FED));
}

#[test]
fn a_daemon_that_fails_says_why_and_is_never_ready() {
    let manager = Manager::new();
    let setup = manager.service(&["--source", "screen", "--listen", "127.0.0.1:0", "--udp-port", "0"]);
    let failure = setup.display(":4711").fail();
    assert_eq!(failure.status.code(), Some(1), "{failure:#?}");
    let said = manager.hears(SOON).unwrap();
    assert!(said.starts_with("STATUS=failed: ") && said.contains(":4711") && !said.contains('\n'), "{said}");
    assert_eq!(manager.hears(Duration::from_millis(10)), None);
}

#[test]
fn a_service_manager_that_is_not_there_is_a_warning_and_no_more() {
    let daemon = Setup::new(&["--source", "pattern"]).variable("NOTIFY_SOCKET", "/nowhere/notify").start();
    daemon.logged(&["WARN", "the service manager is told nothing", "/nowhere/notify"], SOON);
    daemon.stop();
}

#[test]
fn a_hanging_encoder_is_not_fed_for_and_all_else_goes_on() {
    let _machine = heavy();
    let manager = Manager::new();
    let setup = manager.service(&["--source", "pattern", "--size", "320x180", "--codec", "h264"]);
    let faults = tempfile::tempdir().unwrap();
    std::fs::write(faults.path().join("encode-hang"), "").unwrap();
    let mut daemon = setup.variable("LATERNA_TEST_FAULTS", faults.path().to_str().unwrap()).start();
    daemon.logged(&["WARN", "LATERNA_TEST_FAULTS", "encode-hang"], SOON);
    daemon.forgive("a thread hangs");
    manager.awaits("READY=1");
    // Nobody watches: the encoder waits, which is no hanging.
    manager.is_fed(2);

    let viewer = Viewer::join(&daemon, IpAddr::V4(Ipv4Addr::LOCALHOST), Manner::Honest);
    let watched = manager.awaits("STATUS=");
    assert!(watched.starts_with("STATUS=broadcasting pattern 320x180 to 1 viewer as "), "{watched}");
    assert_eq!(manager.awaits("STATUS="), "STATUS=the thread encode-h264 hangs; a restart is due");
    assert_eq!(manager.hears(INTERVAL * 2), None, "fed while a thread hangs");
    daemon.logged(&["ERROR", "a thread hangs", "encode-h264"], SOON);
    assert_eq!(daemon.count_logged(&["ERROR"]), 1, "it is said once");
    // Neither the control side, nor the join and media threads are held up.
    let status = json_of(&daemon.setup().control(), &["status", "--json"]);
    assert_eq!(status["viewers"][0]["state"], "connected", "{status}");

    daemon.signal(Signal::TERM);
    manager.awaits("STOPPING=1");
    assert_eq!(daemon.ended().code(), Some(1));
    daemon.logged(&["laterna: ", "left behind"], SOON);
    drop(viewer);
}

/// As of a machine that slept: nobody hung, and whoever was to look could not.
#[test]
fn a_daemon_that_was_stopped_is_fed_for_at_once() {
    let _machine = heavy();
    let manager = Manager::new();
    let daemon = manager.service(&["--source", "pattern", "--size", "320x180"]).start();
    manager.awaits("READY=1");
    let viewer = Viewer::join(&daemon, IpAddr::V4(Ipv4Addr::LOCALHOST), Manner::Honest);
    viewer.sees("pictures", SOON, |seen| seen.pictures.len() > 10);
    manager.awaits("to 1 viewer as");
    for _ in 0..3 {
        manager.is_fed(1);
        daemon.signal(Signal::STOP);
        while manager.hears(INTERVAL * 3).is_some() {}
        daemon.signal(Signal::CONT);
        assert_eq!(manager.hears(INTERVAL / 4).as_deref(), Some(FED), "not fed at once");
    }
    assert_eq!(daemon.count_logged(&["hangs"]), 0);
    drop(viewer);
    daemon.stop();
}

#[test]
fn an_encoder_that_works_is_fed_for() {
    let _machine = heavy();
    let manager = Manager::new();
    let daemon = manager.service(&["--source", "pattern", "--size", "320x180"]).start();
    manager.awaits("READY=1");
    let viewer = Viewer::join(&daemon, IpAddr::V4(Ipv4Addr::LOCALHOST), Manner::Honest);
    viewer.sees("pictures", SOON, |seen| seen.pictures.len() > 10);
    manager.awaits("to 1 viewer as");
    manager.is_fed(3);
    drop(viewer);
    manager.awaits("to nobody as");
    daemon.stop();
}

/// Listens as a service manager does, and becomes the daemon then.
const LISTENS: &str = "
import os, socket, sys
held = socket.socket()
held.bind(('127.0.0.1', 0))
held.listen()
os.dup2(held.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[1], sys.argv[1:])
";

#[test]
fn a_socket_of_the_service_manager_goes_before_the_addresses_that_are_set() {
    let setup = Setup::new(&["--source", "pattern", "--listen", "off"]).by(&["python3", "-c", LISTENS]);
    let daemon = setup.start();
    daemon.logged(&["the service manager listens for the daemon", "sockets=1"], SOON);
    assert_ne!(daemon.http().port(), 0);
    let page = crate::support::http::request(daemon.http(), "GET", "/healthz", &[], b"");
    assert_eq!((page.status, page.body.as_str()), (200, "ok\n"));
    assert!(daemon.page().starts_with(&format!("http://{}/#", daemon.http())));
    daemon.stop();
}

#[test]
fn lines_for_the_journal_have_their_priority_and_no_time() {
    let journal = "JOURNAL_STREAM=$(stat -L -c %d:%i /proc/$$/fd/2) exec \"$@\"";
    let setup = Setup::new(&["--source", "pattern", "--log", "debug"]).by(&["bash", "-c", journal, "bash"]);
    let daemon = setup.variable("NOTIFY_SOCKET", "/nowhere/notify").start();
    daemon.logged(&["<4> WARN laterna::service"], SOON);
    daemon.logged(&["<6> INFO laterna::daemon::makers: ready"], SOON);
    assert!(daemon.log().lines().iter().all(|line| line.text.starts_with('<')), "{}", daemon.log().tail(20));
    daemon.stop();
    // Where stderr is not what the variable names, somebody else's journal is meant.
    let daemon = Setup::new(&["--source", "pattern"]).variable("JOURNAL_STREAM", "1:2").start();
    assert!(!daemon.logged(&["INFO laterna::daemon::makers: ready"], SOON).text.starts_with('<'));
    daemon.stop();
}
