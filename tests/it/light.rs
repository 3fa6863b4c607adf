//! Viewers that don't decode: they connect by the daemon's own engine in the other role, count what comes, and behave as they are told.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use laterna::session::engine::identity::Identity;
use laterna::session::engine::rtc::RtcEngine;
use laterna::session::engine::{Engine, EngineEvent, IceRole, Path, RemoteTransport};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt;

#[path = "../../benches/fanout/rtcp.rs"]
#[allow(dead_code, reason = "the benchmark's")]
mod rtcp;
#[path = "../../benches/fanout/rtp.rs"]
#[allow(dead_code, reason = "the benchmark's")]
mod rtp;
#[path = "../../benches/fanout/signal.rs"]
#[allow(dead_code, reason = "the benchmark's")]
mod signal;

use crate::support::daemon::Daemon;
use signal::Post;

/// How long an answer to an offer may take.
const ANSWERED: Duration = Duration::from_secs(20);
/// Time between two reports.
const REPORT_INTERVAL: Duration = Duration::from_millis(100);
/// How long a viewer waits for datagrams before it looks at its other duties.
const TURN: Duration = Duration::from_millis(5);
/// Bytes asked of the kernel for what has arrived: a whole catch-up and more.
const KERNEL_BUFFER: usize = 8 << 20;

/// How a viewer behaves once it is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// It reports as browsers do.
    Honest,
    /// It keeps its connection alive, and reports nothing.
    Mute,
    /// It asks for a keyframe and for packets again at each turn.
    Begging,
    /// It sends garbage of all protocols beside its reports.
    Garbling,
    /// It reads nothing any more.
    Deaf,
    /// Its certificate is not the one of its offer.
    Impostor,
}

/// What has become of a viewer.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Whether it is connected.
    pub connected: bool,
    /// Packets whose sequence numbers never came.
    pub missing: u64,
    /// Packets of each whole picture.
    pub pictures: Vec<usize>,
    /// The longest time between two of them.
    pub longest_pause: Duration,
    /// Packets that came again.
    pub repeats: u64,
    /// Why its connection ended.
    pub ended: Option<String>,
}

/// An offer that was answered.
pub struct Offered {
    socket: UdpSocket,
    engine: RtcEngine,
    /// What the daemon said of its transport.
    pub remote: RemoteTransport,
    ssrc: u32,
}

/// A viewer in a thread of its own, which ends with this value.
pub struct Viewer {
    seen: Arc<(Mutex<Seen>, Condvar)>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Offers from an address of loopback; the response where it is refused.
pub fn offer(daemon: &Daemon, ip: IpAddr, manner: Manner) -> Result<Offered, String> {
    offer_at(daemon.http(), daemon.code().as_deref(), ip, manner)
}

/// The same at the address where a daemon listens for HTTP.
pub fn offer_at(http: SocketAddr, code: Option<&str>, ip: IpAddr, manner: Manner) -> Result<Offered, String> {
    let identity = Identity::generate().unwrap();
    let shown = if manner == Manner::Impostor { Identity::generate().unwrap() } else { identity.clone() };
    let socket = UdpSocket::bind((ip, 0)).unwrap();
    // Without the right to go beyond the system's limit, the limit it is.
    let _ = sockopt::set_socket_recv_buffer_size_force(&socket, KERNEL_BUFFER);
    socket.set_read_timeout(Some(TURN)).unwrap();
    let address = socket.local_addr().unwrap();
    let (engine, local) = RtcEngine::new(Instant::now(), &shown, &[address.into()], IceRole::Controlling).unwrap();
    let text = signal::offer(&local, &identity.fingerprint(), address, false);
    let mut post = Post::begin(ip, http, code, &text).unwrap();
    let deadline = Instant::now() + ANSWERED;
    let answer = loop {
        if let Some(answer) = post.handle_readable() {
            break answer;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        assert!(!left.is_zero(), "no answer within {ANSWERED:?}");
        poll(&mut [PollFd::new(post.stream(), PollFlags::IN)], Some(&Timespec::try_from(left).unwrap())).unwrap();
    };
    answer.map(|answer| Offered { socket, engine, remote: answer.remote, ssrc: answer.ssrc })
}

impl Offered {
    /// Goes on to connect.
    pub fn connect(mut self, manner: Manner) -> Viewer {
        let remote = self.remote.clone();
        self.engine.start(Instant::now(), &remote).unwrap();
        let (seen, stop) = (Arc::<(Mutex<Seen>, Condvar)>::default(), Arc::<AtomicBool>::default());
        let mut turns = Turns {
            offered: self,
            manner,
            seen: seen.clone(),
            stream: rtp::Stream::default(),
            last_picture: None,
            next_report: Instant::now(),
            noise: 1,
        };
        let stopped = stop.clone();
        let run = move || {
            while !stopped.load(Ordering::Relaxed) {
                turns.turn();
            }
            turns.leave();
        };
        Viewer { seen, stop, thread: Some(std::thread::spawn(run)) }
    }

    /// A check of its own, but with an integrity that is wrong, for the transport `remote`; and the socket to send it from.
    pub fn forge(mut self, remote: &RemoteTransport) -> (UdpSocket, SocketAddr, Vec<u8>) {
        let remote = RemoteTransport { password: "wrong".repeat(6), ..remote.clone() };
        self.engine.start(Instant::now(), &remote).unwrap();
        self.engine.handle_timeout(Instant::now());
        let check = std::iter::from_fn(|| self.engine.poll_transmit()).find(|transmit| transmit.data[..2] == [0, 1]);
        let check = check.expect("a check");
        (self.socket, check.path.remote, check.data)
    }
}

impl Viewer {
    /// Offers and connects.
    pub fn join(daemon: &Daemon, ip: IpAddr, manner: Manner) -> Self {
        offer(daemon, ip, manner).unwrap().connect(manner)
    }

    /// What it has seen so far.
    pub fn seen(&self) -> Seen {
        self.seen.0.lock().unwrap().clone()
    }

    /// Measures the longest time between two pictures anew.
    pub fn forget_pause(&self) {
        self.seen.0.lock().unwrap().longest_pause = Duration::ZERO;
    }

    /// Awaits that it has seen something.
    pub fn sees(&self, what: &str, within: Duration, wanted: impl Fn(&Seen) -> bool) -> Seen {
        let deadline = Instant::now() + within;
        let mut seen = self.seen.0.lock().unwrap();
        while !wanted(&seen) {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{what}: not within {within:?}: {seen:?}");
            seen = self.seen.1.wait_timeout(seen, left).unwrap().0;
        }
        seen.clone()
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let joined = self.thread.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || !matches!(joined, Some(Err(_))), "a viewer's thread panicked");
    }
}

/// A viewer's thread.
struct Turns {
    offered: Offered,
    manner: Manner,
    seen: Arc<(Mutex<Seen>, Condvar)>,
    stream: rtp::Stream,
    last_picture: Option<Instant>,
    next_report: Instant,
    noise: u32,
}

impl Turns {
    fn turn(&mut self) {
        let connected = self.seen.0.lock().unwrap().connected;
        if connected && self.manner == Manner::Deaf {
            // Its socket stays, and fills: nobody will say anything.
            std::thread::park_timeout(TURN);
            return;
        }
        let mut buffer = [0; 2048];
        let until = Instant::now() + TURN;
        while let Ok((length, from)) = self.offered.socket.recv_from(&mut buffer) {
            self.receive(&buffer[..length], from);
            if Instant::now() >= until {
                break;
            }
        }
        let now = Instant::now();
        if self.offered.engine.poll_timeout().is_some_and(|due| due <= now) {
            self.offered.engine.handle_timeout(now);
        }
        if connected {
            self.behave(now);
        }
        self.transmit();
        let mut seen = self.seen.0.lock().unwrap();
        while let Some(event) = self.offered.engine.poll_event() {
            match event {
                EngineEvent::Connected => seen.connected = true,
                EngineEvent::Ended(end) => seen.ended = Some(end.to_string()),
                EngineEvent::Address(_) | EngineEvent::Feedback(_) => {}
            }
        }
        seen.missing = self.stream.counts.missing;
        self.seen.1.notify_all();
    }

    fn receive(&mut self, data: &[u8], from: SocketAddr) {
        let now = Instant::now();
        match data {
            [128..=191, second, ..] if !(192..=223).contains(second) => {
                let Some(header) = rtp::Header::parse(data, signal::TRANSPORT_CC) else { return };
                let mut seen = self.seen.0.lock().unwrap();
                if header.ssrc != self.offered.ssrc {
                    seen.repeats += 1;
                    return;
                }
                self.stream.handle(&header, data.len(), Duration::ZERO);
                for picture in self.stream.counts.pictures.drain(..) {
                    seen.pictures.push(picture.sizes.len());
                    let pause = self.last_picture.replace(now).map(|last| now - last);
                    seen.longest_pause = seen.longest_pause.max(pause.unwrap_or_default());
                }
            }
            _ => {
                let path = Path::udp(self.offered.socket.local_addr().unwrap(), from);
                self.offered.engine.handle_datagram(now, path, data);
            }
        }
    }

    /// Does what its manner has it do at each turn.
    fn behave(&mut self, now: Instant) {
        let Some(path) = self.offered.engine.path() else { return };
        let ssrc = self.offered.ssrc.to_be_bytes();
        if matches!(self.manner, Manner::Honest | Manner::Garbling) && now >= self.next_report {
            self.next_report = now + REPORT_INTERVAL;
            let Some(highest) = self.stream.highest else { return };
            let mut report = Vec::new();
            rtcp::receiver_report(&mut report, &rtcp::Block { ssrc: self.offered.ssrc, highest, ..Default::default() });
            self.send_rtcp(path, &report);
        }
        match self.manner {
            Manner::Begging => {
                let newest = self.stream.highest.unwrap_or_default() as u16;
                let lost = newest.wrapping_sub(40).to_be_bytes();
                let picture_loss = [&[0x80, 201, 0, 1, 0, 0, 0, 1, 0x81, 206, 0, 2, 0, 0, 0, 1][..], &ssrc].concat();
                // Seventeen packets that had all come.
                let nack = [&[0x81, 205, 0, 3, 0, 0, 0, 1][..], &ssrc, &lost, &[0xff, 0xff]].concat();
                for _ in 0..4 {
                    self.send_rtcp(path, &picture_loss);
                    self.send_rtcp(path, &nack);
                }
            }
            Manner::Garbling => {
                for first in [0, 1, 20, 22, 23, 63, 64, 128, 129, 192] {
                    let mut garbage: Vec<u8> = (0..200).map(|_| self.noise()).collect();
                    garbage[0] = first;
                    if first >= 128 {
                        garbage[1] = 200 + self.noise() % 8;
                    }
                    let _ = self.offered.socket.send_to(&garbage, path.remote);
                }
            }
            Manner::Honest | Manner::Mute | Manner::Deaf | Manner::Impostor => {}
        }
    }

    fn noise(&mut self) -> u8 {
        self.noise = self.noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.noise >> 24) as u8
    }

    fn send_rtcp(&mut self, path: Path, plain: &[u8]) {
        if let Some(protected) = self.offered.engine.protect_rtcp(plain) {
            // A full buffer loses it, as a network may.
            let _ = self.offered.socket.send_to(&protected, path.remote);
        }
    }

    fn transmit(&mut self) {
        while let Some(transmit) = self.offered.engine.poll_transmit() {
            // A full buffer loses it, as a network may.
            let _ = self.offered.socket.send_to(&transmit.data, transmit.path.remote);
        }
    }

    fn leave(&mut self) {
        self.offered.engine.close(Instant::now());
        self.transmit();
    }
}
