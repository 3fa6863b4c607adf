//! The join thread: offers are answered and handshakes done here (2 ms of handshake must not delay a picture), and the [`Broadcast`] lives here.
//!
//! A shell: sessions belong to it until they are connected, then to the media thread.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tracing::{debug, error, info};

use super::broadcast::{Broadcast, Output, Place};
use super::dialogue::{Dialogue, Speaker};
use super::engine::identity::Identity;
use super::engine::rtc::RtcEngine;
use super::fault::{attended, survives};
use super::inbox::Inbox;
use super::messages::{JoinIn, MediaIn, Terms};
use super::reach::Reach;
use super::sdp::Capabilities;
use super::sink::SocketSink;
use super::viewer::{EndReason, Viewer, ViewerEvent};
use super::wake::{Interest, poll_until};
use crate::alive::beats::Beat;
use crate::clock::Clock;
use crate::encoder::Codec;
use crate::events::Events;
use crate::id::{SessionId, random_base32};
use crate::signaling::Life;
use crate::trouble::Passed;

mod news;
mod refusals;
mod signals;
#[cfg(test)]
mod tests;

use refusals::Refusals;

/// Starts and stops what makes the units of a codec.
pub type Demand = Box<dyn FnMut(Codec, bool) + Send>;

/// How sessions are made.
pub struct JoinConfig {
    /// What a reload may change.
    pub terms: Terms,
    /// The video codecs that can be sent, the preferred one first.
    pub codecs: Vec<Codec>,
    /// The one clock.
    pub clock: Clock,
    /// The daemon's certificate.
    pub identity: Identity,
    /// How viewers can reach the daemon.
    pub reach: Arc<Reach>,
    /// Is told how many are watching whenever that changes.
    pub watching: watch::Sender<usize>,
    /// Is told who comes and goes, and what is made for them.
    pub events: Events,
}

/// The join thread's state.
pub struct Join {
    config: JoinConfig,
    speaker: Speaker,
    sink: SocketSink,
    inbox: Inbox<JoinIn>,
    media: Inbox<MediaIn>,
    demand: Demand,
    broadcast: Broadcast,
    joining: HashMap<SessionId, Box<Viewer<RtcEngine>>>,
    /// What was said with each viewer.
    dialogues: HashMap<SessionId, Dialogue>,
    /// Who is told how a session goes.
    lives: HashMap<SessionId, watch::Sender<Life>>,
    /// What the log has of those who were refused.
    refusals: Refusals,
    /// Once the daemon ends: until when live sessions may say goodbye.
    closing: Option<Instant>,
}

/// How much less urgent handshakes are than pictures (nice(2)).
const LESS_URGENT: i32 = 10;
/// When a full socket is tried again.
const SOCKET_RETRY: Duration = Duration::from_millis(3);
/// How long live sessions have to say goodbye; the media thread needs a turn of its loop.
const MOST_CLOSING: Duration = Duration::from_secs(1);

impl Join {
    /// Makes the state; [`Join::run`] is the thread.
    pub fn new(
        config: JoinConfig,
        sink: SocketSink,
        inbox: Inbox<JoinIn>,
        media: Inbox<MediaIn>,
        demand: Demand,
    ) -> Self {
        let speaker = Speaker {
            name: config.terms.name.clone(),
            cname: random_base32(16),
            sync: config.terms.sync,
            fingerprint: config.identity.fingerprint(),
        };
        Self {
            broadcast: Broadcast::new(config.terms.max_viewers),
            config,
            speaker,
            sink,
            inbox,
            media,
            demand,
            joining: HashMap::new(),
            dialogues: HashMap::new(),
            lives: HashMap::new(),
            refusals: Refusals::default(),
            closing: None,
        }
    }

    /// Runs until [`JoinIn::Shutdown`].
    pub fn run(mut self, beat: &Beat) {
        // On Linux this is the thread's own: two hundred handshakes at once must not take the encoder's time. It never fails upwards.
        let _ = rustix::process::nice(LESS_URGENT);
        let mut due = None;
        while !self.closed(Instant::now()) {
            let waker = (self.inbox.waker().as_fd(), Interest::Readable);
            if let Err(error) = beat.waiting(|| poll_until([waker], due)) {
                error!(%error, "the join thread can't wait for its descriptor");
                return;
            }
            self.inbox.waker().drain();
            for item in self.inbox.drain() {
                self.handle(Instant::now(), item);
                self.report();
            }
            due = self.do_what_is_due(Instant::now()).into_iter().chain(self.closing).min();
            self.report();
            self.sink.flush();
            // No pictures leave from here: what a full socket lost, handshakes repeat.
            self.sink.take_overflowed();
            self.sink.take_slow();
            let again = self.sink.poll_timeout().map(|until| until.min(Instant::now() + SOCKET_RETRY));
            due = due.into_iter().chain(again).min();
        }
    }

    fn handle(&mut self, now: Instant, item: JoinIn) {
        match item {
            JoinIn::Signal(signal) => {
                let session = signal.session();
                let number = self.broadcast.number(session).unwrap_or_default();
                if !survives(number, || self.handle_signal(now, signal)) {
                    self.forget(now, session, EndReason::Fault);
                }
            }
            JoinIn::Datagram { session, path, data } => {
                self.attend(now, session, |viewer, sink| viewer.handle_datagram(now, path, &data, sink));
            }
            // An ICE restart may have crossed it, and had the media thread expect it again.
            JoinIn::Ended { session, at, reason } => self.close(at, session, reason),
            // The media thread knows more of those that are connected.
            JoinIn::Look(reply) => self.tell_media(MediaIn::Look { state: self.broadcast.state(), reply }),
            JoinIn::Kick { number, reply } => drop(reply.send(self.broadcast.handle_kick(number))),
            JoinIn::Revoke(pass) => self.broadcast.handle_revoked(pass),
            JoinIn::Terms(terms) => self.set_terms(terms),
            JoinIn::Shutdown => self.shut_down(now),
        }
    }

    fn set_terms(&mut self, terms: Terms) {
        self.broadcast.set_limit(terms.max_viewers);
        self.speaker.name.clone_from(&terms.name);
        self.speaker.sync = terms.sync;
        for viewer in self.joining.values_mut() {
            viewer.set_rate(Instant::now(), terms.bitrate);
        }
        self.tell_media(MediaIn::Rate(terms.bitrate));
        self.config.terms = terms;
    }

    /// What can be sent, the preferred codec first.
    fn can(&self) -> Capabilities {
        Capabilities { video: self.config.codecs.clone(), audio: self.config.terms.audio }
    }

    fn end(&mut self, now: Instant, session: SessionId, reason: EndReason) {
        match self.broadcast.place(session) {
            Some(Place::Joining) => {
                if let Some(viewer) = self.joining.get_mut(&session) {
                    viewer.end(now, reason);
                }
                self.collect(now, session);
            }
            Some(Place::Live) => self.tell_media(MediaIn::End { session, reason }),
            None => {}
        }
    }

    /// Has a session do something, and whatever follows from it; a fault in it ends it.
    fn attend(&mut self, now: Instant, session: SessionId, act: impl FnOnce(&mut Viewer<RtcEngine>, &mut SocketSink)) {
        let Some(viewer) = self.joining.get_mut(&session) else { return };
        if attended(viewer, &mut self.sink, act) {
            self.collect(now, session);
        } else {
            self.forget(now, session, EndReason::Fault);
        }
    }

    fn forget(&mut self, now: Instant, session: SessionId, reason: EndReason) {
        if let Some(viewer) = self.joining.remove(&session) {
            debug!(viewer = viewer.number, counters = ?viewer.counters(), "what a viewer that did not connect asked for");
        }
        self.close(now, session, reason);
    }

    /// Forgets what was said in a session that is over since `at`, and tells all who care.
    fn close(&mut self, at: Instant, session: SessionId, reason: EndReason) {
        self.dialogues.remove(&session);
        self.tell_media(MediaIn::Forget(session));
        if let Some(life) = self.lives.remove(&session) {
            life.send_replace(match &reason {
                EndReason::Kicked => Life::Dismissed,
                other => Life::Ended(other.to_string()),
            });
        }
        self.broadcast.handle_ended(at, session, reason);
    }

    /// Sends what a session's engine has to say, and acts on its events.
    fn collect(&mut self, now: Instant, session: SessionId) {
        let Some(viewer) = self.joining.get_mut(&session) else { return };
        let events: Vec<_> = std::iter::from_fn(|| viewer.poll_event()).collect();
        let mut adopted = false;
        for event in events {
            match event {
                // Told before anything is sent there: the reply must find its way.
                ViewerEvent::Address(remote) => self.tell_media(MediaIn::Address { session, remote }),
                ViewerEvent::Connected => {
                    self.broadcast.handle_connected(now, session);
                    if let Some(life) = self.lives.get(&session) {
                        life.send_replace(Life::Live);
                    }
                    adopted = true;
                }
                ViewerEvent::KeyframeWanted => {}
                ViewerEvent::Ended(reason) => {
                    self.transmit(session);
                    self.forget(now, session, reason);
                    return;
                }
            }
        }
        if !self.transmit(session) {
            return self.forget(now, session, EndReason::Fault);
        }
        if let Some(viewer) = adopted.then(|| self.joining.remove(&session)).flatten() {
            self.tell_media(MediaIn::Adopt(viewer));
        }
    }

    /// Sends what a session's engine has to say; tells whether it came back.
    fn transmit(&mut self, session: SessionId) -> bool {
        let Some(viewer) = self.joining.get_mut(&session) else { return true };
        let survived = attended(viewer, &mut self.sink, |viewer, sink| {
            while let Some(transmit) = viewer.poll_transmit() {
                sink.transmit(&transmit);
            }
        });
        self.sink.flush();
        survived
    }

    fn do_what_is_due(&mut self, now: Instant) -> Option<Instant> {
        self.broadcast.handle_timeout(now);
        let ready: Vec<_> = self
            .joining
            .iter_mut()
            .filter_map(|(session, viewer)| viewer.poll_timeout().filter(|due| *due <= now).map(|_| *session))
            .collect();
        for session in ready {
            self.attend(now, session, |viewer, sink| viewer.handle_timeout(now, sink));
        }
        while let Some((why, Passed { lasted, times })) = self.refusals.poll_passed(now) {
            if times > 1 {
                info!(why = ?why, times, lasted_s = lasted.as_secs_f64(), "viewers were refused, and are no more");
            }
        }
        let soonest = now + Duration::from_millis(1);
        let sessions = self.joining.values_mut().filter_map(|viewer| viewer.poll_timeout());
        sessions
            .chain(self.broadcast.poll_timeout())
            .chain(self.refusals.poll_timeout())
            .min()
            .map(|due| due.max(soonest))
    }

    /// Does and says what the broadcast wants.
    fn report(&mut self) {
        while let Some(output) = self.broadcast.poll_output() {
            if let Some(event) = news::event(&output) {
                self.config.events.tell(event);
            }
            match output {
                Output::Demand { codec, wanted } => {
                    if wanted {
                        self.tell_media(MediaIn::Restarted(codec));
                    }
                    (self.demand)(codec, wanted);
                }
                Output::End { session, why } => self.end(Instant::now(), session, why),
                Output::Came { number, who, took, watching } => {
                    self.config.watching.send_replace(watching);
                    info!(viewer = number, who = ?who.to_string(), connected_ms = took.as_millis() as u64, watching, "viewer came");
                }
                Output::Left { number, why, after, watching, .. } => {
                    self.config.watching.send_replace(watching);
                    info!(viewer = number, why = ?why.to_string(), after_s = (after.as_secs_f64() * 10.0).round() / 10.0, watching, "viewer left");
                }
                // Who gave it up knows.
                Output::Failed { number, why: EndReason::Left, .. } => {
                    debug!(viewer = number, "viewer left before it connected")
                }
                Output::Failed { number, why, .. } => {
                    info!(viewer = number, why = ?why.to_string(), "viewer never connected")
                }
            }
        }
    }

    fn tell_media(&self, item: MediaIn) {
        self.media.push_always(item);
    }

    fn shut_down(&mut self, now: Instant) {
        self.broadcast.handle_shutdown();
        let sessions: Vec<_> = self.joining.keys().copied().collect();
        for session in sessions {
            self.end(now, session, EndReason::Shutdown);
        }
        self.tell_media(MediaIn::Shutdown);
        self.closing = Some(now + MOST_CLOSING);
    }

    fn closed(&self, now: Instant) -> bool {
        self.closing.is_some_and(|until| self.broadcast.is_empty() || now >= until)
    }
}
