//! The light receiver's process: hundreds of viewers in one thread, steered by lines on stdin, each answered by a line of JSON.
//!
//! A process of its own, so that its CPU is not the daemon's. Commands: `sink N` (plain sockets that count), `join N`, `leave KEPT`,
//! `mark` (begin to count), `run MS`, `take WATCHED` (what was counted; the pictures of the first so many viewers).

use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use laterna::clock::Clock;
use laterna::session::engine::identity::Identity;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use serde_json::{Value, json};

use super::light::Light;
use super::socket::{Buffers, Socket};

/// How long a join may take.
const MOST_JOINING: Duration = Duration::from_secs(30);
/// What an epoll event is about: one of these, and an index below.
const STDIN: u64 = 1 << 32;
const POST: u64 = 2 << 32;
const VIEWER: u64 = 3 << 32;
const SINK: u64 = 4 << 32;

/// The receiver's state.
struct Receiver {
    server: SocketAddr,
    code: Option<String>,
    clock: Clock,
    identity: Identity,
    epoll: std::os::fd::OwnedFd,
    buffers: Buffers,
    hears: bool,
    viewers: Vec<Light>,
    sinks: Vec<Socket>,
    sunk: u64,
    sink_lost: Vec<u32>,
    input: Vec<u8>,
    ended: bool,
}

/// Runs until stdin ends; `arguments` are the server's address, `sound` or `silent`, and the access code, if there is one.
pub fn run(arguments: &[String]) {
    let mut receiver = Receiver {
        server: arguments[0].parse().unwrap(),
        code: arguments.get(2).cloned(),
        hears: arguments[1] == "sound",
        clock: Clock::start(),
        identity: Identity::generate().unwrap(),
        epoll: epoll::create(epoll::CreateFlags::CLOEXEC).unwrap(),
        buffers: Buffers::new(),
        viewers: Vec::new(),
        sinks: Vec::new(),
        sunk: 0,
        sink_lost: Vec::new(),
        input: Vec::new(),
        ended: false,
    };
    // Viewers are other machines: whatever the daemon, the X server and the drawing want comes before their work. Times of arrival are the
    // kernel's and don't notice.
    rustix::process::nice(19).unwrap();
    rustix::io::ioctl_fionbio(std::io::stdin(), true).unwrap();
    receiver.watch(std::io::stdin(), STDIN);
    while !receiver.ended {
        receiver.turn(None);
        while let Some(end) = receiver.input.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = receiver.input.drain(..=end).collect();
            let answer = receiver.command(String::from_utf8_lossy(&line).trim());
            println!("{answer}");
        }
    }
    receiver.leave(0);
}

impl Receiver {
    fn command(&mut self, line: &str) -> Value {
        let (word, argument) = line.split_once(' ').unwrap_or((line, "0"));
        let argument: usize = argument.parse().unwrap();
        match word {
            "sink" => self.open_sinks(argument),
            "join" => self.join(argument),
            "leave" => self.leave(argument),
            "mark" => {
                self.viewers.iter_mut().for_each(Light::mark);
                Value::Null
            }
            "run" => {
                self.run_until(Instant::now() + Duration::from_millis(argument as u64), |_| false);
                Value::Null
            }
            "take" => self.take(argument),
            _ => panic!("{line:?} is no command"),
        }
    }

    fn open_sinks(&mut self, count: usize) -> Value {
        for index in 0..count {
            let socket = Socket::open(Ipv4Addr::LOCALHOST).unwrap();
            self.watch(&socket, SINK | index as u64);
            self.sinks.push(socket);
        }
        self.sink_lost = vec![0; count];
        json!(self.sinks.iter().map(|socket| socket.address().port()).collect::<Vec<_>>())
    }

    /// Joins all at once; what they took is told in milliseconds.
    fn join(&mut self, count: usize) -> Value {
        let (first, code) = (self.viewers.len(), self.code.clone());
        for index in first..first + count {
            let viewer = Light::new(Instant::now(), address(index), &self.identity, self.hears);
            self.watch(&viewer.socket, VIEWER | index as u64);
            self.viewers.push(viewer);
        }
        for index in first..first + count {
            self.viewers[index].ask(self.server, code.as_deref());
            if let Some(post) = &self.viewers[index].post {
                let stream = post.stream().as_fd();
                epoll::add(&self.epoll, stream, epoll::EventData::new_u64(POST | index as u64), epoll::EventFlags::IN)
                    .unwrap();
            }
        }
        self.run_until(Instant::now() + MOST_JOINING, |receiver| {
            receiver.viewers[first..].iter().all(|viewer| viewer.pictured.is_some() || viewer.failed.is_some())
        });
        let new = &self.viewers[first..];
        let millis = |times: Vec<Option<Duration>>| -> Vec<f64> {
            times.into_iter().flatten().map(|time| time.as_secs_f64() * 1000.0).collect()
        };
        json!({
            "connected": millis(new.iter().map(|viewer| viewer.connected).collect()),
            "pictured": millis(new.iter().map(|viewer| viewer.pictured).collect()),
            "failed": new.iter().filter_map(|viewer| viewer.failed.clone()).collect::<Vec<_>>(),
        })
    }

    fn leave(&mut self, kept: usize) -> Value {
        let now = Instant::now();
        self.viewers.drain(kept.min(self.viewers.len())..).for_each(|mut viewer| viewer.leave(now));
        Value::Null
    }

    /// What was counted since the mark, and the pictures of the first `watched`: time of capture, delay in ms, sizes.
    fn take(&mut self, watched: usize) -> Value {
        let sum = |of: fn(&Light) -> u64| self.viewers.iter().map(of).sum::<u64>();
        let pictures = |viewer: &Light| -> Vec<Value> {
            let Some(moment) = viewer.moment else { return Vec::new() };
            let tell = |picture: &super::rtp::Picture| {
                let captured = moment.wall(picture.timestamp);
                json!([captured, (picture.at.as_secs_f64() - captured) * 1000.0, picture.sizes])
            };
            viewer.stream.counts.pictures.iter().map(tell).collect()
        };
        json!({
            "packets": sum(|viewer| viewer.stream.counts.packets),
            "bytes": sum(|viewer| viewer.stream.counts.bytes),
            "missing": sum(|viewer| viewer.stream.counts.missing),
            "sound": sum(|viewer| viewer.sounds),
            "repeats": sum(|viewer| viewer.stream.counts.repeats),
            "socket_lost": sum(|viewer| u64::from(viewer.lost)),
            "failed": self.viewers.iter().filter_map(|viewer| viewer.failed.clone()).collect::<Vec<_>>(),
            "sunk": self.sunk,
            "sink_lost": self.sink_lost.iter().sum::<u32>(),
            "pictures": self.viewers.iter().take(watched).map(pictures).collect::<Vec<_>>(),
        })
    }

    fn run_until(&mut self, deadline: Instant, done: impl Fn(&Self) -> bool) {
        while Instant::now() < deadline && !self.ended && !done(self) {
            self.turn(Some(deadline));
        }
    }

    /// Waits for the next thing to happen, at most until `deadline`, and does it.
    fn turn(&mut self, deadline: Option<Instant>) {
        let due = self.viewers.iter().map(|viewer| viewer.due).chain(deadline).min();
        let wait = due.map(|due| due.saturating_duration_since(Instant::now()));
        let wait = wait.map(|wait| Timespec::try_from(wait).unwrap());
        let mut events = Vec::with_capacity(256);
        // Interrupted is as good as nothing.
        let _ = epoll::wait(&self.epoll, spare_capacity(&mut events), wait.as_ref());
        let now = Instant::now();
        for event in events {
            let data = { event.data }.u64();
            let index = data as u32 as usize;
            match data & !u64::from(u32::MAX) {
                STDIN => self.read_input(),
                POST => {
                    self.viewers[index].handle_response(now);
                }
                VIEWER => {
                    if let Some(viewer) = self.viewers.get_mut(index) {
                        viewer.handle_readable(now, &self.clock, &mut self.buffers);
                    }
                }
                _ => {
                    let (count, lost) = self.sinks[index].receive(&mut self.buffers, |_| {});
                    self.sunk += count as u64;
                    self.sink_lost[index] = lost.unwrap_or(self.sink_lost[index]);
                }
            }
        }
        for viewer in &mut self.viewers {
            if viewer.due <= now {
                viewer.handle_timeout(now, &self.clock);
            }
        }
    }

    fn read_input(&mut self) {
        let mut chunk = [0; 256];
        match std::io::stdin().read(&mut chunk) {
            Ok(0) => self.ended = true,
            Ok(count) => self.input.extend_from_slice(&chunk[..count]),
            Err(_) => {}
        }
    }

    fn watch(&self, fd: impl AsFd, data: u64) {
        epoll::add(&self.epoll, fd, epoll::EventData::new_u64(data), epoll::EventFlags::IN).unwrap();
    }
}

/// Each viewer has an address of its own, as in a class: the server bounds the connections of one address.
fn address(index: usize) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 1, 0, 1)) + index as u32)
}
