//! What the core of peers asks, is told and puts out.

use crate::id::{PeerId, SessionId};
use crate::signaling::words::Word;
use crate::signaling::{Refusal, Trickle};

/// Names a question to the broadcast.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AskId(pub(super) u64);

/// What the broadcast is asked; each is one of [`crate::signaling::SignalIn`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// To answer a peer's offer.
    Offer {
        /// The session to be made.
        session: SessionId,
        /// The offer.
        sdp: String,
        /// The session that ends once this one connects.
        replaces: Option<SessionId>,
    },
    /// To answer another offer of the same connection.
    Renegotiate {
        /// The session that changes.
        session: SessionId,
        /// The offer.
        sdp: String,
    },
    /// To make an offer.
    Call {
        /// The session to be made.
        session: SessionId,
        /// The session that ends once this one connects.
        replaces: Option<SessionId>,
    },
    /// To take a peer's answer to the daemon's offer.
    Accept {
        /// The session that was called for.
        session: SessionId,
        /// The answer.
        sdp: String,
    },
}

/// What came of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The daemon's answer or offer.
    Described(String),
    /// The peer's answer is taken.
    Accepted,
    /// The broadcast refuses.
    Refused(Refusal),
    /// The broadcast did not say anything in time.
    Unanswered,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// The broadcast is asked on behalf of a peer; what it says comes back by [`super::Peers::handle_outcome`].
    Ask(AskId, PeerId, Question),
    /// The broadcast is given a candidate; its word on it doesn't matter.
    Trickle(SessionId, Trickle),
    /// The broadcast is told that a viewer left; its word on it doesn't matter.
    Leave(SessionId),
    /// The peer is told something.
    Say {
        /// Who.
        to: PeerId,
        /// What.
        word: Word,
    },
    /// What was sent to the peer and it has not fetched is taken back, where that can be.
    Withdraw {
        /// From whom.
        to: PeerId,
    },
}

/// Why something that was heard could not be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Useless {
    /// It is no JSON.
    #[error("expected JSON, found something else")]
    NotJson,
    /// It is JSON of another kind.
    #[error("expected a description or a candidate, found JSON of another kind")]
    Unknown,
    /// It fits nothing that was said before, or comes from nobody that is known.
    #[error("it fits nothing that was said before")]
    Unexpected,
}

/// What was heard and could not be used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// No JSON.
    pub not_json: u64,
    /// JSON of unknown kinds.
    pub unknown: u64,
    /// Words that fit nothing, such as answers to no offer.
    pub unexpected: u64,
    /// Candidates past those that are kept for a description to come.
    pub candidates_lost: u64,
}

impl Counts {
    /// All of it.
    pub fn total(&self) -> u64 {
        self.not_json + self.unknown + self.unexpected + self.candidates_lost
    }
}

/// A peer as the operator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerState {
    /// Its id here.
    pub id: PeerId,
    /// Its name.
    pub name: String,
    /// The session that was made for it last, where there is one.
    pub session: Option<SessionId>,
}

/// Why a peer is not called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// It is not here.
    #[error("no such peer is signed in")]
    Unknown,
    /// The daemon's offer is under way to it, or its own is being answered.
    #[error("a call of this peer is under way")]
    Busy,
    /// The server has the stream, or is being offered it.
    #[error("the stream is published there, or about to be")]
    Published,
}
