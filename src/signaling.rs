//! Signaling: how viewers ask for the stream.
//!
//! Protocols turn what they hear into [`SignalIn`] and what the broadcast says back into their own words; none of them knows another.

use std::fmt;
use std::sync::Arc;

use tokio::sync::{oneshot, watch};

use crate::config::is_shown;
use crate::id::SessionId;
use crate::signaling::access::PassId;

pub mod access;
pub mod ask;
pub mod channel;
pub mod client;
pub mod mdn;
pub mod peerconnection;
pub mod peers;
pub mod room;
pub mod server;
pub mod socketio;
pub mod whep;
pub mod whip;
pub mod words;

/// What a protocol asks of the broadcast.
#[derive(Debug)]
pub enum SignalIn {
    /// A viewer offers to receive: the SDP is unparsed and may be anything.
    Offer {
        /// The session to be made; chosen by the protocol, fresh.
        session: SessionId,
        /// The offer (RFC 8866), as received.
        sdp: String,
        /// Who offers.
        caller: Caller,
        /// The session of the same viewer that ends once this one connects.
        replaces: Option<SessionId>,
        /// Takes the answer or the refusal.
        reply: oneshot::Sender<Result<Answer, Refusal>>,
    },
    /// A viewer changes its connection by another offer of it (RFC 8829, section 4.1.8); new ICE credentials are a restart.
    Renegotiate {
        /// The session that changes.
        session: SessionId,
        /// The new offer.
        sdp: String,
        /// Takes the answer or the refusal; the session goes on as it was where it is refused.
        reply: oneshot::Sender<Result<Answer, Refusal>>,
    },
    /// The daemon is to offer to a viewer that does not offer itself.
    Call {
        /// The session to be made; chosen by the protocol, fresh.
        session: SessionId,
        /// Who is called.
        caller: Caller,
        /// The session of the same viewer that ends once this one connects.
        replaces: Option<SessionId>,
        /// Takes the daemon's offer or the refusal.
        reply: oneshot::Sender<Result<Answer, Refusal>>,
    },
    /// The daemon is to offer to a server that takes the stream for many viewers (an SFU).
    Publish {
        /// The session to be made; chosen by the protocol, fresh.
        session: SessionId,
        /// Which server.
        caller: Caller,
        /// Is told how the session goes.
        life: watch::Sender<Life>,
        /// Takes the daemon's offer (RFC 9725, section 4.4) or the refusal.
        reply: oneshot::Sender<Result<Answer, Refusal>>,
    },
    /// The viewer's answer to the daemon's offer.
    Accept {
        /// The session that was called for.
        session: SessionId,
        /// The answer.
        sdp: String,
        /// Takes whether it could be used; where not, the session is over.
        reply: oneshot::Sender<Result<(), Refusal>>,
    },
    /// A viewer restarts ICE without an offer (RFC 9725, section 4.3.3).
    Restart {
        /// The session that goes on.
        session: SessionId,
        /// The viewer's new credentials and candidates.
        trickle: Trickle,
        /// Takes the daemon's new ones, with its candidates.
        reply: oneshot::Sender<Result<Trickle, Refusal>>,
    },
    /// A trickled candidate or its end (RFC 8838); for an unknown session it is refused.
    Trickle {
        /// The session it belongs to.
        session: SessionId,
        /// What was trickled.
        trickle: Trickle,
        /// Takes whether the session was known.
        reply: oneshot::Sender<Result<(), Refusal>>,
    },
    /// The viewer leaves by its own word.
    Leave {
        /// The session that ends.
        session: SessionId,
        /// Takes whether the session was known.
        reply: oneshot::Sender<Result<(), Refusal>>,
    },
}

impl SignalIn {
    /// The session that it is about.
    pub fn session(&self) -> SessionId {
        match self {
            Self::Offer { session, .. }
            | Self::Renegotiate { session, .. }
            | Self::Call { session, .. }
            | Self::Publish { session, .. }
            | Self::Accept { session, .. }
            | Self::Restart { session, .. }
            | Self::Trickle { session, .. }
            | Self::Leave { session, .. } => *session,
        }
    }
}

/// How a session goes, for the protocol that made it; the newest word counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Life {
    /// It is being made.
    Joining,
    /// It is connected.
    Live,
    /// It is over, for this reason.
    Ended(String),
    /// It is over since an operator ended it: no other is to follow by itself.
    Dismissed,
}

/// Who a viewer is, for the operator's eyes; but for its code nothing is decided by it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Caller {
    /// Where it asks: `whep`, `room`, or the URL of a server without its options.
    pub at: Arc<str>,
    /// Its name or address there; printable, and empty where it has none.
    pub name: String,
    /// The code that let it in, where one was needed.
    pub pass: Option<PassId>,
}

impl Caller {
    /// The viewer called `name` at `at`: what can't be printed is left out, and what is too long is cut.
    pub fn new(at: &Arc<str>, name: &str) -> Self {
        Self { at: Arc::clone(at), name: name.chars().filter(|c| is_shown(*c)).take(64).collect(), pass: None }
    }

    /// The same, let in by this code.
    pub fn by(self, pass: Option<PassId>) -> Self {
        Self { pass, ..self }
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.is_empty() { f.write_str(&self.at) } else { write!(f, "{} at {}", self.name, self.at) }
    }
}

/// A fragment of trickled ICE (RFC 8840).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trickle {
    /// The `ice-ufrag` that the fragment names, where it names one.
    pub ufrag: Option<String>,
    /// The `ice-pwd` that the fragment names, where it names one.
    pub password: Option<String>,
    /// The daemon's own `ice-ufrag` that it is for, where the protocol says so.
    pub generation: Option<String>,
    /// The `a=mid` that the fragment names, where it names one.
    pub mid: Option<String>,
    /// The candidate lines' values, from `candidate:` on.
    pub candidates: Vec<String>,
    /// Whether `end-of-candidates` was there.
    pub end: bool,
}

/// What the daemon says of a session: its answer, or its own offer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The SDP, with the daemon's candidates in it.
    pub sdp: String,
}

/// Why the broadcast refuses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The offer can't be understood (WHEP: 400).
    #[error("{0}")]
    BadOffer(String),
    /// The offer has no codec that the daemon sends (WHEP: 406).
    #[error("{0}")]
    NoCommonCodec(String),
    /// All places are taken (WHEP: 503).
    #[error("all {limit} places are taken; try again when a viewer has left, or raise --max-viewers")]
    Full {
        /// The value of `--max-viewers`.
        limit: usize,
    },
    /// No such session, or no longer (WHEP: 404).
    #[error("no such session: it has ended, or never was")]
    UnknownSession,
    /// The session exists but can't take this, such as other ICE credentials (WHEP: 409).
    #[error("{0}")]
    Conflict(String),
    /// What was asked is for another ICE generation than the session's (WHEP: 412).
    #[error("the session's ICE was restarted since, or never had this tag; its tag is \"{current}\"")]
    OtherGeneration {
        /// The daemon's `ice-ufrag`.
        current: String,
    },
    /// An operator ended the session (WHEP: 410).
    #[error("the operator has ended this session")]
    Kicked,
    /// The daemon is shutting down (WHEP: 503).
    #[error("the broadcaster is shutting down")]
    Closing,
}
