//! What was said with one viewer: descriptions, transports and what they agreed on, over renegotiations and ICE restarts.
//!
//! A pure core but for the random numbers of credentials and streams. It never touches an engine: it says what becomes of each transport.

use super::engine::{LocalTransport, RemoteTransport};
use super::reach::LocalCandidate;
use super::sdp::{self, Agreement, Capabilities, Description, LocalStreams, NegotiationError, Origin, Party, Sync};
use crate::encoder::Codec;
use crate::id::{SessionId, random_bytes};
use crate::signaling::{Refusal, Trickle};

#[cfg(test)]
mod tests;

/// What is said of the daemon in each description.
#[derive(Debug, Clone)]
pub struct Speaker {
    /// The broadcast's name.
    pub name: String,
    /// Canonical name of all streams.
    pub cname: String,
    /// Whether pictures and sound are one MediaStream.
    pub sync: Sync,
    /// The certificate's SHA-256.
    pub fingerprint: [u8; 32],
}

/// One transport of a session: with BUNDLE the only one.
#[derive(Debug, Clone)]
struct Transport {
    session: SessionId,
    local: LocalTransport,
    /// What is agreed for it; nothing before the viewer has answered.
    agreement: Option<Agreement>,
}

/// What is to be done with one transport after something was said.
#[derive(Debug)]
pub enum Step {
    /// It is made: an engine with these credentials starts with this agreement.
    Make(SessionId, LocalTransport, Agreement),
    /// It goes on with another agreement.
    Change(SessionId, Agreement),
    /// It goes on with another agreement and a new ICE generation of these credentials.
    Restart(SessionId, LocalTransport, Agreement),
    /// It is no longer used.
    End(SessionId),
}

/// The words exchanged with one viewer.
#[derive(Debug)]
pub struct Dialogue {
    streams: LocalStreams,
    origin: Origin,
    transports: Vec<Transport>,
    /// The daemon's offer, until it is answered.
    offered: Option<String>,
}

impl Dialogue {
    /// Begins with nothing said.
    pub fn new(speaker: &Speaker) -> Self {
        let ssrc = u32::from_be_bytes(random_bytes()) & !3;
        let streams = LocalStreams {
            video_ssrc: ssrc,
            rtx_ssrc: ssrc | 1,
            audio_ssrc: ssrc | 2,
            name: speaker.name.clone(),
            cname: speaker.cname.clone(),
            sync: speaker.sync,
            video_section: None,
            audio_section: None,
        };
        // Below 2^62, as browsers choose them: some readers take it for a signed number.
        let origin = Origin { id: u64::from_be_bytes(random_bytes()) >> 2, version: 2 };
        Self { streams, origin, transports: Vec::new(), offered: None }
    }

    /// The streams as the descriptions name them.
    pub fn streams(&self) -> &LocalStreams {
        &self.streams
    }

    /// What the viewer takes.
    pub fn codecs(&self) -> Vec<Codec> {
        let agreements = self.transports.iter().filter_map(|transport| transport.agreement.as_ref());
        agreements.flat_map(taken).collect()
    }

    /// The viewer's `ice-ufrag`s.
    pub fn ufrags(&self) -> Vec<String> {
        let agreements = self.transports.iter().filter_map(|transport| transport.agreement.as_ref());
        agreements.map(|agreement| agreement.remote.ufrag.clone()).collect()
    }

    /// Its transports: each one's session, the viewer's `ice-ufrag` and what is sent by it.
    pub fn transports(&self) -> Vec<(SessionId, String, Vec<Codec>)> {
        let agreed = self.transports.iter().filter_map(|transport| {
            let agreement = transport.agreement.as_ref()?;
            Some((transport.session, agreement.remote.ufrag.clone(), taken(agreement).collect()))
        });
        agreed.collect()
    }

    /// Checks that the daemon's `ice-ufrag` of the present ICE generation is `named`.
    ///
    /// # Errors
    /// Where it is another.
    pub fn is_current(&self, named: &str) -> Result<(), Refusal> {
        match self.transports.first() {
            Some(first) if first.local.ufrag != named => {
                Err(Refusal::OtherGeneration { current: first.local.ufrag.clone() })
            }
            _ => Ok(()),
        }
    }

    /// The sessions of its transports.
    pub fn sessions(&self) -> impl Iterator<Item = SessionId> {
        self.transports.iter().map(|transport| transport.session)
    }

    /// Takes an offer, the first or a later one; `session` is that of the first transport. Says what becomes of each transport.
    ///
    /// # Errors
    /// Where it can't be answered: all goes on as it was.
    pub fn handle_offer(
        &mut self,
        session: SessionId,
        offer: &Description,
        can: &Capabilities,
    ) -> Result<Vec<Step>, Refusal> {
        let mut can = can.clone();
        // A codec that is in use stays: changing it would cost a keyframe and bring nothing.
        let current = self.codecs();
        can.video.sort_by_key(|codec| !current.contains(codec));
        let mut agreements = match sdp::negotiate(offer, &can) {
            // Whoever is connected may want nothing for a while, or nothing but what is not sent.
            Err(
                error @ (NegotiationError::NothingWanted
                | NegotiationError::NoCommonCodec { .. }
                | NegotiationError::NoSound { .. }),
            ) if !self.transports.is_empty() => sdp::pause(offer).map_err(|_| error),
            said => said,
        }
        .map_err(|error| refusal(&error))?;
        for (transport, agreement) in self.transports.iter().zip(&mut agreements) {
            let Some(known) = transport.agreement.as_ref().map(|agreement| &agreement.remote) else { continue };
            if !known.has_certificate_of(&agreement.remote) {
                return Err(Refusal::Conflict(
                    "the offer has another certificate than the session; make a new session".to_owned(),
                ));
            }
            // The DTLS association goes on, and with it who began it (RFC 8842, section 5.4).
            agreement.remote.dtls_client = known.dtls_client;
        }
        if let Some(video) = agreements.iter().find_map(|agreement| agreement.video.as_ref()) {
            self.streams.video_section = Some((video.section, video.rtx.is_some()));
        }
        if let Some(audio) = agreements.iter().find_map(|agreement| agreement.audio.as_ref()) {
            self.streams.audio_section = Some(audio.section);
        }
        let ended = self.transports.split_off(agreements.len().min(self.transports.len()));
        let mut steps: Vec<_> = ended.into_iter().map(|transport| Step::End(transport.session)).collect();
        for (index, agreement) in agreements.into_iter().enumerate() {
            let Some(transport) = self.transports.get_mut(index) else {
                let session = if index == 0 { session } else { SessionId::random() };
                let local = LocalTransport::random();
                steps.push(Step::Make(session, local.clone(), agreement.clone()));
                self.transports.push(Transport { session, local, agreement: Some(agreement) });
                continue;
            };
            let same = |known: &RemoteTransport| {
                known.ufrag == agreement.remote.ufrag && known.password == agreement.remote.password
            };
            if transport.agreement.as_ref().is_some_and(|known| same(&known.remote)) {
                steps.push(Step::Change(transport.session, agreement.clone()));
            } else {
                transport.local = LocalTransport::random();
                steps.push(Step::Restart(transport.session, transport.local.clone(), agreement.clone()));
            }
            transport.agreement = Some(agreement);
        }
        Ok(steps)
    }

    /// The answer to the offer that was taken last.
    pub fn answer(&mut self, offer: &Description, speaker: &Speaker, candidates: &[LocalCandidate]) -> String {
        let agreements: Vec<_> = self.transports.iter().filter_map(|transport| transport.agreement.clone()).collect();
        let locals: Vec<_> = self.transports.iter().map(|transport| transport.local.clone()).collect();
        let origin = self.next_origin();
        sdp::answer(offer, &agreements, &locals, &self.streams, origin, &speaker.fingerprint, candidates)
    }

    /// The codecs of the video that `offer`, the one taken last, asks for in vain, in words; `None` where it gets what it asks for.
    pub fn video_refused(&self, offer: &Description) -> Option<String> {
        let has_video = self.codecs().iter().any(|codec| *codec != Codec::Opus);
        sdp::video_wanted(offer).filter(|_| !has_video)
    }

    /// The daemon's own offer, for a viewer who makes none, or for a server that takes the stream for many.
    pub fn offer(
        &mut self,
        session: SessionId,
        party: Party,
        can: &Capabilities,
        speaker: &Speaker,
        candidates: &[LocalCandidate],
    ) -> (LocalTransport, String) {
        let local = LocalTransport::random();
        let origin = self.next_origin();
        if party == Party::Sfu {
            // WHIP knows one MediaStream only (RFC 9725, section 4.4.2).
            self.streams.sync = Sync::Lip;
        }
        let offer = sdp::offer(party, can, &local, &self.streams, origin, &speaker.fingerprint, candidates);
        self.transports = vec![Transport { session, local: local.clone(), agreement: None }];
        self.offered = Some(offer.clone());
        (local, offer)
    }

    /// Takes the viewer's answer to the daemon's offer.
    ///
    /// # Errors
    /// Where no offer awaits an answer, or this one can't be used.
    pub fn handle_answer(&mut self, answer: &Description, can: &Capabilities) -> Result<Agreement, Refusal> {
        let none = || Refusal::Conflict("no offer of this broadcaster waits for an answer".to_owned());
        let offered = self.offered.take().ok_or_else(none)?;
        let agreement = sdp::accept(&offered, answer, can).map_err(|error| refusal(&error))?;
        self.streams.video_section = agreement.video.as_ref().map(|video| (video.section, video.rtx.is_some()));
        self.streams.audio_section = agreement.audio.as_ref().map(|audio| audio.section);
        if let Some(transport) = self.transports.first_mut() {
            transport.agreement = Some(agreement.clone());
        }
        Ok(agreement)
    }

    /// Takes new ICE credentials of the viewer alone (RFC 9725, section 4.3.3).
    ///
    /// # Errors
    /// Where there are none, or the session has more than one transport, which an offer alone can restart.
    pub fn handle_restart(&mut self, trickle: Trickle) -> Result<(LocalTransport, Agreement), Refusal> {
        let [transport] = self.transports.as_mut_slice() else {
            return Err(Refusal::Conflict("a session without BUNDLE is restarted by an offer only".to_owned()));
        };
        let (Some(ufrag), Some(password), Some(agreement)) =
            (trickle.ufrag, trickle.password, &mut transport.agreement)
        else {
            return Err(Refusal::BadOffer("an ICE restart has a=ice-ufrag and a=ice-pwd".to_owned()));
        };
        agreement.remote.ufrag = ufrag;
        agreement.remote.password = password;
        agreement.remote.candidates = trickle.candidates;
        transport.local = LocalTransport::random();
        Ok((transport.local.clone(), agreement.clone()))
    }

    fn next_origin(&mut self) -> Origin {
        let origin = self.origin;
        self.origin.version += 1;
        origin
    }
}

/// What an agreement has the daemon make.
fn taken(agreement: &Agreement) -> impl Iterator<Item = Codec> {
    let video = agreement.video.as_ref().map(|video| video.codec);
    video.into_iter().chain(agreement.audio.as_ref().map(|_| Codec::Opus))
}

/// What a viewer is told of an offer that can't be answered.
pub fn refusal(error: &NegotiationError) -> Refusal {
    match error {
        NegotiationError::NoCommonCodec { .. }
        | NegotiationError::NoSound { .. }
        | NegotiationError::NothingWanted
        | NegotiationError::NothingTaken(_) => Refusal::NoCommonCodec(error.to_string()),
        NegotiationError::Description(_)
        | NegotiationError::Incomplete(_)
        | NegotiationError::IceLite
        | NegotiationError::NoMultiplexing
        | NegotiationError::OtherSections { .. } => Refusal::BadOffer(error.to_string()),
    }
}
