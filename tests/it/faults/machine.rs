//! What the machine does to the daemon: descriptors and disks run out, it is stopped, its clock is set.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit};

use super::{Eye as _, Fault, lasts, times};
use crate::control::json_of;
use crate::light::{Manner, Viewer};
use crate::stage::SOON;
use crate::support::daemon::{Daemon, Setup};
use crate::support::process::Process;
use crate::support::{heavy, report_wall_time};

const SMALL: &[&str] = &["--source", "pattern", "--size", "640x360", "--audio", "off"];

fn address(index: u8) -> IpAddr {
    Ipv4Addr::new(127, 5, 0, index).into()
}

fn descriptors(daemon: &Daemon) -> u64 {
    fs::read_dir(format!("/proc/{}/fd", daemon.id())).unwrap().count() as u64
}

/// Limits the descriptors of a running daemon; gives the limits that there were.
fn limit(daemon: &Daemon, limits: Rlimit) -> Rlimit {
    let pid = Pid::from_raw(daemon.id().cast_signed());
    prlimit(pid, Resource::Nofile, limits).unwrap()
}

/// CPU time that the daemon takes in a second of quiet.
fn cpu_of_two_seconds(daemon: &Daemon) -> Duration {
    let before = daemon.cpu();
    lasts(daemon, Duration::from_secs(2));
    daemon.cpu() - before
}

#[test]
fn used_up_descriptors_are_survived() {
    let _machine = heavy();
    let daemon = Setup::new(SMALL).start();
    let viewer = Viewer::join(&daemon, address(1), Manner::Honest);
    viewer.goes_on();
    let fault = Fault {
        name: "descriptors used up",
        comes: &["WARN", "no further connection can be taken"],
        passes: &["INFO", "connections are taken again"],
        lasting: Duration::ZERO,
        most: Duration::from_millis(200),
    };
    for round in 1..=times() {
        let mark = daemon.log().mark();
        let usual = cpu_of_two_seconds(&daemon);
        viewer.begin();
        let few = Some(descriptors(&daemon) + 2);
        let before = limit(&daemon, Rlimit { current: few, ..getrlimit(Resource::Nofile) });
        let many: Vec<_> = (0..60).map(|_| TcpStream::connect(daemon.http()).unwrap()).collect();
        daemon.logged_from(mark, fault.comes, SOON);
        let busy = cpu_of_two_seconds(&daemon);
        println!("CPU in two seconds: {usual:?} before, {busy:?} while there are none");
        assert!(busy < usual + Duration::from_millis(400), "it spins: {busy:?} after {usual:?}");
        drop(many);
        limit(&daemon, before);
        daemon.logged_from(mark, fault.passes, SOON);
        viewer.goes_on();
        Viewer::join(&daemon, address(2), Manner::Honest).goes_on();
        fault.judge(round, viewer.gap(), &daemon.log().lines()[mark..]);
    }
    assert_eq!(viewer.seen().missing, 0);
    drop(viewer);
    daemon.stop();
}

/// A daemon whose state directory is a disk of 64 KiB of its own, and what it is started by; it logs there.
fn on_a_small_disk(script: &str) -> Setup {
    let setup = Setup::new(SMALL);
    let disk = setup.state().display().to_string();
    let script = format!("mount -t tmpfs -o size=64k none {disk} && {script}");
    let namespace: &[&str] = if rustix::process::geteuid().is_root() {
        &["unshare", "--mount"]
    } else {
        &["unshare", "--mount", "--map-root-user"]
    };
    setup.by(&[namespace, &["sh", "-c", &script, &disk]].concat())
}

/// Whether disks of one's own are permitted here.
fn has_disks() -> bool {
    let setup = on_a_small_disk("exec true");
    let mut command = setup.command();
    let ended = Process::spawn(command.stdout(Stdio::null()).stderr(Stdio::null())).wait(SOON);
    let permitted = ended.is_some_and(|status| status.success());
    if !permitted {
        println!("skipped: disks of one's own are not permitted here");
    }
    permitted
}

/// The daemon's own view of its state directory.
fn inside(daemon: &Daemon) -> PathBuf {
    let state = daemon.setup().state().strip_prefix("/").unwrap().to_owned();
    Path::new("/proc").join(daemon.id().to_string()).join("root").join(state)
}

/// Writes until the disk is full.
fn fill(directory: &Path) -> PathBuf {
    let path = directory.join("filler");
    let mut file = File::create(&path).unwrap();
    let error = loop {
        if let Err(error) = file.write_all(&[0; 512]).and_then(|()| file.sync_all()) {
            break error;
        }
    };
    assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
    path
}

/// Awaits that a file has a line with these words; gives the file.
fn awaits_line(path: &Path, words: &[&str], viewer: &Viewer) -> String {
    let deadline = Instant::now() + SOON;
    loop {
        let text = fs::read_to_string(path).unwrap();
        if text.lines().any(|line| words.iter().all(|word| line.contains(word))) {
            return text;
        }
        assert!(Instant::now() < deadline, "no {words:?} in {text}");
        viewer.goes_on();
    }
}

#[test]
fn a_disk_that_fills_up_is_survived() {
    let _machine = heavy();
    if !has_disks() {
        return;
    }
    let daemon = on_a_small_disk("exec \"$@\" 2>$0/log").start();
    let disk = inside(&daemon);
    let viewer = Viewer::join(&daemon, address(1), Manner::Honest);
    viewer.goes_on();
    for round in 1..=times() {
        viewer.begin();
        let before = fs::read_to_string(disk.join("log")).unwrap().lines().count();
        let filler = fill(&disk);
        // Each who comes and goes is worth two lines.
        for _ in 0..3 {
            Viewer::join(&daemon, address(2), Manner::Honest).goes_on();
        }
        viewer.goes_on();
        fs::remove_file(filler).unwrap();
        Viewer::join(&daemon, address(3), Manner::Honest).goes_on();
        let told = awaits_line(&disk.join("log"), &["WARN", "log lines could not be written", "lost="], &viewer);
        let told: Vec<_> = told.lines().skip(before).collect();
        let gap = viewer.gap();
        report_wall_time(&format!("a full disk {round}: the largest gap"), gap, Duration::from_millis(200));
        told.iter().for_each(|line| println!("  | {line}"));
        assert_eq!(told.iter().filter(|line| line.contains("could not be written")).count(), 1);
    }
    assert_eq!(viewer.seen().missing, 0);
    drop(viewer);
    daemon.stop();
}

#[test]
fn a_disk_that_is_full_from_the_start_is_survived() {
    let _machine = heavy();
    if !has_disks() {
        return;
    }
    let full = "head -c 1M /dev/zero >$0/filler; exec \"$@\" >/dev/full";
    // Nothing of it can be printed: it is found by its control socket.
    let setup = on_a_small_disk(full).args(&["--tls", "self-signed", "--listen", "127.0.0.1:0", "--udp-port", "0"]);
    let runtime = tempfile::tempdir().unwrap();
    let control = runtime.path().join("laterna/control.sock");
    let setup = setup.runtime(runtime.path());
    let mut process = Process::spawn(&mut setup.command());
    let log = crate::support::process::Output::follow(process.child().stderr.take().unwrap());
    for words in [
        ["WARN", "the code can't be kept", "No space left"],
        ["WARN", "the certificate can't be kept", "No space left"],
        ["WARN", "stdout does not take", "No space left"],
    ] {
        let said = log.wait(SOON, |line| words.iter().all(|word| line.contains(word)));
        println!("  | {}", said.unwrap_or_else(|| panic!("no {words:?} in\n{}", log.tail(40))).text);
    }
    let status = json_of(&control, &["status", "--json"]);
    assert!(status["viewers"].as_array().unwrap().is_empty(), "{status}");
    process.signal(Signal::TERM);
    assert_eq!(process.wait(SOON).unwrap().code(), Some(0), "{}", log.tail(30));
}

#[test]
fn a_log_that_is_never_taken_is_survived() {
    let _machine = heavy();
    let setup = Setup::new(SMALL).by(&["sh", "-c", "exec \"$@\" 2>/dev/full", "sh"]);
    let daemon = setup.start();
    let viewer = Viewer::join(&daemon, address(1), Manner::Honest);
    viewer.goes_on();
    drop(viewer);
    daemon.stop();
    // Not even why it can't start can be said.
    let failure = setup.args(&["--listen", "192.0.2.1:1", "--udp-port", "0"]).fail();
    assert_eq!(failure.status.code(), Some(1), "{failure:#?}");
}

#[test]
fn a_daemon_that_is_stopped_goes_on_as_if_nothing_had_been() {
    let _machine = heavy();
    let daemon = Setup::new(SMALL).start();
    let viewer = Viewer::join(&daemon, address(1), Manner::Honest);
    viewer.goes_on();
    // Longer than a viewer may be silent.
    let stopped = Duration::from_secs(14);
    let fault = Fault {
        name: "a stop of 14 s",
        comes: &[],
        passes: &["WARN", "the daemon was stopped or held up"],
        lasting: stopped,
        most: stopped + Duration::from_secs(1),
    };
    fault.strikes(&daemon, &viewer, || daemon.signal(Signal::STOP), || daemon.signal(Signal::CONT));
    drop(viewer);
    daemon.stop();
}

/// A library that puts wall time off by what a file says.
fn shifted_clock(directory: &Path) -> PathBuf {
    let library = directory.join("wall.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/wall.c");
    let made = Command::new("gcc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).status().unwrap();
    assert!(made.success(), "gcc: {made}");
    library
}

#[test]
fn an_hour_by_which_the_clock_is_set_is_no_matter() {
    let _machine = heavy();
    let directory = tempfile::tempdir().unwrap();
    let (library, offset) = (shifted_clock(directory.path()), directory.path().join("offset"));
    fs::write(&offset, "0").unwrap();
    let setup = Setup::new(SMALL).variable("LD_PRELOAD", library.to_str().unwrap());
    let daemon = setup.variable("LATERNA_WALL_OFFSET", offset.to_str().unwrap()).start();
    let viewer = Viewer::join(&daemon, address(1), Manner::Honest);
    viewer.goes_on();
    for (name, seconds) in [("a clock set an hour forward", "3600"), ("a clock set an hour back", "-3600")] {
        let forward = ["WARN", "the machine's clock was set forward"];
        let back = ["WARN", "the machine's clock was set back"];
        let (comes, passes) = if seconds == "3600" { (&forward, &back) } else { (&back, &forward) };
        let most = Duration::from_millis(200);
        let fault = Fault { name, comes, passes, lasting: Duration::from_secs(1), most };
        let set = |seconds: &str| {
            // Not in two steps, an empty file between them.
            let fresh = directory.path().join("fresh");
            fs::write(&fresh, seconds).unwrap();
            fs::rename(fresh, &offset).unwrap();
        };
        fault.strikes(&daemon, &viewer, || set(seconds), || set("0"));
        Viewer::join(&daemon, address(2), Manner::Honest).goes_on();
    }
    assert_eq!(viewer.seen().missing, 0);
    drop(viewer);
    daemon.stop();
}
