//! One viewer's session: its engine, its streams, and when what is repeated, reported or given up.
//!
//! A pure core over [`Engine`] and [`PacketSink`]: `handle_*` takes input, `poll_*` gives output until it is drained.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::allowance::Allowance;
use super::broadcast::LinkState;
use super::engine::{Base, Engine, EngineEvent, LocalTransport, Path, Remote, Transmit, TransportError};
use super::sdp::{Agreement, AudioParameters, LocalStreams, VideoParameters};
use super::sound::SoundStream;
use super::stream::{PacketSink, VideoStream};
use crate::clock::Clock;
use crate::encoder::{Bitrate, Codec};
use crate::fanout::{Fanout, Next, Unit};
use crate::id::SessionId;

mod events;
mod repair;

pub use events::{EndReason, ViewerCounters, ViewerEvent};

/// A handshake that has not come about by then never will; a viewer who tries again makes a new session.
const MOST_JOINING: Duration = Duration::from_secs(15);
/// Consent and reports come every few seconds (RFC 7675); after so much silence the viewer is gone.
const MOST_SILENCE: Duration = Duration::from_secs(12);
/// How long a viewer that needs a keyframe waits before it asks again.
const KEYFRAME_PATIENCE: Duration = Duration::from_secs(1);
/// The keyframes that a viewer may cost, and the times that it is caught up: a few at once, then one at such intervals.
const KEYFRAMES_AT_ONCE: u32 = 4;
const KEYFRAME_INTERVAL: Duration = Duration::from_secs(5);
/// How long an address stays with the session that was heard there, whoever else shows it: checks come every 2.5 s, reports more often.
const ADDRESS_HOLD: Duration = Duration::from_secs(5);
/// Units of a joiner are shown in so quick an order.
const CATCHUP_STEP: Duration = Duration::from_millis(1);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The handshake runs.
    Joining,
    /// Media may flow.
    Connected,
    /// Over.
    Ended,
}

/// How far a viewer's picture is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Picture {
    /// The viewer takes none.
    Off,
    /// It must begin with a keyframe.
    AwaitingKeyframe,
    /// It gets what the fanout holds; it has all units before this one.
    CatchingUp(Option<u64>),
    /// Units flow.
    Flowing,
}

/// What is agreed with a session anew.
#[derive(Debug)]
pub struct Change {
    /// The streams, and the other side of the transport.
    pub agreement: Agreement,
    /// The daemon's side of a new ICE generation, and where it begins.
    pub restart: Option<(LocalTransport, Vec<Base>)>,
}

/// What a session's streams are made of.
#[derive(Debug, Clone)]
pub struct StreamKit {
    /// The one clock.
    pub clock: Clock,
    /// The streams as its description names them.
    pub streams: LocalStreams,
    /// The rung's rate.
    pub rate: Bitrate,
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
    kit: StreamKit,
    video: Option<VideoStream>,
    picture: Picture,
    sound: Option<SoundStream>,
    /// Whether the viewer takes sound.
    hears: bool,
    state: State,
    since: Instant,
    heard: Instant,
    /// When ICE was first restarted since it was heard: its path may be dead, and finding another takes time.
    restarted: Option<Instant>,
    unheard: u64,
    next_report: Instant,
    round_trip: Option<Duration>,
    /// Of its last report.
    fraction_lost: u8,
    last_unit: Option<Instant>,
    /// When a keyframe was last asked for on its behalf.
    asked: Option<Instant>,
    /// The keyframes that its requests may cost everyone.
    keyframes: Allowance,
    /// How often it may have what the fanout holds: megabytes at a time.
    catchups: Allowance,
    tail: Tail,
    transport_feedback: bool,
    events: VecDeque<ViewerEvent>,
}

impl<E: Engine> Viewer<E> {
    /// Makes a session whose handshake is still to come, and with which nothing is agreed yet.
    pub fn new(now: Instant, id: SessionId, number: u32, engine: E, kit: StreamKit) -> Self {
        Self {
            id,
            number,
            engine,
            kit,
            video: None,
            picture: Picture::Off,
            sound: None,
            hears: false,
            state: State::Joining,
            since: now,
            heard: now,
            restarted: None,
            unheard: 0,
            next_report: now,
            round_trip: None,
            fraction_lost: 0,
            last_unit: None,
            asked: None,
            keyframes: Allowance::new(now, KEYFRAMES_AT_ONCE, KEYFRAME_INTERVAL),
            catchups: Allowance::new(now, KEYFRAMES_AT_ONCE, KEYFRAME_INTERVAL),
            tail: Tail::Quiet,
            transport_feedback: false,
            events: VecDeque::new(),
        }
    }

    /// Begins, once something is agreed.
    ///
    /// # Errors
    /// Where the other side's parameters can't be used.
    pub fn start(&mut self, now: Instant, agreement: &Agreement) -> Result<(), TransportError> {
        self.engine.start(now, &agreement.remote)?;
        self.handle_agreement(now, agreement.video.as_ref(), agreement.audio.as_ref());
        Ok(())
    }

    /// Takes what is agreed anew.
    pub fn handle_change(&mut self, now: Instant, change: Change) {
        let Change { agreement, restart } = change;
        match restart {
            Some((local, bases)) => {
                match self.engine.restart(now, &agreement.remote, local, &bases) {
                    // Once only until it is heard: media goes on along a path that nobody consents to (RFC 7675).
                    Ok(()) => self.restarted = self.restarted.or(Some(now)),
                    // The path that it has goes on.
                    Err(error) => tracing::debug!(viewer = self.number, %error, "ICE was not restarted"),
                }
            }
            None => agreement.remote.candidates.iter().for_each(|candidate| self.handle_candidate(candidate)),
        }
        self.handle_agreement(now, agreement.video.as_ref(), agreement.audio.as_ref());
    }

    /// Takes the streams of this transport, at first or by a renegotiation: those that stay keep their numbers.
    fn handle_agreement(&mut self, now: Instant, video: Option<&VideoParameters>, audio: Option<&AudioParameters>) {
        match (video, &mut self.video) {
            (None, _) => (self.picture, self.tail) = (Picture::Off, Tail::Quiet),
            (Some(parameters), Some(stream)) => {
                if stream.codec() != parameters.codec || self.picture == Picture::Off {
                    self.picture = Picture::AwaitingKeyframe;
                }
                stream.set_parameters(now, parameters.clone());
            }
            (Some(parameters), none) => {
                let StreamKit { clock, streams, rate } = &self.kit;
                *none = Some(VideoStream::new(now, *clock, parameters.clone(), streams.clone(), *rate));
                self.picture = Picture::AwaitingKeyframe;
            }
        }
        self.hears = audio.is_some();
        if let Some(parameters) = audio {
            match &mut self.sound {
                Some(sound) => sound.set_parameters(parameters),
                none => *none = Some(SoundStream::new(self.kit.clock, parameters, self.kit.streams.audio_ssrc)),
            }
        }
    }

    /// Goes on with another rate of the rung.
    pub fn set_rate(&mut self, now: Instant, rate: Bitrate) {
        self.kit.rate = rate;
        self.video.iter_mut().for_each(|video| video.set_rate(now, rate));
    }

    /// The codec of its pictures; `None` where it takes none.
    pub fn video_codec(&self) -> Option<Codec> {
        self.video.as_ref().filter(|_| self.picture != Picture::Off).map(VideoStream::codec)
    }

    /// Whether it takes sound.
    pub fn hears(&self) -> bool {
        self.hears
    }

    /// Takes a datagram of this session; one that is over hears nothing more.
    pub fn handle_datagram(&mut self, now: Instant, path: Path, data: &[u8], sink: &mut dyn PacketSink) {
        if self.state == State::Ended {
            return;
        }
        if self.engine.handle_datagram(now, path, data) {
            (self.heard, self.restarted) = (now, None);
        } else {
            self.unheard += 1;
        }
        self.handle_engine(now, sink);
    }

    /// Takes a trickled candidate.
    pub fn handle_candidate(&mut self, candidate: &str) {
        self.engine.add_remote_candidate(candidate);
    }

    /// Has the picture begin with what the fanout holds (rule 5); [`Viewer::handle_catchup`] sends it.
    ///
    /// Returns false where there is nothing to begin: it takes no pictures, they flow, or it had that too often and waits for the next keyframe.
    pub fn begin_catchup(&mut self, now: Instant) -> bool {
        let begins = self.state == State::Connected && self.picture == Picture::AwaitingKeyframe;
        let begins = begins && self.catchups.take(now);
        if begins {
            self.picture = Picture::CatchingUp(None);
        }
        begins
    }

    /// Whether it gets what the fanout holds.
    pub fn catches_up(&self) -> bool {
        matches!(self.picture, Picture::CatchingUp(_))
    }

    /// Sends what leads up to now, at most about `packets` of it; returns whether there is more.
    pub fn handle_catchup(&mut self, now: Instant, fanout: &Fanout, packets: usize, sink: &mut dyn PacketSink) -> bool {
        if self.state != State::Connected {
            return false;
        }
        let (Picture::CatchingUp(mut next), Some(stream)) = (self.picture, &mut self.video) else { return false };
        let (mut sent, mut wanted) = (0, false);
        self.picture = loop {
            match fanout.next(next) {
                Next::Unit(..) if sent >= packets => break Picture::CatchingUp(next),
                Next::Unit(number, unit) => {
                    let behind = (fanout.end() - number) as u32;
                    let taken = now.checked_sub(CATCHUP_STEP * behind).unwrap_or(now);
                    stream.send(now, taken, unit, &mut self.engine, sink);
                    sent += unit.payloads.len();
                    next = Some(number + 1);
                }
                Next::Live => break Picture::Flowing,
                // The first unit will be a keyframe; if it has just been missed, another one is needed.
                Next::Nothing | Next::NeedsKeyframe => {
                    wanted = true;
                    break Picture::AwaitingKeyframe;
                }
            }
        };
        if wanted {
            self.want_keyframe(now);
        }
        if sent > 0 {
            self.handle_sent(now);
        }
        self.catches_up()
    }

    /// Takes the next unit of its codec.
    pub fn handle_unit(&mut self, now: Instant, unit: &Arc<Unit>, sink: &mut dyn PacketSink) {
        if self.state != State::Connected {
            return;
        }
        match self.picture {
            Picture::AwaitingKeyframe if unit.access_unit.keyframe => self.picture = Picture::Flowing,
            Picture::AwaitingKeyframe => {
                // Whoever asked before may have been overheard: nobody waits for ever.
                if self.asked.is_none_or(|asked| now >= asked + KEYFRAME_PATIENCE) {
                    self.want_keyframe(now);
                }
                return;
            }
            Picture::Flowing => {}
            // The fanout has it too.
            Picture::CatchingUp(_) | Picture::Off => return,
        }
        if let Some(stream) = &mut self.video {
            stream.send(now, unit.access_unit.captured, unit, &mut self.engine, sink);
            self.handle_sent(now);
        }
    }

    /// Takes the next 20 ms of sound.
    pub fn handle_sound(&mut self, unit: &Unit, sink: &mut dyn PacketSink) {
        if let (State::Connected, true, Some(sound)) = (self.state, self.hears, &mut self.sound) {
            sound.send(unit, &mut self.engine, sink);
        }
    }

    /// Takes word that packets of it could not be sent: the picture goes on at the next keyframe, others are not slowed (rule 6).
    ///
    /// Whoever says so asks for that keyframe, or leaves it to the viewer to want one in a second. Returns whether there was a picture that went on.
    pub fn handle_overflow(&mut self, now: Instant) -> bool {
        let went_on = matches!(self.picture, Picture::Flowing | Picture::CatchingUp(_));
        if went_on {
            self.picture = Picture::AwaitingKeyframe;
            self.asked = Some(now);
        }
        went_on
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
            State::Connected => {}
        }
        if now >= self.silence_ends() {
            self.end(now, EndReason::Silent(MOST_SILENCE));
            return;
        }
        if let Tail::Due { at, second } = self.tail
            && now >= at
        {
            self.repeat_tail(now, second, sink);
        }
        if now >= self.next_report && self.reports() {
            self.report(now, sink);
        }
    }

    /// When [`Viewer::handle_timeout`] wants to be called next.
    pub fn poll_timeout(&mut self) -> Option<Instant> {
        let own = match self.state {
            State::Ended => return None,
            State::Joining => self.since + MOST_JOINING,
            State::Connected => {
                let tail = match self.tail {
                    Tail::Due { at, .. } => Some(at),
                    Tail::Quiet => None,
                };
                let report = self.reports().then_some(self.next_report);
                tail.into_iter().chain(report).fold(self.silence_ends(), Instant::min)
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

    /// What happened to it, for the log.
    pub fn counters(&self) -> ViewerCounters {
        let repeats = self.video.as_ref().map(|video| video.history.counters()).unwrap_or_default();
        ViewerCounters {
            repeats,
            keyframes_refused: self.keyframes.refused(),
            catchups_refused: self.catchups.refused(),
            unheard: self.unheard,
        }
    }

    /// How its packets fare; `None` until a round trip was measured.
    pub fn link(&self) -> Option<LinkState> {
        let fraction_lost = self.fraction_lost;
        self.round_trip.map(|round_trip| LinkState { round_trip, fraction_lost })
    }

    /// Whether `remote` is its own: it was heard there a moment ago, so nobody else who shows it may have it.
    pub fn holds(&self, now: Instant, remote: Remote) -> bool {
        now < self.heard + ADDRESS_HOLD && self.engine.path().is_some_and(|path| path.end() == remote)
    }

    /// Where its media goes, once it may.
    pub fn path(&self) -> Option<Path> {
        self.engine.path()
    }

    #[cfg(test)]
    pub(super) fn engine_for_test(&mut self) -> &mut E {
        &mut self.engine
    }

    fn handle_engine(&mut self, now: Instant, sink: &mut dyn PacketSink) {
        while let Some(event) = self.engine.poll_event() {
            match event {
                EngineEvent::Address(remote) => self.events.push_back(ViewerEvent::Address(remote)),
                EngineEvent::Connected if self.state == State::Joining => {
                    self.state = State::Connected;
                    self.heard = now;
                    self.round_trip = self.engine.round_trip(now);
                    self.events.push_back(ViewerEvent::Connected);
                }
                EngineEvent::Connected => {}
                EngineEvent::Feedback(_) if self.state == State::Ended => {}
                EngineEvent::Feedback(feedback) => self.handle_feedback(now, &feedback, sink),
                EngineEvent::Ended(end) => self.end(now, end.into()),
            }
        }
    }

    /// Asks for a keyframe on its behalf; a viewer whose picture begins anew all the time has no more of them than one that asks itself.
    fn want_keyframe(&mut self, now: Instant) {
        self.asked = Some(now);
        if self.keyframes.take(now) {
            self.events.push_back(ViewerEvent::KeyframeWanted);
        }
    }

    /// Until when it must be heard.
    fn silence_ends(&self) -> Instant {
        self.restarted.unwrap_or(self.heard) + MOST_SILENCE
    }

    /// Whether there is anything to report on.
    fn reports(&self) -> bool {
        let pictures = matches!(self.picture, Picture::Flowing | Picture::CatchingUp(_));
        pictures || (self.hears && self.sound.as_ref().is_some_and(SoundStream::has_sent))
    }
}
