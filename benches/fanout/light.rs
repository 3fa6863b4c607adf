//! One light viewer: completes ICE and DTLS by the daemon's own engine in the other role, reports as a browser does, and counts what comes.
//!
//! It never decodes and never decrypts media: by rule 5 the first picture of a viewer is a keyframe.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use laterna::clock::Clock;
use laterna::session::engine::identity::Identity;
use laterna::session::engine::rtc::RtcEngine;
use laterna::session::engine::{Engine, EngineEvent, Feedback, IceRole, Path};

use super::rtcp::{self, Block};
use super::rtp::{Header, SenderMoment, Stream};
use super::signal::{self, Answer, Post};
use super::socket::{Buffers, Socket};

/// Time between two reports.
const REPORT_INTERVAL: Duration = Duration::from_millis(100);

/// One viewer.
pub struct Light {
    /// Its socket.
    pub socket: Socket,
    /// The request that is under way.
    pub post: Option<Post>,
    /// When it wants to be called next.
    pub due: Instant,
    /// When its offer was posted.
    posted: Instant,
    /// From its offer to its connection and to its first whole picture.
    pub connected: Option<Duration>,
    /// See [`Light::connected`].
    pub pictured: Option<Duration>,
    /// Why it is over.
    pub failed: Option<String>,
    /// What came of the media.
    pub stream: Stream,
    /// Packets of sound that came since the window began.
    pub sounds: u64,
    /// The sender's last report.
    pub moment: Option<SenderMoment>,
    /// Datagrams that its socket lost since the window began, and before.
    pub lost: u32,
    lost_before: u32,
    offer: String,
    engine: RtcEngine,
    ssrc: u32,
    next_report: Instant,
    reports: u8,
    reported: (u64, u64, u32),
    arrived: Vec<(u64, Duration)>,
    last_number: u64,
}

impl Light {
    /// Prepares a viewer at an address of its own, and its offer.
    pub fn new(now: Instant, ip: Ipv4Addr, identity: &Identity, hears: bool) -> Self {
        let socket = Socket::open(ip).unwrap();
        let address = socket.address();
        let (engine, local) = RtcEngine::new(now, identity, &[address.into()], IceRole::Controlling).unwrap();
        let offer = signal::offer(&local, &identity.fingerprint(), address, hears);
        // Viewers report at different times: each port has a phase of its own.
        let phase = REPORT_INTERVAL * u32::from(address.port() % 97) / 97;
        Self {
            socket,
            post: None,
            due: now,
            posted: now,
            connected: None,
            pictured: None,
            failed: None,
            stream: Stream::default(),
            sounds: 0,
            moment: None,
            lost: 0,
            lost_before: 0,
            offer,
            engine,
            ssrc: 0,
            next_report: now + phase,
            reports: 0,
            reported: (0, 0, 0),
            arrived: Vec::new(),
            last_number: 0,
        }
    }

    /// Posts the offer.
    pub fn ask(&mut self, server: SocketAddr, code: Option<&str>) {
        self.posted = Instant::now();
        match Post::begin(self.socket.address().ip(), server, code, &self.offer) {
            Ok(post) => self.post = Some(post),
            Err(error) => self.failed = Some(error.to_string()),
        }
    }

    /// Takes the answer, once it is there; returns whether the request is over.
    pub fn handle_response(&mut self, now: Instant) -> bool {
        let Some(answer) = self.post.as_mut().and_then(Post::handle_readable) else { return false };
        self.post = None;
        let started = answer.and_then(|Answer { remote, ssrc }| {
            self.ssrc = ssrc;
            self.engine.start(now, &remote).map_err(|error| error.to_string())
        });
        self.failed = started.err();
        self.attend(now);
        true
    }

    /// Takes what has come to its socket.
    pub fn handle_readable(&mut self, now: Instant, clock: &Clock, buffers: &mut Buffers) {
        let local = self.socket.address();
        let (engine, stream, arrived, last, ssrc) =
            (&mut self.engine, &mut self.stream, &mut self.arrived, &mut self.last_number, self.ssrc);
        let sounds = &mut self.sounds;
        let mut first_at = None;
        let mut others = false;
        let (_, lost) = self.socket.receive(buffers, |arrival| match arrival.data {
            [128..=191, second, ..] if !(192..=223).contains(second) => {
                let Some(header) = Header::parse(arrival.data, signal::TRANSPORT_CC) else { return };
                if let Some(number) = header.transport {
                    *last = unwrapped(*last, number);
                    arrived.push((*last, arrival.at));
                }
                if arrival.data[1] & 0x7f == signal::OPUS {
                    *sounds += 1;
                } else if header.ssrc != ssrc {
                    stream.counts.repeats += 1;
                } else if stream.handle(&header, arrival.data.len(), arrival.at) {
                    first_at.get_or_insert(arrival.at);
                }
            }
            _ => {
                others = true;
                engine.handle_datagram(now, Path::udp(local, arrival.from), arrival.data);
            }
        });
        if let Some(lost) = lost {
            self.lost = lost - self.lost_before;
        }
        if let Some(at) = first_at {
            self.pictured.get_or_insert(at.saturating_sub(clock.wall(self.posted)));
        }
        if others {
            self.attend(now);
        }
        self.pass_events(now, clock);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant, clock: &Clock) {
        if self.engine.poll_timeout().is_some_and(|due| due <= now) {
            self.engine.handle_timeout(now);
        }
        self.pass_events(now, clock);
        if self.connected.is_some() && now >= self.next_report {
            while self.next_report <= now {
                self.next_report += REPORT_INTERVAL;
            }
            self.report(clock.wall(now));
        }
        self.attend(now);
    }

    /// Begins a window of counting.
    pub fn mark(&mut self) {
        self.stream.counts = Default::default();
        self.sounds = 0;
        self.reported = (0, 0, self.reported.2);
        self.lost_before += self.lost;
        self.lost = 0;
    }

    /// Says goodbye.
    pub fn leave(&mut self, now: Instant) {
        self.engine.close(now);
        self.attend(now);
    }

    fn pass_events(&mut self, now: Instant, clock: &Clock) {
        while let Some(event) = self.engine.poll_event() {
            match event {
                EngineEvent::Connected => self.connected = Some(now.saturating_duration_since(self.posted)),
                EngineEvent::Feedback(Feedback::SenderReport { ssrc, ntp, rtp }) if ssrc == self.ssrc => {
                    self.moment = Some(SenderMoment { ntp, rtp, at: clock.wall(now) });
                }
                EngineEvent::Ended(end) => self.failed = Some(end.to_string()),
                EngineEvent::Address(_) | EngineEvent::Feedback(_) => {}
            }
        }
    }

    fn report(&mut self, now: Duration) {
        let (Some(highest), Some(path)) = (self.stream.highest, self.engine.path()) else { return };
        let counts = &self.stream.counts;
        let (packets, missing) = (counts.packets - self.reported.0, counts.missing.saturating_sub(self.reported.1));
        let lost = self.reported.2 + missing as u32;
        self.reported = (counts.packets, counts.missing, lost);
        let block = Block {
            ssrc: self.ssrc,
            fraction_lost: (256 * missing / (packets + missing).max(1)).min(255) as u8,
            lost,
            highest,
            last_report: self.moment.map_or((0, 0), |moment| moment.last_report(now)),
        };
        let mut compound = Vec::new();
        rtcp::receiver_report(&mut compound, &block);
        rtcp::transport_feedback(&mut compound, self.ssrc, self.reports, &self.arrived);
        self.reports = self.reports.wrapping_add(1);
        self.arrived.clear();
        if let Some(protected) = self.engine.protect_rtcp(&compound) {
            self.socket.send(path.remote, &protected);
        }
    }

    /// Sends what the engine has to say and notes when it wants to be called again.
    fn attend(&mut self, now: Instant) {
        while let Some(transmit) = self.engine.poll_transmit() {
            self.socket.send(transmit.path.remote, &transmit.data);
        }
        let report = self.connected.map(|_| self.next_report);
        let idle = now + Duration::from_secs(1);
        self.due = self.engine.poll_timeout().into_iter().chain(report).fold(idle, Instant::min);
    }
}

/// The number nearest to `last` that ends in these bits.
fn unwrapped(last: u64, number: u16) -> u64 {
    let step = number.wrapping_sub(last as u16) as i16;
    last.saturating_add_signed(i64::from(step))
}
