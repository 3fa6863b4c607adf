//! What is known of one peer, and agreed with it.

use std::time::Instant;

use super::{AskId, EARLY_CANDIDATES};
use crate::id::SessionId;
use crate::signaling::Trickle;
use crate::signaling::words;

#[derive(Debug, Default)]
pub(super) struct Peer {
    pub(super) name: String,
    pub(super) call_at: Option<Instant>,
    /// When it was called last.
    pub(super) called_at: Option<Instant>,
    /// Whether it had a picture when the server was lost, and it is not known any more by which session.
    pub(super) is_served: bool,
    pub(super) link: Link,
    pub(super) asked: Option<(AskId, Asked)>,
    /// The offer that came while a question was open.
    pub(super) next: Option<PeerOffer>,
    /// Candidates whose description has not come.
    pub(super) early: Vec<Trickle>,
}

/// What is agreed with a peer.
#[derive(Debug, Default)]
pub(super) enum Link {
    /// Nothing.
    #[default]
    None,
    /// The daemon's offer is with the peer.
    Called {
        /// The session that was made for it.
        session: SessionId,
        /// What is agreed until this one connects.
        before: Option<Agreed>,
    },
    /// Both have described themselves.
    Agreed(Agreed),
}

#[derive(Debug, Clone)]
pub(super) struct Agreed {
    pub(super) session: SessionId,
    /// The session before it, which lives until this one connects.
    pub(super) replaces: Option<SessionId>,
    pub(super) terms: Terms,
}

/// What of a peer's description tells its connections and their ICE generations apart.
#[derive(Debug, Clone)]
pub(super) struct Terms {
    pub(super) origin: Option<String>,
    pub(super) ufrag: Option<String>,
}

/// The question that is open for a peer.
#[derive(Debug)]
pub(super) enum Asked {
    Offer { session: SessionId, replaces: Option<SessionId>, terms: Terms },
    Renegotiation { session: SessionId, offer: PeerOffer },
    Call { session: SessionId },
    Acceptance { session: SessionId, terms: Terms },
}

/// A peer's offer, with the candidates that came after it.
#[derive(Debug)]
pub(super) struct PeerOffer {
    pub(super) sdp: String,
    pub(super) candidates: Vec<Trickle>,
}

impl Link {
    /// What is agreed, once the daemon's offer is out of the way.
    pub(super) fn agreed(self) -> Option<Agreed> {
        match self {
            Self::None => None,
            Self::Called { before, .. } => before,
            Self::Agreed(agreed) => Some(agreed),
        }
    }
}

impl Peer {
    /// Forgets the daemon's offer; what was agreed before it goes on.
    pub(super) fn fall_back(&mut self) {
        self.link = std::mem::take(&mut self.link).agreed().map_or(Link::None, Link::Agreed);
    }

    /// The session that was made for it last.
    pub(super) fn session(&self) -> Option<SessionId> {
        match (&self.asked, &self.link) {
            (Some((_, Asked::Offer { session, .. } | Asked::Call { session, .. })), _)
            | (_, Link::Called { session, .. })
            | (_, Link::Agreed(Agreed { session, .. })) => Some(*session),
            (_, Link::None) => None,
        }
    }

    /// What is agreed with it, or about to be, that goes on without the server.
    pub(super) fn outlasting(&self) -> Option<Agreed> {
        match (&self.asked, &self.link) {
            // It may connect yet: the peer's answer is being taken.
            (Some((_, Asked::Acceptance { session, terms })), Link::Called { before, .. }) => {
                let replaces = before.as_ref().map(|agreed| agreed.session);
                Some(Agreed { session: *session, replaces, terms: terms.clone() })
            }
            (_, Link::Agreed(agreed) | Link::Called { before: Some(agreed), .. }) => Some(agreed.clone()),
            (_, Link::Called { before: None, .. } | Link::None) => None,
        }
    }

    /// The `ice-ufrag`s of its descriptions that count.
    pub(super) fn described(&self) -> impl Iterator<Item = &str> {
        let asked = match &self.asked {
            Some((_, Asked::Offer { terms, .. } | Asked::Acceptance { terms, .. })) => terms.ufrag.as_deref(),
            Some((_, Asked::Renegotiation { offer, .. })) => words::ufrag(&offer.sdp),
            Some((_, Asked::Call { .. })) | None => None,
        };
        let linked = match &self.link {
            Link::Agreed(agreed) => agreed.terms.ufrag.as_deref(),
            Link::None | Link::Called { .. } => None,
        };
        let next = self.next.as_ref().and_then(|offer| words::ufrag(&offer.sdp));
        asked.into_iter().chain(linked).chain(next)
    }
}

impl Terms {
    pub(super) fn of(sdp: &str) -> Self {
        Self { origin: words::origin(sdp).map(str::to_owned), ufrag: words::ufrag(sdp).map(str::to_owned) }
    }

    pub(super) fn is_same_connection(&self, other: &Self) -> bool {
        self.origin.is_some() && self.origin == other.origin
    }

    /// Whether a candidate is for this description, rather than for one to come.
    pub(super) fn covers(&self, trickle: &Trickle) -> bool {
        trickle.ufrag.is_none() || self.ufrag.is_none() || trickle.ufrag == self.ufrag
    }
}

/// Keeps a candidate where there is a place; returns how many are lost.
pub(super) fn keep(candidates: &mut Vec<Trickle>, trickle: Trickle) -> u64 {
    if candidates.len() >= EARLY_CANDIDATES {
        return 1;
    }
    candidates.push(trickle);
    0
}
