//! What protocols ask of the join thread: offers, calls, renegotiations, restarts, candidates, goodbyes.

use std::time::Instant;

use tokio::sync::oneshot;
use tracing::{debug, info, warn};

use super::{Join, news};
use crate::id::SessionId;
use crate::session::broadcast::Newcomer;
use crate::session::dialogue::{Dialogue, Step, refusal};
use crate::session::engine::rtc::RtcEngine;
use crate::session::engine::{IceRole, LocalTransport, Protocol, Remote, TransportError};
use crate::session::messages::MediaIn;
use crate::session::reach::{self, LocalCandidate};
use crate::session::sdp::{self, Capabilities, Description, LocalStreams, Party};
use crate::session::viewer::{Change, EndReason, StreamKit, Viewer};
use crate::signaling::{Answer, Caller, Refusal, SignalIn, Trickle};

impl Join {
    pub(super) fn handle_signal(&mut self, now: Instant, signal: SignalIn) {
        match signal {
            SignalIn::Offer { session, sdp, caller, replaces, reply } => {
                let who = caller.clone();
                let answer = self.answer(now, session, &sdp, Newcomer { caller, replaces, ..Newcomer::default() });
                self.say(now, session, &who, answer, reply);
            }
            SignalIn::Call { session, caller, replaces, reply } => {
                let who = caller.clone();
                let newcomer = Newcomer { caller, replaces, ..Newcomer::default() };
                let offer = self.call(now, session, newcomer, Party::Viewer);
                self.say(now, session, &who, offer, reply);
            }
            SignalIn::Publish { session, caller, life, reply } => {
                let who = caller.clone();
                let newcomer = Newcomer { caller, ..Newcomer::default() };
                let offer = self.call(now, session, newcomer, Party::Sfu);
                if offer.is_ok() {
                    self.lives.insert(session, life);
                }
                self.say(now, session, &who, offer, reply);
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
                let known = self.broadcast.handle_goodbye(session);
                self.end(now, session, EndReason::Left);
                let _ = reply.send(match known {
                    _ if self.broadcast.was_kicked(session) => Err(Refusal::Kicked),
                    true => Ok(()),
                    false => Err(Refusal::UnknownSession),
                });
            }
        }
    }

    /// Gives a new session's description to whoever asked for it.
    fn say(
        &mut self,
        now: Instant,
        session: SessionId,
        who: &Caller,
        said: Result<Answer, Refusal>,
        reply: oneshot::Sender<Result<Answer, Refusal>>,
    ) {
        if let Err(refusal) = &said {
            if self.refusals.handle_refusal(now, refusal) {
                info!(who = ?who.to_string(), why = ?refusal.to_string(), "viewer refused");
            } else {
                debug!(who = ?who.to_string(), why = ?refusal.to_string(), "viewer refused, as others were just before");
            }
            self.config.events.tell(news::refused(who, refusal));
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

    fn answer(&mut self, now: Instant, session: SessionId, text: &str, newcomer: Newcomer) -> Result<Answer, Refusal> {
        // What can't be answered takes no place.
        let offer = parse(text)?;
        let mut dialogue = Dialogue::new(&self.speaker);
        let steps = dialogue.handle_offer(session, &offer, &self.capabilities())?;
        let newcomer = Newcomer { ufrags: dialogue.ufrags(), codecs: dialogue.codecs(), ..newcomer };
        let number = self.admit(now, session, newcomer)?;
        let candidates = self.candidates(session);
        let sdp = dialogue.answer(&offer, &self.speaker, &candidates);
        let refused = dialogue.video_refused(&offer);
        self.dialogues.insert(session, dialogue);
        if let Err(refusal) = self.take_steps(now, session, number, steps, &candidates) {
            self.undo(now, session);
            return Err(refusal);
        }
        debug!(viewer = number, "an offer is answered");
        if let Some(offered) = refused {
            let sent = sdp::sent(&Capabilities { audio: false, ..self.can() });
            info!(viewer = number, offered, sent, "a viewer gets no picture: no common video codec");
        }
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

    fn call(&mut self, now: Instant, session: SessionId, newcomer: Newcomer, party: Party) -> Result<Answer, Refusal> {
        let number = self.admit(now, session, newcomer)?;
        let (can, candidates) = (self.capabilities(), self.candidates(session));
        let mut dialogue = Dialogue::new(&self.speaker);
        let (local, sdp) = dialogue.offer(session, party, &can, &self.speaker, &candidates);
        let engine = match self.engine(now, &local, IceRole::Controlling, &candidates) {
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
        if answer.ice_lite && self.lives.contains_key(&session) {
            // A lite side asks nothing by which it could be known: it answers the daemon's checks, from where it says that it is.
            let remotes = agreement.remote.addresses().map(|address| Remote { protocol: Protocol::Udp, address });
            remotes.for_each(|remote| self.tell_media(MediaIn::Address { session, remote }));
        }
        let viewer = self.joining.get_mut(&session).ok_or(Refusal::UnknownSession)?;
        viewer.start(now, &agreement).map_err(|error| unusable(&error))?;
        self.collect(now, session);
        Ok(())
    }

    fn renegotiate(&mut self, now: Instant, session: SessionId, text: &str) -> Result<Answer, Refusal> {
        let (offer, can, candidates) = (parse(text)?, self.capabilities(), self.candidates(session));
        let dialogue = self.dialogues.get_mut(&session).ok_or(Refusal::UnknownSession)?;
        let number = self.broadcast.number(session).ok_or(Refusal::UnknownSession)?;
        let steps = dialogue.handle_offer(session, &offer, &can)?;
        let sdp = dialogue.answer(&offer, &self.speaker, &candidates);
        self.take_steps(now, session, number, steps, &candidates)?;
        debug!(viewer = number, "a session is renegotiated");
        Ok(Answer { sdp })
    }

    fn restart(&mut self, now: Instant, session: SessionId, trickle: Trickle) -> Result<Trickle, Refusal> {
        let candidates = self.candidates(session);
        let dialogue = self.dialogues.get_mut(&session).ok_or(Refusal::UnknownSession)?;
        let (local, agreement) = dialogue.handle_restart(trickle)?;
        let steps = vec![Step::Restart(session, local.clone(), agreement)];
        let number = self.broadcast.number(session).ok_or(Refusal::UnknownSession)?;
        self.take_steps(now, session, number, steps, &candidates)?;
        let candidates = sdp::candidates(&candidates);
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
        candidates: &[LocalCandidate],
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
                    let engine = self.engine(now, &local, IceRole::Controlled, candidates)?;
                    self.take_in(now, transport, number, engine, streams, local.ufrag);
                    let Some(viewer) = self.joining.get_mut(&transport) else { continue };
                    viewer.start(now, &agreement).map_err(|error| unusable(&error))?;
                }
                Step::Change(transport, agreement) => {
                    self.change(now, transport, Change { agreement, restart: None });
                }
                Step::Restart(transport, local, agreement) => {
                    self.tell_media(MediaIn::Expect { session: transport, ufrag: local.ufrag.clone() });
                    let restart = Some((local, reach::bases(candidates)));
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
        candidates: &[LocalCandidate],
    ) -> Result<RtcEngine, Refusal> {
        let bases = reach::bases(candidates);
        let made = RtcEngine::with_credentials(now, &self.config.identity, &bases, local.clone(), role);
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
        let kit = StreamKit { clock: self.config.clock, streams, rate: self.config.terms.bitrate };
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
        let mut can = self.can();
        can.video.sort_by_key(|codec| !self.broadcast.wants(*codec));
        can
    }

    /// The ways to reach the daemon, as the viewer of a session is told them now.
    fn candidates(&self, session: SessionId) -> Vec<LocalCandidate> {
        let at = self.broadcast.caller(session).map_or("", |caller| &caller.at);
        let (candidates, listed) = self.config.reach.candidates(at);
        if let Err(error) = listed {
            warn!(%error, "this machine's addresses can't be listed: viewers elsewhere won't find it");
        }
        candidates
    }
}

fn parse(text: &str) -> Result<Description, Refusal> {
    Description::parse(text).map_err(|error| refusal(&error.into()))
}

fn unusable(error: &TransportError) -> Refusal {
    Refusal::BadOffer(error.to_string())
}
