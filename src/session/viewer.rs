//! One viewer's session: its engine, its stream, and when what is repeated, reported or given up.
//!
//! A pure core over [`Engine`] and [`PacketSink`]: `handle_*` takes input, `poll_*` gives output until it is drained.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::engine::feedback::sender_report;
use super::engine::{Engine, EngineEnd, EngineEvent, Feedback, Path, Transmit};
use super::stream::{PacketSink, VideoStream};
use crate::fanout::Unit;
use crate::id::SessionId;

/// A handshake that has not come about by then never will; a viewer who tries again makes a new session.
const MOST_JOINING: Duration = Duration::from_secs(15);
/// Consent and reports come every few seconds (RFC 7675); after so much silence the viewer is gone.
const MOST_SILENCE: Duration = Duration::from_secs(12);
/// Time between sender reports, sent while still too (rule 10).
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// The round trip time while nothing has been measured.
const PRESUMED_ROUND_TRIP: Duration = Duration::from_millis(50);
/// When the last packets before a silence are repeated (rule 4).
const TAIL_FIRST: Duration = Duration::from_millis(30);
const TAIL_SECOND: Duration = Duration::from_millis(200);
/// Units closer than this belong to one motion: a silence is what lasts longer than half as much again.
const MOTION_GAP: Duration = Duration::from_millis(100);
/// Packets repeated at the two moments.
const TAIL_MOST: [usize; 2] = [16, 32];
/// How long a viewer that needs a keyframe waits before it asks again.
const KEYFRAME_PATIENCE: Duration = Duration::from_secs(1);
/// Units of a joiner are shown in so quick an order.
const CATCHUP_STEP: Duration = Duration::from_millis(1);

/// What a session tells its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ViewerEvent {
    /// Datagrams from this address are this session's.
    Address(SocketAddr),
    /// Media may flow.
    Connected,
    /// A keyframe is wanted, by the viewer or for it.
    KeyframeWanted,
    /// It is over.
    Ended(EndReason),
}

/// Why a session ended; the words are those of the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndReason {
    /// By WHEP DELETE.
    #[error("left")]
    Left,
    /// By the engine.
    #[error("{0}")]
    Engine(#[from] EngineEnd),
    /// Nothing was heard any more.
    #[error("nothing heard for {} s", .0.as_secs())]
    Silent(Duration),
    /// It never came to a connection.
    #[error("not connected within {} s: no answer to connectivity checks, or the handshake never finished", .0.as_secs())]
    NeverConnected(Duration),
    /// Its place went to another, since it did not connect.
    #[error("not connected yet when all places were taken: another viewer got the place")]
    GaveWay,
    /// The daemon ends.
    #[error("the broadcaster is shutting down")]
    Shutdown,
    /// A fault of ours in this session; its message is in the log.
    #[error("an internal fault, which is a bug: please report the message above")]
    Fault,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The handshake runs.
    Joining,
    /// Connected, but the picture must begin with a keyframe.
    AwaitingKeyframe,
    /// Units flow.
    Flowing,
    /// Over.
    Ended,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tail {
    /// Nothing is to be repeated.
    Quiet,
    /// Repeat at this time, for the first or the second time.
    Due { at: Instant, second: bool },
}

/// One viewer's session.
pub struct Viewer<E> {
    /// Its identity.
    pub id: SessionId,
    /// The viewer's number since the start, for logs.
    pub number: u32,
    engine: E,
    stream: VideoStream,
    state: State,
    since: Instant,
    heard: Instant,
    next_report: Instant,
    round_trip: Option<Duration>,
    last_unit: Option<Instant>,
    /// When a keyframe was last asked for on its behalf.
    asked: Option<Instant>,
    tail: Tail,
    transport_feedback: bool,
    events: VecDeque<ViewerEvent>,
}

impl<E: Engine> Viewer<E> {
    /// Makes a session whose handshake is still to come.
    pub fn new(now: Instant, id: SessionId, number: u32, engine: E, stream: VideoStream) -> Self {
        Self {
            id,
            number,
            engine,
            stream,
            state: State::Joining,
            since: now,
            heard: now,
            next_report: now,
            round_trip: None,
            last_unit: None,
            asked: None,
            tail: Tail::Quiet,
            transport_feedback: false,
            events: VecDeque::new(),
        }
    }

    /// Takes a datagram of this session.
    pub fn handle_datagram(&mut self, now: Instant, path: Path, data: &[u8], sink: &mut dyn PacketSink) {
        if self.engine.handle_datagram(now, path, data) {
            self.heard = now;
        }
        self.handle_engine(now, sink);
    }

    /// Takes a trickled candidate.
    pub fn handle_candidate(&mut self, candidate: &str) {
        self.engine.add_remote_candidate(candidate);
    }

    /// Takes what leads up to now, from a keyframe on: the picture begins (rule 5).
    pub fn handle_catchup<'a>(
        &mut self,
        now: Instant,
        units: impl ExactSizeIterator<Item = &'a Arc<Unit>>,
        sink: &mut dyn PacketSink,
    ) {
        if self.state != State::AwaitingKeyframe || units.len() == 0 {
            return;
        }
        let count = units.len() as u32;
        for (index, unit) in units.enumerate() {
            let taken = now.checked_sub(CATCHUP_STEP * (count - index as u32)).unwrap_or(now);
            self.stream.send(now, taken, unit, &mut self.engine, sink);
        }
        self.state = State::Flowing;
        self.handle_sent(now);
    }

    /// Takes the next unit of the rung.
    pub fn handle_unit(&mut self, now: Instant, unit: &Arc<Unit>, sink: &mut dyn PacketSink) {
        match self.state {
            State::AwaitingKeyframe if unit.access_unit.keyframe => self.state = State::Flowing,
            State::AwaitingKeyframe => {
                // Whoever asked before may have been overheard: nobody waits for ever.
                if self.asked.is_none_or(|asked| now >= asked + KEYFRAME_PATIENCE) {
                    self.asked = Some(now);
                    self.events.push_back(ViewerEvent::KeyframeWanted);
                }
                return;
            }
            State::Flowing => {}
            State::Joining | State::Ended => return,
        }
        self.stream.send(now, unit.access_unit.captured, unit, &mut self.engine, sink);
        self.handle_sent(now);
    }

    /// Takes word that packets of it could not be sent: the picture goes on at the next keyframe, others are not slowed (rule 6).
    ///
    /// Whoever says so asks for that keyframe.
    pub fn handle_overflow(&mut self, now: Instant) {
        if self.state == State::Flowing {
            self.state = State::AwaitingKeyframe;
            self.asked = Some(now);
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant, sink: &mut dyn PacketSink) {
        if self.state == State::Ended {
            return;
        }
        self.engine.handle_timeout(now);
        self.handle_engine(now, sink);
        match self.state {
            State::Ended => return,
            State::Joining => {
                if now >= self.since + MOST_JOINING {
                    self.end(now, EndReason::NeverConnected(MOST_JOINING));
                }
                return;
            }
            State::AwaitingKeyframe | State::Flowing => {}
        }
        if now >= self.heard + MOST_SILENCE {
            self.end(now, EndReason::Silent(MOST_SILENCE));
            return;
        }
        if let Tail::Due { at, second } = self.tail
            && now >= at
        {
            self.repeat_tail(now, second, sink);
        }
        if now >= self.next_report && self.state == State::Flowing {
            self.report(now, sink);
        }
    }

    /// When [`Viewer::handle_timeout`] wants to be called next.
    pub fn poll_timeout(&mut self) -> Option<Instant> {
        let own = match self.state {
            State::Ended => return None,
            State::Joining => self.since + MOST_JOINING,
            State::AwaitingKeyframe => self.heard + MOST_SILENCE,
            State::Flowing => {
                let tail = match self.tail {
                    Tail::Due { at, .. } => at,
                    Tail::Quiet => self.next_report,
                };
                self.next_report.min(tail).min(self.heard + MOST_SILENCE)
            }
        };
        Some(self.engine.poll_timeout().map_or(own, |engine| engine.min(own)))
    }

    /// The next datagram of the engine's own.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.engine.poll_transmit()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<ViewerEvent> {
        self.events.pop_front()
    }

    /// Ends the session: the viewer is told so by `close_notify`.
    pub fn end(&mut self, now: Instant, reason: EndReason) {
        if self.state != State::Ended {
            self.state = State::Ended;
            self.engine.close(now);
            self.events.push_back(ViewerEvent::Ended(reason));
        }
    }

    /// The stream, for its figures.
    pub fn stream(&self) -> &VideoStream {
        &self.stream
    }

    #[cfg(test)]
    pub(super) fn engine_for_test(&mut self) -> &mut E {
        &mut self.engine
    }

    fn handle_engine(&mut self, now: Instant, sink: &mut dyn PacketSink) {
        while let Some(event) = self.engine.poll_event() {
            match event {
                EngineEvent::Address(address) => self.events.push_back(ViewerEvent::Address(address)),
                EngineEvent::Connected if self.state == State::Joining => {
                    self.state = State::AwaitingKeyframe;
                    self.heard = now;
                    self.round_trip = self.engine.round_trip(now);
                    self.events.push_back(ViewerEvent::Connected);
                }
                EngineEvent::Connected => {}
                EngineEvent::Feedback(feedback) => self.handle_feedback(now, &feedback, sink),
                EngineEvent::Ended(end) => self.end(now, end.into()),
            }
        }
    }

    fn handle_feedback(&mut self, now: Instant, feedback: &Feedback, sink: &mut dyn PacketSink) {
        let own = self.stream.ssrc();
        match feedback {
            Feedback::KeyframeRequest { ssrc } if *ssrc == own => self.events.push_back(ViewerEvent::KeyframeWanted),
            Feedback::Missing { ssrc, sequences } if *ssrc == own => {
                let round_trip = self.round_trip.unwrap_or(PRESUMED_ROUND_TRIP);
                for sequence in sequences {
                    if let Some(packet) = self.stream.history.handle_missing(now, *sequence, round_trip) {
                        self.stream.repeat(&packet, &mut self.engine, sink);
                    }
                }
            }
            Feedback::Arrived(numbers) => {
                self.transport_feedback = true;
                for number in numbers {
                    self.stream.history.handle_arrival(*number);
                }
            }
            Feedback::Report { ssrc, highest, fraction_lost, last_sender_report, delay } if *ssrc == own => {
                if let Some(sample) = self.stream.round_trip(now, *last_sender_report, *delay) {
                    // RFC 6298's smoothing, enough for a guard time.
                    self.round_trip = Some(self.round_trip.map_or(sample, |old| (old * 7 + sample) / 8));
                }
                if *fraction_lost == 0 && !self.transport_feedback {
                    self.stream.history.handle_all_arrived_to(*highest);
                }
            }
            // A receiver's BYE is about its own stream, of which there is none; leaving has clearer words.
            _ => {}
        }
    }

    fn handle_sent(&mut self, now: Instant) {
        let round_trip = self.round_trip.unwrap_or(PRESUMED_ROUND_TRIP);
        let gap = self.last_unit.map_or(MOTION_GAP, |last| now.saturating_duration_since(last));
        let silence = if gap < MOTION_GAP { gap * 3 / 2 } else { Duration::ZERO };
        self.last_unit = Some(now);
        self.tail = Tail::Due { at: now + TAIL_FIRST.max(round_trip).max(silence), second: false };
    }

    fn repeat_tail(&mut self, now: Instant, second: bool, sink: &mut dyn PacketSink) {
        let Some(last) = self.last_unit else { return };
        // What was sent long before the last unit has been asked for by now, if it was missed.
        let since = last.checked_sub(TAIL_SECOND).unwrap_or(last);
        for packet in self.stream.history.unacknowledged_tail(now, since, TAIL_MOST[usize::from(second)]) {
            self.stream.repeat(&packet, &mut self.engine, sink);
        }
        self.tail = if second { Tail::Quiet } else { Tail::Due { at: now.max(last + TAIL_SECOND), second: true } };
    }

    fn report(&mut self, now: Instant, sink: &mut dyn PacketSink) {
        self.next_report = now + REPORT_INTERVAL;
        let report = sender_report(self.stream.sender_info(now), self.stream.cname());
        let protected = report.and_then(|report| self.engine.protect_rtcp(&report));
        if let (Some(path), Some(protected)) = (self.engine.path(), protected) {
            sink.push(path, protected.len(), &mut |out| {
                out.copy_from_slice(&protected);
                true
            });
        }
    }
}
