//! `./dev soak`: viewers come and go for half an hour, configurations are reloaded and faults come at random; what the daemon holds stays flat.

use std::collections::VecDeque;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit};

use crate::light::{Manner, Viewer, offer};
use crate::stage::SOON;
use crate::support::daemon::{Daemon, Setup};
use crate::support::servers::NodeServer;
use crate::support::{heavy, http};

/// How long it takes unless `LATERNA_SOAK_MINUTES` says otherwise.
const MINUTES: u64 = 30;
/// A hundred viewers a minute.
const BETWEEN_VIEWERS: Duration = Duration::from_millis(600);
/// The longest that one stays.
const MOST_STAY: u64 = 24;
const BETWEEN_FAULTS: Duration = Duration::from_secs(13);
const BETWEEN_RELOADS: Duration = Duration::from_secs(37);
const BETWEEN_LOOKS: Duration = Duration::from_secs(3);
const BETWEEN_LINES: Duration = Duration::from_secs(60);

/// What the daemon holds at one moment.
#[derive(Debug, Clone, Copy)]
struct Held {
    memory_kib: u64,
    descriptors: u64,
    threads: u64,
    tasks: u64,
    watching: u64,
}

impl Held {
    /// Nothing while the daemon takes no connection.
    fn by(daemon: &Daemon) -> Option<Self> {
        let status = fs::read_to_string(format!("/proc/{}/status", daemon.id())).unwrap();
        let line = |name: &str| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().next().unwrap().parse().unwrap()
        };
        let response = http::request(daemon.http(), "GET", "/metrics", &[], b"");
        let sample = |name: &str| -> Option<u64> {
            response.body.lines().find_map(|line| line.strip_prefix(name))?.trim().parse().ok()
        };
        Some(Self {
            memory_kib: line("VmRSS:"),
            descriptors: fs::read_dir(format!("/proc/{}/fd", daemon.id())).unwrap().count() as u64,
            threads: line("Threads:"),
            tasks: sample("laterna_tasks ")?,
            watching: sample("laterna_viewers{state=\"connected\"} ")?,
        })
    }
}

/// A repeatable choice.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }
}

/// A fault that lasts until it is undone.
enum Lasting {
    EncodeError,
    Descriptors(Rlimit),
    Stopped,
    Hostile { _connections: Vec<TcpStream> },
    Garbling { _viewers: Vec<Viewer> },
    ServerAway,
}

/// All that a soak has.
struct Soak {
    daemon: Daemon,
    directory: tempfile::TempDir,
    server: Option<NodeServer>,
    port: String,
    dice: Dice,
    staying: VecDeque<(Instant, Viewer)>,
    came: u32,
    refused: u32,
    faults: u32,
    reloads: u32,
    lasting: Option<(Instant, Lasting)>,
}

fn address(index: u32) -> IpAddr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 8, 0, 1)) + index % 200).into()
}

impl Soak {
    fn begin() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let server = NodeServer::start("mdn.js", &["0"]);
        let port = server.address.port().to_string();
        let config = directory.path().join("laterna.toml");
        write_config(&config, 30);
        let faults = directory.path().to_str().unwrap();
        let setup =
            Setup::new(&["--source", "pattern", "--size", "640x360", "--audio", "tone", "--max-viewers", "200"])
                .args(&["--config", config.to_str().unwrap(), "--signaling", &format!("mdn+ws://127.0.0.1:{port}")]);
        // A backtrace keeps the debug information in memory, which is 170 MB.
        let mut daemon = setup.variable("LATERNA_TEST_FAULTS", faults).variable("RUST_BACKTRACE", "0").start();
        daemon.forgive("a session failed by a fault");
        daemon.forgive("panicked at");
        daemon.logged(&["signed in"], SOON);
        Self {
            daemon,
            directory,
            server: Some(server),
            port,
            dice: Dice(4711),
            staying: VecDeque::new(),
            came: 0,
            refused: 0,
            faults: 0,
            reloads: 0,
            lasting: None,
        }
    }

    /// Lets one viewer come for a while, and those whose time is up go.
    fn viewers(&mut self, now: Instant) {
        self.staying.retain(|(until, _)| now < *until);
        self.came += 1;
        let manner = if self.came % 10 == 0 { Manner::Begging } else { Manner::Honest };
        match offer(&self.daemon, address(self.came), manner) {
            Ok(offered) => {
                let until = now + Duration::from_millis(200 + self.dice.below(MOST_STAY * 1000));
                self.staying.push_back((until, offered.connect(manner)));
            }
            Err(_) => self.refused += 1,
        }
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    fn limit(&self, limits: Rlimit) -> Rlimit {
        prlimit(Pid::from_raw(self.daemon.id().cast_signed()), Resource::Nofile, limits).unwrap()
    }

    /// Has a fault come that lasts for some seconds.
    fn fault(&mut self, now: Instant) {
        self.faults += 1;
        let lasting = match self.dice.below(7) {
            0 => {
                fs::write(self.file("encode-error"), "").unwrap();
                Lasting::EncodeError
            }
            1 => {
                let open = fs::read_dir(format!("/proc/{}/fd", self.daemon.id())).unwrap().count() as u64;
                Lasting::Descriptors(self.limit(Rlimit { current: Some(open), ..getrlimit(Resource::Nofile) }))
            }
            2 => {
                self.daemon.signal(Signal::STOP);
                Lasting::Stopped
            }
            3 => {
                let connect = |_| TcpStream::connect(self.daemon.http()).unwrap();
                Lasting::Hostile { _connections: (0..300).map(connect).collect() }
            }
            4 => {
                let join = |index: u32| Viewer::join(&self.daemon, address(190 + index), Manner::Garbling);
                Lasting::Garbling { _viewers: (0..2).map(join).collect() }
            }
            5 => {
                self.server.take().unwrap().kill();
                Lasting::ServerAway
            }
            // Whoever came last panics, if anybody is still there.
            _ => {
                let came = self.daemon.log().lines();
                let last = came.iter().rev().find_map(|line| line.text.split("viewer came viewer=").nth(1));
                let number = last.and_then(|rest| rest.split(' ').next()).unwrap_or("0");
                fs::write(self.file("session-panic"), number).unwrap();
                Lasting::EncodeError
            }
        };
        self.lasting = Some((now + Duration::from_millis(500 + self.dice.below(3_500)), lasting));
    }

    fn undo(&mut self) {
        let Some((_, lasting)) = self.lasting.take() else { return };
        match lasting {
            Lasting::EncodeError => {
                // Either is there.
                let _ = fs::remove_file(self.file("encode-error"));
                let _ = fs::remove_file(self.file("session-panic"));
            }
            Lasting::Descriptors(before) => drop(self.limit(before)),
            Lasting::Stopped => self.daemon.signal(Signal::CONT),
            Lasting::Hostile { .. } | Lasting::Garbling { .. } => {}
            Lasting::ServerAway => self.server = Some(NodeServer::start("mdn.js", &[&self.port])),
        }
    }

    fn reload(&mut self) {
        self.reloads += 1;
        write_config(&self.file("laterna.toml"), if self.reloads % 2 == 0 { 30 } else { 20 });
        self.daemon.signal(Signal::HUP);
    }

    /// Whether the daemon answers at the moment.
    fn answers(&self) -> bool {
        !matches!(self.lasting, Some((_, Lasting::Stopped | Lasting::Descriptors(_))))
    }
}

fn write_config(path: &Path, fps: u32) {
    let fresh = path.with_extension("fresh");
    fs::write(&fresh, format!("fps = {fps}\n")).unwrap();
    fs::rename(fresh, path).unwrap();
}

fn median(of: impl Iterator<Item = u64>) -> u64 {
    let mut all: Vec<_> = of.collect();
    all.sort_unstable();
    all.get(all.len() / 2).copied().unwrap_or_default()
}

#[test]
#[ignore = "takes half an hour: run by ./dev soak"]
fn what_the_daemon_holds_stays_flat_while_viewers_and_faults_come_and_go() {
    let _machine = heavy();
    let minutes = std::env::var("LATERNA_SOAK_MINUTES").ok().and_then(|text| text.parse().ok()).unwrap_or(MINUTES);
    let mut soak = Soak::begin();
    let begun = Instant::now();
    let end = begun + Duration::from_secs(60 * minutes);
    let [mut viewer, mut fault, mut reload, mut look, mut line] =
        [BETWEEN_VIEWERS, BETWEEN_FAULTS, BETWEEN_RELOADS, BETWEEN_LOOKS, BETWEEN_LINES].map(|pause| begun + pause);
    let (mut held, mut since_line) = (Vec::new(), 0);
    println!("minute | memory MiB | descriptors | threads | tasks | watching | came | refused | faults | reloads");
    loop {
        let now = Instant::now();
        if now >= end {
            break;
        }
        if soak.lasting.as_ref().is_some_and(|(until, _)| now >= *until) {
            soak.undo();
        }
        if now >= viewer && soak.answers() {
            soak.viewers(now);
            viewer = (viewer + BETWEEN_VIEWERS).max(now - BETWEEN_VIEWERS * 20);
        }
        if now >= reload && soak.answers() {
            soak.reload();
            reload = now + BETWEEN_RELOADS;
        }
        if now >= fault && soak.lasting.is_none() {
            soak.fault(now);
            fault = now + BETWEEN_FAULTS;
        }
        if now >= look && soak.lasting.is_none() {
            held.extend(Held::by(&soak.daemon));
            look = now + BETWEEN_LOOKS;
        }
        if now >= line {
            line += BETWEEN_LINES;
            let last: &[Held] = &held[since_line..];
            let of = |what: fn(&Held) -> u64| median(last.iter().map(what));
            println!(
                "{:6} | {:10.1} | {:11} | {:7} | {:5} | {:8} | {:4} | {:7} | {:6} | {}",
                now.duration_since(begun).as_secs() / 60,
                of(|held| held.memory_kib) as f64 / 1024.0,
                of(|held| held.descriptors),
                of(|held| held.threads),
                of(|held| held.tasks),
                of(|held| held.watching),
                soak.came,
                soak.refused,
                soak.faults,
                soak.reloads,
            );
            since_line = held.len();
        }
        // Nothing is awaited but the next moment at which something is to be done.
        std::thread::park_timeout(Duration::from_millis(20));
    }
    soak.undo();
    soak.staying.clear();
    // The first sixth is left out: the allocator and the pools fill up.
    let steady = &held[held.len() / 6..];
    let (first, second) = steady.split_at(steady.len() / 2);
    let mut grown = Vec::new();
    let kinds: [(&str, fn(&Held) -> u64, u64); 4] = [
        ("memory in KiB", |held| held.memory_kib, 8 << 10),
        ("descriptors", |held| held.descriptors, 6),
        ("threads", |held| held.threads, 2),
        ("tasks", |held| held.tasks, 12),
    ];
    for (name, what, slack) in kinds {
        let (before, after) = (median(first.iter().map(what)), median(second.iter().map(what)));
        let is_flat = after <= before + slack.max(before / 20);
        println!(
            "{name}: {before} in the first half, {after} in the second: {}",
            if is_flat { "flat" } else { "it grows" }
        );
        if !is_flat {
            grown.push(name);
        }
    }
    assert!(grown.is_empty(), "not flat: {grown:?}");
    let newcomer = Viewer::join(&soak.daemon, address(1), Manner::Honest);
    newcomer.sees("pictures", SOON, |seen| seen.pictures.len() > 20);
    drop(newcomer);
    soak.daemon.stop();
}
