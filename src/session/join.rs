//! The join thread: offers are answered and handshakes done here (2 ms of handshake must not delay a picture), and the [`Broadcast`] lives here.
//!
//! A shell: sessions belong to it until they are connected, then to the media thread.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use tracing::{debug, error, info, warn};

use super::broadcast::{Broadcast, Output, Place};
use super::engine::identity::Identity;
use super::engine::rtc::RtcEngine;
use super::fault::survives;
use super::inbox::Inbox;
use super::messages::{JoinIn, MediaIn};
use super::sdp::{self, Capabilities, Description, LocalStreams, NegotiationError, Origin, Sync};
use super::sink::SocketSink;
use super::stream::VideoStream;
use super::udp::local_addresses;
use super::viewer::{EndReason, Viewer, ViewerEvent};
use super::wake::{Interest, poll_until};
use crate::clock::Clock;
use crate::encoder::{Bitrate, Codec};
use crate::id::{SessionId, random_base32, random_bytes};
use crate::signaling::{Answer, Refusal, SignalIn, Trickle};

/// Starts and stops what makes pictures.
pub type Demand = Box<dyn FnMut(bool) + Send>;

/// How sessions are made.
pub struct JoinConfig {
    /// The broadcast's name.
    pub name: String,
    /// Most sessions.
    pub max_viewers: usize,
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
    cname: String,
    sink: SocketSink,
    inbox: Inbox<JoinIn>,
    media: Inbox<MediaIn>,
    demand: Demand,
    broadcast: Broadcast,
    joining: HashMap<SessionId, Box<Viewer<RtcEngine>>>,
    /// Once the daemon ends: until when live sessions may say goodbye.
    closing: Option<Instant>,
}

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
        Self {
            broadcast: Broadcast::new(config.max_viewers),
            config,
            cname: random_base32(16),
            sink,
            inbox,
            media,
            demand,
            joining: HashMap::new(),
            closing: None,
        }
    }

    /// Runs until [`JoinIn::Shutdown`].
    pub fn run(mut self) {
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
            JoinIn::Signal(SignalIn::Offer { session, sdp, reply, .. }) => {
                let answer = self.answer(now, session, &sdp);
                if let Err(refusal) = &answer {
                    info!(why = ?refusal.to_string(), "viewer refused");
                }
                if reply.send(answer).is_err() {
                    // Whoever asked has gone away meanwhile.
                    self.end(now, session, EndReason::Left);
                }
                self.collect(now, session);
            }
            JoinIn::Signal(SignalIn::Trickle { session, trickle, reply }) => {
                let known = self.trickle(session, trickle);
                let _ = reply.send(known);
                self.collect(now, session);
            }
            JoinIn::Signal(SignalIn::Renegotiate { reply, .. } | SignalIn::Call { reply, .. }) => {
                let _ = reply.send(Err(Refusal::UnknownSession));
            }
            JoinIn::Signal(SignalIn::Accept { reply, .. }) => drop(reply.send(Err(Refusal::UnknownSession))),
            JoinIn::Signal(SignalIn::Restart { reply, .. }) => drop(reply.send(Err(Refusal::UnknownSession))),
            JoinIn::Signal(SignalIn::Leave { session, reply }) => {
                let known = self.broadcast.place(session).is_some();
                self.end(now, session, EndReason::Left);
                let _ = reply.send(if known { Ok(()) } else { Err(Refusal::UnknownSession) });
            }
            JoinIn::Datagram { session, path, data } => {
                self.attend(now, session, |viewer, sink| viewer.handle_datagram(now, path, &data, sink));
            }
            JoinIn::Ended { session, at, reason } => self.broadcast.handle_ended(at, session, reason),
            JoinIn::Shutdown => self.shut_down(now),
        }
    }

    fn answer(&mut self, now: Instant, session: SessionId, text: &str) -> Result<Answer, Refusal> {
        // What can't be answered takes no place.
        let offer = Description::parse(text).map_err(|error| refusal(&error.into()))?;
        let can = Capabilities { video: vec![Codec::H264], audio: false };
        let agreements = sdp::negotiate(&offer, &can).map_err(|error| refusal(&error))?;
        let Some(video) = agreements.first().and_then(|agreement| agreement.video.clone()) else {
            return Err(refusal(&NegotiationError::NothingWanted));
        };
        let agreement = &agreements[0];
        if let Some(waiting) = self.broadcast.gives_way(now) {
            self.end(now, waiting, EndReason::GaveWay);
        }
        let number = self.broadcast.handle_offer(now, session, &agreement.remote.ufrag)?;
        self.report();
        let port = self.sink.local_port();
        let addresses = local_addresses().unwrap_or_else(|error| {
            warn!(%error, "this machine's addresses can't be listed: viewers elsewhere won't find it");
            vec![IpAddr::from([127, 0, 0, 1])]
        });
        let addresses: Vec<_> = addresses.into_iter().map(|ip| SocketAddr::new(ip, port)).collect();
        let (engine, transport) = match RtcEngine::new(now, &self.config.identity, &addresses, &agreement.remote) {
            Ok(made) => made,
            Err(error) => {
                self.broadcast.handle_unanswered(now, session);
                return Err(Refusal::BadOffer(format!("the offer's transport can't be used: {error}")));
            }
        };
        let ssrc = u32::from_be_bytes(random_bytes()) & !1;
        let streams = LocalStreams {
            video_ssrc: ssrc,
            rtx_ssrc: ssrc | 1,
            audio_ssrc: u32::from_be_bytes(random_bytes()),
            name: self.config.name.clone(),
            cname: self.cname.clone(),
            sync: Sync::Lip,
        };
        let origin = Origin { id: u64::from(ssrc), version: 1 };
        let fingerprint = self.config.identity.fingerprint();
        let transports = std::slice::from_ref(&transport);
        let sdp = sdp::answer(&offer, &agreements, transports, &streams, origin, &fingerprint, &addresses);
        let stream = VideoStream::new(now, self.config.clock, video, streams, self.config.bitrate);
        let viewer = Box::new(Viewer::new(now, session, number, engine, stream));
        debug!(viewer = number, "an offer is answered");
        self.joining.insert(session, viewer);
        self.tell_media(MediaIn::Expect { session, ufrag: transport.ufrag });
        Ok(Answer { sdp })
    }

    fn trickle(&mut self, session: SessionId, trickle: Trickle) -> Result<(), Refusal> {
        match self.broadcast.handle_trickle(session, &trickle)? {
            Place::Joining => {
                if let Some(viewer) = self.joining.get_mut(&session) {
                    trickle.candidates.iter().for_each(|candidate| viewer.handle_candidate(candidate));
                }
            }
            Place::Live => self.tell_media(MediaIn::Candidates { session, candidates: trickle.candidates }),
        }
        Ok(())
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
        self.joining.remove(&session);
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
                Output::Demand(wanted) => {
                    if wanted {
                        self.tell_media(MediaIn::Restarted);
                    }
                    (self.demand)(wanted);
                }
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

fn refusal(error: &NegotiationError) -> Refusal {
    match error {
        NegotiationError::NoCommonCodec { .. }
        | NegotiationError::NothingWanted
        | NegotiationError::NothingTaken(_) => Refusal::NoCommonCodec(error.to_string()),
        NegotiationError::Description(_)
        | NegotiationError::Incomplete(_)
        | NegotiationError::IceLite
        | NegotiationError::NoMultiplexing
        | NegotiationError::OtherSections { .. } => Refusal::BadOffer(error.to_string()),
    }
}
