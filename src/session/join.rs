//! The join thread: offers are answered and handshakes done here (2 ms of handshake must not delay a picture), and the [`Broadcast`] lives here.
//!
//! A shell: sessions belong to it until they are connected, then to the media thread.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tracing::{debug, error, info, warn};

use super::broadcast::{Broadcast, Newcomer, Output, Place};
use super::dialogue::{Dialogue, Speaker, Step, refusal};
use super::engine::identity::Identity;
use super::engine::rtc::RtcEngine;
use super::engine::{IceRole, LocalTransport, TransportError};
use super::fault::survives;
use super::inbox::Inbox;
use super::messages::{JoinIn, MediaIn};
use super::sdp::{self, Capabilities, Description, LocalStreams, Sync};
use super::sink::SocketSink;
use super::udp::local_addresses;
use super::viewer::{Change, EndReason, StreamKit, Viewer, ViewerEvent};
use super::wake::{Interest, poll_until};
use crate::clock::Clock;
use crate::encoder::{Bitrate, Codec};
use crate::id::{SessionId, random_base32};
use crate::signaling::{Answer, Refusal, SignalIn, Trickle};

/// Starts and stops what makes the units of a codec.
pub type Demand = Box<dyn FnMut(Codec, bool) + Send>;

/// How sessions are made.
pub struct JoinConfig {
    /// The broadcast's name.
    pub name: String,
    /// Most sessions.
    pub max_viewers: usize,
    /// What can be sent, the preferred codec first.
    pub can: Capabilities,
    /// Whether pictures and sound are one MediaStream.
    pub sync: Sync,
    /// The rung's rate.
    pub bitrate: Bitrate,
    /// The one clock.
    pub clock: Clock,
    /// The daemon's certificate.
    pub identity: Identity,
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
    /// Once the daemon ends: until when live sessions may say goodbye.
    closing: Option<Instant>,
}

/// How much less urgent handshakes are than pictures (nice(2)).
const LESS_URGENT: i32 = 5;
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
            name: config.name.clone(),
            cname: random_base32(16),
            sync: config.sync,
            fingerprint: config.identity.fingerprint(),
        };
        Self {
            broadcast: Broadcast::new(config.max_viewers),
            config,
            speaker,
            sink,
            inbox,
            media,
            demand,
            joining: HashMap::new(),
            dialogues: HashMap::new(),
            closing: None,
        }
    }

    /// Runs until [`JoinIn::Shutdown`].
    pub fn run(mut self) {
        // On Linux this is the thread's own: two hundred handshakes at once must not take the encoder's time. It never fails upwards.
        let _ = rustix::process::nice(LESS_URGENT);
        let mut due = None;
        while !self.closed(Instant::now()) {
            if let Err(error) = poll_until([(self.inbox.waker().as_fd(), Interest::Readable)], due) {
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
            JoinIn::Ended { session, at, reason } => {
                self.dialogues.remove(&session);
                // An ICE restart may have crossed it, and had the media thread expect it again.
                self.tell_media(MediaIn::Forget(session));
                self.broadcast.handle_ended(at, session, reason);
            }
            JoinIn::Shutdown => self.shut_down(now),
        }
    }

    fn handle_signal(&mut self, now: Instant, signal: SignalIn) {
        match signal {
            SignalIn::Offer { session, sdp, replaces, reply, .. } => {
                let answer = self.answer(now, session, &sdp, replaces);
                self.say(now, session, answer, reply);
            }
            SignalIn::Call { session, replaces, reply } => {
                let offer = self.call(now, session, replaces);
                self.say(now, session, offer, reply);
            }
            SignalIn::Renegotiate { session, sdp, reply } => {
                // Whoever doesn't wait for the answer still has the session as it was agreed before.
                let _ = reply.send(self.renegotiate(now, session, &sdp));
            }
            SignalIn::Accept { session, sdp, reply } => {
                let accepted = self.accept(now, session, &sdp);
                if let Err(why) = &accepted {
                    self.end(now, session, EndReason::BadAnswer(why.to_string()));
                }
                let _ = reply.send(accepted);
            }
            SignalIn::Restart { session, trickle, reply } => {
                let _ = reply.send(self.restart(now, session, trickle));
            }
            SignalIn::Trickle { session, trickle, reply } => {
                let _ = reply.send(self.trickle(now, session, &trickle));
            }
            SignalIn::Leave { session, reply } => {
                let known = self.broadcast.place(session).is_some();
                self.end(now, session, EndReason::Left);
                let _ = reply.send(if known { Ok(()) } else { Err(Refusal::UnknownSession) });
            }
        }
    }

    /// Gives a new session's description to whoever asked for it.
    fn say(
        &mut self,
        now: Instant,
        session: SessionId,
        said: Result<Answer, Refusal>,
        reply: oneshot::Sender<Result<Answer, Refusal>>,
    ) {
        if let Err(refusal) = &said {
            info!(why = ?refusal.to_string(), "viewer refused");
        }
        if reply.send(said).is_err() {
            // Whoever asked has gone away meanwhile.
            self.end(now, session, EndReason::Left);
        }
        let transports: Vec<_> = self.dialogues.get(&session).into_iter().flat_map(Dialogue::sessions).collect();
        for transport in transports {
            self.collect(now, transport);
        }
    }

    fn answer(
        &mut self,
        now: Instant,
        session: SessionId,
        text: &str,
        replaces: Option<SessionId>,
    ) -> Result<Answer, Refusal> {
        // What can't be answered takes no place.
        let offer = parse(text)?;
        let mut dialogue = Dialogue::new(&self.speaker);
        let steps = dialogue.handle_offer(session, &offer, &self.capabilities())?;
        let newcomer = Newcomer { ufrags: dialogue.ufrags(), codecs: dialogue.codecs(), replaces };
        let number = self.admit(now, session, newcomer)?;
        let addresses = self.addresses();
        let sdp = dialogue.answer(&offer, &self.speaker, &addresses);
        self.dialogues.insert(session, dialogue);
        if let Err(refusal) = self.take_steps(now, session, number, steps, &addresses) {
            self.undo(now, session);
            return Err(refusal);
        }
        debug!(viewer = number, "an offer is answered");
        Ok(Answer { sdp })
    }

    /// Takes back what was begun for an offer that turned out not to be answerable.
    fn undo(&mut self, now: Instant, session: SessionId) {
        let dialogue = self.dialogues.remove(&session);
        for transport in dialogue.iter().flat_map(Dialogue::sessions) {
            self.joining.remove(&transport);
            self.tell_media(MediaIn::Forget(transport));
            self.broadcast.handle_unanswered(now, transport);
        }
    }

    fn call(&mut self, now: Instant, session: SessionId, replaces: Option<SessionId>) -> Result<Answer, Refusal> {
        let number = self.admit(now, session, Newcomer { replaces, ..Newcomer::default() })?;
        let (can, addresses) = (self.capabilities(), self.addresses());
        let mut dialogue = Dialogue::new(&self.speaker);
        let (local, sdp) = dialogue.offer(session, &can, &self.speaker, &addresses);
        let engine = match self.engine(now, &local, IceRole::Controlling, &addresses) {
            Ok(engine) => engine,
            Err(refusal) => {
                self.broadcast.handle_unanswered(now, session);
                return Err(refusal);
            }
        };
        self.take_in(now, session, number, engine, dialogue.streams().clone(), local.ufrag);
        self.dialogues.insert(session, dialogue);
        debug!(viewer = number, "an offer is made");
        Ok(Answer { sdp })
    }

    fn accept(&mut self, now: Instant, session: SessionId, text: &str) -> Result<(), Refusal> {
        let (answer, can) = (parse(text)?, self.capabilities());
        let dialogue = self.dialogues.get_mut(&session).ok_or(Refusal::UnknownSession)?;
        let agreement = dialogue.handle_answer(&answer, &can)?;
        self.broadcast.handle_change(now, session, dialogue.ufrags(), dialogue.codecs());
        let viewer = self.joining.get_mut(&session).ok_or(Refusal::UnknownSession)?;
        viewer.start(now, &agreement).map_err(|error| unusable(&error))?;
        self.collect(now, session);
        Ok(())
    }

    fn renegotiate(&mut self, now: Instant, session: SessionId, text: &str) -> Result<Answer, Refusal> {
        let (offer, can, addresses) = (parse(text)?, self.capabilities(), self.addresses());
        let dialogue = self.dialogues.get_mut(&session).ok_or(Refusal::UnknownSession)?;
        let number = self.broadcast.number(session).ok_or(Refusal::UnknownSession)?;
        let steps = dialogue.handle_offer(session, &offer, &can)?;
        let sdp = dialogue.answer(&offer, &self.speaker, &addresses);
        self.take_steps(now, session, number, steps, &addresses)?;
        debug!(viewer = number, "a session is renegotiated");
        Ok(Answer { sdp })
    }

    fn restart(&mut self, now: Instant, session: SessionId, trickle: Trickle) -> Result<Trickle, Refusal> {
        let addresses = self.addresses();
        let dialogue = self.dialogues.get_mut(&session).ok_or(Refusal::UnknownSession)?;
        let (local, agreement) = dialogue.handle_restart(trickle)?;
        let steps = vec![Step::Restart(session, local.clone(), agreement)];
        let number = self.broadcast.number(session).ok_or(Refusal::UnknownSession)?;
        self.take_steps(now, session, number, steps, &addresses)?;
        let candidates = sdp::candidates(&addresses);
        Ok(Trickle {
            ufrag: Some(local.ufrag),
            password: Some(local.password),
            candidates,
            end: true,
            ..Trickle::default()
        })
    }

    /// Finds a place for a newcomer.
    fn admit(&mut self, now: Instant, session: SessionId, newcomer: Newcomer) -> Result<u32, Refusal> {
        if let Some(waiting) = self.broadcast.gives_way(now, &newcomer) {
            self.end(now, waiting, EndReason::GaveWay);
        }
        let number = self.broadcast.handle_offer(now, session, newcomer)?;
        self.report();
        Ok(number)
    }

    /// Does with each transport of `session` what its dialogue says.
    fn take_steps(
        &mut self,
        now: Instant,
        session: SessionId,
        number: u32,
        steps: Vec<Step>,
        addresses: &[SocketAddr],
    ) -> Result<(), Refusal> {
        for step in steps {
            match step {
                Step::Make(transport, local, agreement) => {
                    if transport != session {
                        let newcomer = Newcomer::default();
                        self.broadcast.handle_second(now, transport, session, newcomer);
                    }
                    let Some(dialogue) = self.dialogues.get(&session) else { continue };
                    let streams = dialogue.streams().clone();
                    let engine = self.engine(now, &local, IceRole::Controlled, addresses)?;
                    self.take_in(now, transport, number, engine, streams, local.ufrag);
                    let Some(viewer) = self.joining.get_mut(&transport) else { continue };
                    viewer.start(now, &agreement).map_err(|error| unusable(&error))?;
                }
                Step::Change(transport, agreement) => {
                    self.change(now, transport, Change { agreement, restart: None });
                }
                Step::Restart(transport, local, agreement) => {
                    self.tell_media(MediaIn::Expect { session: transport, ufrag: local.ufrag.clone() });
                    let restart = Some((local, addresses.to_vec()));
                    self.change(now, transport, Change { agreement, restart });
                }
                Step::End(transport) => self.end(now, transport, EndReason::Left),
            }
        }
        let transports = self.dialogues.get(&session).map(Dialogue::transports).unwrap_or_default();
        for (transport, ufrag, codecs) in transports {
            self.broadcast.handle_change(now, transport, vec![ufrag], codecs);
        }
        self.report();
        Ok(())
    }

    fn engine(
        &self,
        now: Instant,
        local: &LocalTransport,
        role: IceRole,
        addresses: &[SocketAddr],
    ) -> Result<RtcEngine, Refusal> {
        let made = RtcEngine::with_credentials(now, &self.config.identity, addresses, local.clone(), role);
        made.map_err(|error| unusable(&error))
    }

    /// Takes in the session of one transport; the media thread hands it what comes for `ufrag`.
    fn take_in(
        &mut self,
        now: Instant,
        session: SessionId,
        number: u32,
        engine: RtcEngine,
        streams: LocalStreams,
        ufrag: String,
    ) {
        let kit = StreamKit { clock: self.config.clock, streams, rate: self.config.bitrate };
        self.joining.insert(session, Box::new(Viewer::new(now, session, number, engine, kit)));
        self.tell_media(MediaIn::Expect { session, ufrag });
    }

    fn change(&mut self, now: Instant, session: SessionId, change: Change) {
        match self.joining.get_mut(&session) {
            Some(viewer) => {
                viewer.handle_change(now, change);
                self.collect(now, session);
            }
            None => self.tell_media(MediaIn::Change { session, change: Box::new(change) }),
        }
    }

    fn trickle(&mut self, now: Instant, session: SessionId, trickle: &Trickle) -> Result<(), Refusal> {
        self.broadcast.handle_trickle(session, trickle)?;
        if let (Some(named), Some(dialogue)) = (&trickle.generation, self.dialogues.get(&session)) {
            dialogue.is_current(named)?;
        }
        // Without BUNDLE a candidate may be any transport's: a check of the wrong one finds nobody.
        let transports: Vec<_> = self.dialogues.get(&session).into_iter().flat_map(Dialogue::sessions).collect();
        for session in transports {
            match self.joining.get_mut(&session) {
                Some(viewer) => {
                    trickle.candidates.iter().for_each(|candidate| viewer.handle_candidate(candidate));
                    self.collect(now, session);
                }
                None => self.tell_media(MediaIn::Candidates { session, candidates: trickle.candidates.clone() }),
            }
        }
        Ok(())
    }

    /// What can be sent; what is being encoded is preferred (rule 1).
    fn capabilities(&self) -> Capabilities {
        let mut can = self.config.can.clone();
        can.video.sort_by_key(|codec| !self.broadcast.wants(*codec));
        can
    }

    /// The addresses of the media socket.
    fn addresses(&self) -> Vec<SocketAddr> {
        let port = self.sink.local_port();
        let addresses = local_addresses().unwrap_or_else(|error| {
            warn!(%error, "this machine's addresses can't be listed: viewers elsewhere won't find it");
            vec![IpAddr::from([127, 0, 0, 1])]
        });
        addresses.into_iter().map(|ip| SocketAddr::new(ip, port)).collect()
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
        let (number, sink) = (viewer.number, &mut self.sink);
        sink.begin(number);
        if survives(number, || act(viewer, sink)) {
            self.collect(now, session);
        } else {
            self.forget(now, session, EndReason::Fault);
        }
    }

    fn forget(&mut self, now: Instant, session: SessionId, reason: EndReason) {
        if let Some(viewer) = self.joining.remove(&session) {
            debug!(viewer = viewer.number, counters = ?viewer.counters(), "what a viewer that did not connect asked for");
        }
        self.dialogues.remove(&session);
        self.tell_media(MediaIn::Forget(session));
        self.broadcast.handle_ended(now, session, reason);
    }

    /// Sends what a session's engine has to say, and acts on its events.
    fn collect(&mut self, now: Instant, session: SessionId) {
        let Some(viewer) = self.joining.get_mut(&session) else { return };
        let events: Vec<_> = std::iter::from_fn(|| viewer.poll_event()).collect();
        let mut adopted = false;
        for event in events {
            match event {
                // Told before anything is sent there: the reply must find its way.
                ViewerEvent::Address(address) => self.tell_media(MediaIn::Address { session, address }),
                ViewerEvent::Connected => {
                    self.broadcast.handle_connected(now, session);
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
        self.transmit(session);
        if let Some(viewer) = adopted.then(|| self.joining.remove(&session)).flatten() {
            self.tell_media(MediaIn::Adopt(viewer));
        }
    }

    fn transmit(&mut self, session: SessionId) {
        if let Some(viewer) = self.joining.get_mut(&session) {
            self.sink.begin(viewer.number);
            while let Some(transmit) = viewer.poll_transmit() {
                self.sink.transmit(&transmit);
            }
            self.sink.flush();
        }
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
        let soonest = now + Duration::from_millis(1);
        let sessions = self.joining.values_mut().filter_map(|viewer| viewer.poll_timeout());
        sessions.chain(self.broadcast.poll_timeout()).min().map(|due| due.max(soonest))
    }

    /// Does and says what the broadcast wants.
    fn report(&mut self) {
        while let Some(output) = self.broadcast.poll_output() {
            match output {
                Output::Demand { codec, wanted } => {
                    if wanted {
                        self.tell_media(MediaIn::Restarted(codec));
                    }
                    (self.demand)(codec, wanted);
                }
                Output::End { session, why } => self.end(Instant::now(), session, why),
                Output::Came { number, took, watching } => {
                    info!(viewer = number, connected_ms = took.as_millis() as u64, watching, "viewer came");
                }
                Output::Left { number, why, after, watching } => {
                    info!(viewer = number, why = ?why.to_string(), after_s = (after.as_secs_f64() * 10.0).round() / 10.0, watching, "viewer left");
                }
                Output::Failed { number, why } => {
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

fn parse(text: &str) -> Result<Description, Refusal> {
    Description::parse(text).map_err(|error| refusal(&error.into()))
}

fn unusable(error: &TransportError) -> Refusal {
    Refusal::BadOffer(error.to_string())
}

#[cfg(test)]
mod tests;
