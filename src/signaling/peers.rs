//! The daemon's side of a talk with each peer of one signaling server: what peers say to it, and what it says to them.
//!
//! A state machine over (peer, word), for the embedded room and for a client of any server alike: it knows no protocol. One question to the
//! broadcast is open for each peer at a time; an offer that comes meanwhile waits, the newest only. It offers to a peer that waits for it once at
//! most, never hangs up by a word, and trickles nothing: the daemon's candidates are in its SDP. What is of no use is counted and forgotten.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::words::{Kind, Word};
use super::{Refusal, Trickle};
use crate::id::{PeerId, SessionId};

mod call;
mod exchange;
mod known;
mod peer;
#[cfg(test)]
mod tests;

pub use call::{CallPolicy, Glob};
pub use exchange::{AskId, CallError, Counts, Outcome, Output, PeerState, Question, Useless};
use known::{Known, Standing};
use peer::{Agreed, Asked, Link, Peer, PeerOffer, Terms, keep};

/// How long a peer that joined has to offer before it is called.
pub const CALL_AFTER: Duration = Duration::from_secs(1);
/// How long after the daemon's first list those may come back who were there when the server was lost: pages wait some seconds before they try again.
pub const BACK_WITHIN: Duration = Duration::from_secs(10);
/// The most bytes of a name: as many as the room keeps.
const NAME_BYTES: usize = 512;
/// How long the daemon's offer stands with a peer that does not answer: as long as a session may take to connect.
const CALL_STANDS: Duration = Duration::from_secs(15);
/// So many are called at once at most, the others this time later: a class that joins together must not fill the broadcast's queue.
const CALLS_AT_ONCE: usize = 64;
const NEXT_CALLS_AFTER: Duration = Duration::from_millis(50);
/// The most candidates of a peer that are kept until their description comes.
const EARLY_CANDIDATES: usize = 64;

/// All peers of one signaling server, and what is agreed with each.
pub struct Peers {
    call: CallPolicy,
    sessions: Box<dyn FnMut() -> SessionId + Send>,
    peers: BTreeMap<PeerId, Peer>,
    /// Who was there when the server was lost.
    known: Known,
    asks: u64,
    outputs: VecDeque<Output>,
    counts: Counts,
    last_useless: Option<PeerId>,
}

impl Peers {
    /// Calls by `call`; `sessions` draws fresh ids.
    pub fn new(call: CallPolicy, sessions: impl FnMut() -> SessionId + Send + 'static) -> Self {
        Self {
            call,
            sessions: Box::new(sessions),
            peers: BTreeMap::new(),
            known: Known::default(),
            asks: 0,
            outputs: VecDeque::new(),
            counts: Counts::default(),
            last_useless: None,
        }
    }

    /// What could not be used so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Whose message was the last of those, where that is known.
    pub fn last_useless(&self) -> Option<PeerId> {
        self.last_useless
    }

    /// Who is here.
    pub fn states(&self) -> impl Iterator<Item = PeerState> {
        self.peers.iter().map(|(id, peer)| PeerState { id: *id, name: peer.name.clone(), session: peer.session() })
    }

    /// The session that was made for a peer last.
    pub fn session(&self, id: PeerId) -> Option<SessionId> {
        self.peers.get(&id).and_then(Peer::session)
    }

    /// The name of a peer; empty for one that is not here.
    pub fn name(&self, id: PeerId) -> &str {
        self.peers.get(&id).map_or("", |peer| &peer.name)
    }

    /// Whether the daemon's offer is with a peer that has not answered it.
    pub fn is_called(&self, id: PeerId) -> bool {
        self.peers.get(&id).is_some_and(|peer| peer.asked.is_none() && matches!(peer.link, Link::Called { .. }))
    }

    /// The peer whose last description has this `ice-ufrag`, for protocols whose candidates name nobody.
    pub fn with_ufrag(&self, ufrag: &str) -> Option<PeerId> {
        let has = |peer: &Peer| peer.described().any(|described| described == ufrag);
        self.peers.iter().find_map(|(id, peer)| has(peer).then_some(*id))
    }

    /// Notes a peer that came under `name`. One of this name that had a picture when the server was lost has it still, and is not
    /// called, nor is one soon after an offer.
    pub fn handle_joined(&mut self, id: PeerId, name: &[u8], now: Instant) {
        let name = readable(name);
        let mut peer = Peer::default();
        match self.known.take(&name, now) {
            None => peer.call_at = Some(now + CALL_AFTER),
            Some(Standing::Called(again_at)) => peer.call_at = Some(again_at.max(now + CALL_AFTER)),
            Some(Standing::Served(Some(agreed))) => peer.link = Link::Agreed(agreed),
            Some(Standing::Served(None)) => peer.is_served = true,
        }
        peer.call_at = peer.call_at.filter(|_| self.call.includes(&name));
        self.peers.insert(id, Peer { name, ..peer });
    }

    /// Calls by another policy from now on, those too who are here without a picture.
    pub fn set_call(&mut self, call: CallPolicy, now: Instant) {
        if call == self.call {
            return;
        }
        self.call = call;
        for peer in self.peers.values_mut() {
            let is_new =
                matches!(peer.link, Link::None) && peer.asked.is_none() && peer.called_at.is_none() && !peer.is_served;
            peer.call_at =
                peer.call_at.or((is_new).then_some(now + CALL_AFTER)).filter(|_| self.call.includes(&peer.name));
        }
    }

    /// Puts off the call of a peer that is to be called of itself, until then at least.
    pub fn put_off_call(&mut self, id: PeerId, until: Instant) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.call_at = peer.call_at.map(|at| at.max(until));
        }
    }

    /// Notes that the connection to the server is lost: nobody is here any more, and what is connected goes on.
    pub fn handle_lost(&mut self, now: Instant) {
        self.known.handle_lost(now);
        for peer in std::mem::take(&mut self.peers).into_values() {
            self.known.add(&peer, now);
            self.drop_peer(peer);
        }
    }

    /// Notes that all have joined who were there when the daemon came back to a server: those who are seconds later are recognised too, and who comes after
    /// them is new, whatever its name.
    pub fn handle_listed(&mut self, now: Instant) {
        self.known.handle_listed(now);
    }

    /// Notes that a peer has another name now.
    pub fn handle_renamed(&mut self, id: PeerId, name: &[u8]) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.name = readable(name);
        }
    }

    /// Offers to a peer, by the operator's word or because it asked for that: what was agreed with it before ends once the new connection stands.
    ///
    /// # Errors
    /// Where it can't be called now.
    pub fn call(&mut self, id: PeerId, now: Instant) -> Result<(), CallError> {
        let peer = self.peers.get_mut(&id).ok_or(CallError::Unknown)?;
        let is_recent = peer.called_at.is_some_and(|at| now.saturating_duration_since(at) < CALL_STANDS);
        if peer.asked.is_some() || (is_recent && matches!(peer.link, Link::Called { .. })) {
            return Err(CallError::Busy);
        }
        (peer.call_at, peer.called_at) = (None, Some(now));
        // It did not answer.
        if let Link::Called { session, .. } = peer.link {
            self.outputs.push_back(Output::Leave(session));
            peer.fall_back();
        }
        let replaces = match &peer.link {
            Link::Agreed(agreed) => Some(agreed.session),
            Link::None | Link::Called { .. } => None,
        };
        let session = (self.sessions)();
        self.ask(id, Asked::Call { session }, Question::Call { session, replaces });
        Ok(())
    }

    /// Takes the daemon's offer back that a peer has not answered; what was agreed before goes on.
    pub fn withdraw_call(&mut self, id: PeerId) {
        let Some(peer) = self.peers.get_mut(&id).filter(|peer| peer.asked.is_none()) else { return };
        if let Link::Called { session, .. } = peer.link {
            self.outputs.extend([Output::Leave(session), Output::Withdraw { to: id }]);
            peer.fall_back();
        }
    }

    /// Takes what a peer said; of those that never joined nothing is heard.
    pub fn handle_word(&mut self, id: PeerId, word: Word) {
        let counted = self.counts;
        match word {
            _ if !self.peers.contains_key(&id) => self.counts.unexpected += 1,
            Word::Description { kind: Kind::Offer, sdp } => self.offered(id, sdp),
            Word::Description { kind: Kind::Answer, sdp } => self.answered(id, sdp),
            // The one that counts is still to come.
            Word::Description { kind: Kind::ProvisionalAnswer, .. } => {}
            Word::Candidate(trickle) => self.trickled(id, trickle),
            Word::Bye => self.hung_up(id),
        }
        if self.counts != counted {
            self.last_useless = Some(id);
        }
    }

    /// Notes that a peer asks for the stream in its protocol's own way: it is not called unasked.
    pub fn handle_asking(&mut self, id: PeerId) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.call_at = None;
        }
    }

    /// Counts what a peer said and is of no use; protocols that don't name senders may not know whose it was.
    pub fn handle_useless(&mut self, id: impl Into<Option<PeerId>>, why: Useless) {
        let id = id.into();
        match why {
            Useless::NotJson => self.counts.not_json += 1,
            Useless::Unknown => self.counts.unknown += 1,
            Useless::Unexpected => self.counts.unexpected += 1,
        }
        self.last_useless = id;
        tracing::debug!(peer = id.map(tracing::field::display), %why, "a peer's message is of no use");
    }

    /// Notes that a peer signed out: its sessions end.
    pub fn handle_signed_out(&mut self, id: PeerId) {
        self.hung_up(id);
        self.peers.remove(&id);
    }

    /// Notes that the server dropped a peer: what is connected goes on.
    pub fn handle_dropped(&mut self, id: PeerId) {
        if let Some(peer) = self.peers.remove(&id) {
            self.drop_peer(peer);
        }
    }

    /// Takes the broadcast's word on a question.
    pub fn handle_outcome(&mut self, ask: AskId, outcome: Outcome) {
        let Some((&id, peer)) =
            self.peers.iter_mut().find(|(_, peer)| matches!(peer.asked, Some((open, _)) if open == ask))
        else {
            // What was asked has been left since.
            return;
        };
        let Some((_, asked)) = peer.asked.take() else { return };
        if let Outcome::Refused(refusal) = &outcome {
            tracing::debug!(peer = %id, %refusal, "a peer is refused");
        }
        let again = self.conclude(id, asked, outcome);
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if let Some(offer) = peer.next.take().or(again) {
            self.begin(id, offer);
        }
    }

    /// Calls those whose time has come, and forgets those who did not come back.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.known.handle_timeout(now);
        let mut due = Vec::new();
        for (id, peer) in &mut self.peers {
            if peer.call_at.is_none_or(|at| at > now) {
                continue;
            }
            if due.len() < CALLS_AT_ONCE {
                peer.call_at = None;
                due.push(*id);
            } else {
                peer.call_at = Some(now + NEXT_CALLS_AFTER);
            }
        }
        for id in due {
            // Whoever is busy is being served already.
            let _ = self.call(id, now);
        }
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.peers.values().filter_map(|peer| peer.call_at).chain(self.known.poll_timeout()).min()
    }

    /// What is to be done next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn drop_peer(&mut self, peer: Peer) {
        // Who is gone answers no offer.
        match (peer.asked, peer.link) {
            (Some((_, Asked::Call { session, .. })), _) | (None, Link::Called { session, .. }) => {
                self.outputs.push_back(Output::Leave(session));
            }
            _ => {}
        }
    }

    fn offered(&mut self, id: PeerId, sdp: String) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        // It offers itself: there is no need to call it.
        peer.call_at = None;
        let offer = PeerOffer { sdp, candidates: Vec::new() };
        match (&peer.asked, &peer.link) {
            // Both offer: the peer's wins.
            (&Some((_, Asked::Call { session, .. })), _) | (&None, &Link::Called { session, .. }) => {
                peer.asked = None;
                peer.fall_back();
                self.outputs.extend([Output::Leave(session), Output::Withdraw { to: id }]);
                self.begin(id, offer);
            }
            (Some(_), _) => peer.next = Some(offer),
            (None, _) => self.begin(id, offer),
        }
    }

    /// Puts a peer's offer to the broadcast; no question is open.
    fn begin(&mut self, id: PeerId, mut offer: PeerOffer) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let terms = Terms::of(&offer.sdp);
        offer.candidates.splice(..0, peer.early.drain(..));
        let replaces = match &peer.link {
            Link::Agreed(agreed) if agreed.terms.is_same_connection(&terms) => {
                let session = agreed.session;
                let question = Question::Renegotiate { session, sdp: offer.sdp.clone() };
                let candidates = offer.candidates.clone();
                self.ask(id, Asked::Renegotiation { session, offer }, question);
                self.trickle_all(session, candidates);
                return;
            }
            Link::Agreed(agreed) => Some(agreed.session),
            Link::None | Link::Called { .. } => None,
        };
        let session = (self.sessions)();
        let question = Question::Offer { session, sdp: offer.sdp, replaces };
        self.ask(id, Asked::Offer { session, replaces, terms }, question);
        self.trickle_all(session, offer.candidates);
    }

    fn answered(&mut self, id: PeerId, sdp: String) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let (None, &Link::Called { session, .. }) = (&peer.asked, &peer.link) else {
            self.counts.unexpected += 1;
            return;
        };
        let early = std::mem::take(&mut peer.early);
        let terms = Terms::of(&sdp);
        self.ask(id, Asked::Acceptance { session, terms }, Question::Accept { session, sdp });
        self.trickle_all(session, early);
    }

    fn trickled(&mut self, id: PeerId, trickle: Trickle) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if let Some(next) = &mut peer.next {
            self.counts.candidates_lost += keep(&mut next.candidates, trickle);
            return;
        }
        let described = match (&mut peer.asked, &peer.link) {
            (Some((_, Asked::Offer { session, terms, .. } | Asked::Acceptance { session, terms, .. })), _) => {
                terms.covers(&trickle).then_some(*session)
            }
            (Some((_, Asked::Renegotiation { session, offer })), _) => {
                // They are needed again where the session turns out to be gone.
                self.counts.candidates_lost += keep(&mut offer.candidates, trickle.clone());
                Some(*session)
            }
            (None, Link::Agreed(agreed)) => agreed.terms.covers(&trickle).then_some(agreed.session),
            (Some((_, Asked::Call { .. })), _) | (None, Link::Called { .. } | Link::None) => None,
        };
        match described {
            Some(session) => self.outputs.push_back(Output::Trickle(session, trickle)),
            None => self.counts.candidates_lost += keep(&mut peer.early, trickle),
        }
    }

    fn hung_up(&mut self, id: PeerId) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let kept = Peer { name: peer.name.clone(), ..Peer::default() };
        let peer = std::mem::replace(peer, kept);
        let asked = match peer.asked {
            Some((
                _,
                Asked::Offer { session, .. } | Asked::Call { session, .. } | Asked::Acceptance { session, .. },
            )) => Some(session),
            // The link has it.
            Some((_, Asked::Renegotiation { .. })) | None => None,
        };
        let linked = match peer.link {
            Link::None => [None, None],
            // An answer to it may be under way, and names it too.
            Link::Called { session, before } => {
                [Some(session).filter(|session| asked != Some(*session)), before.map(|agreed| agreed.session)]
            }
            Link::Agreed(agreed) => [Some(agreed.session), agreed.replaces],
        };
        let sessions = asked.into_iter().chain(linked.into_iter().flatten());
        self.outputs.extend(sessions.map(Output::Leave));
        self.outputs.push_back(Output::Withdraw { to: id });
    }

    /// Draws the conclusion of an outcome; returns the offer that must be put as a new one.
    fn conclude(&mut self, id: PeerId, asked: Asked, outcome: Outcome) -> Option<PeerOffer> {
        let peer = self.peers.get_mut(&id)?;
        let mut say = |kind, sdp: String| {
            self.outputs.push_back(Output::Say { to: id, word: Word::Description { kind, sdp } });
        };
        match (asked, outcome) {
            (Asked::Offer { session, replaces, terms }, Outcome::Described(sdp)) => {
                say(Kind::Answer, sdp);
                peer.link = Link::Agreed(Agreed { session, replaces, terms });
            }
            (Asked::Renegotiation { offer, .. }, Outcome::Described(sdp)) => {
                say(Kind::Answer, sdp);
                if let Link::Agreed(agreed) = &mut peer.link {
                    agreed.terms = Terms::of(&offer.sdp);
                }
            }
            // It ended meanwhile: what the peer wants is a connection.
            (Asked::Renegotiation { offer, .. }, Outcome::Refused(Refusal::UnknownSession)) => {
                peer.link = Link::None;
                return Some(offer);
            }
            (Asked::Call { session }, Outcome::Described(sdp)) => {
                peer.link = Link::Called { session, before: std::mem::take(&mut peer.link).agreed() };
                say(Kind::Offer, sdp);
            }
            (Asked::Acceptance { session, terms }, Outcome::Accepted) => {
                let replaces = std::mem::take(&mut peer.link).agreed().map(|agreed| agreed.session);
                peer.link = Link::Agreed(Agreed { session, replaces, terms });
            }
            (Asked::Acceptance { session, .. }, outcome) => {
                peer.fall_back();
                if outcome == Outcome::Unanswered {
                    self.outputs.push_back(Output::Leave(session));
                }
            }
            (Asked::Offer { session, .. } | Asked::Call { session, .. }, Outcome::Unanswered) => {
                self.outputs.push_back(Output::Leave(session));
            }
            // Whatever was agreed before goes on.
            (_, Outcome::Refused(_) | Outcome::Unanswered | Outcome::Accepted) => {}
        }
        None
    }

    fn ask(&mut self, id: PeerId, asked: Asked, question: Question) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        self.asks += 1;
        let ask = AskId(self.asks);
        peer.asked = Some((ask, asked));
        self.outputs.push_back(Output::Ask(ask, id, question));
    }

    fn trickle_all(&mut self, session: SessionId, candidates: Vec<Trickle>) {
        self.outputs.extend(candidates.into_iter().map(|trickle| Output::Trickle(session, trickle)));
    }
}

/// A name as far as it is kept.
fn readable(name: &[u8]) -> String {
    String::from_utf8_lossy(&name[..name.len().min(NAME_BYTES)]).into_owned()
}
