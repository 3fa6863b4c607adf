//! What the join thread and the media thread tell each other.

use std::time::Instant;

use tokio::sync::oneshot;

use super::broadcast::BroadcastState;
use super::engine::rtc::RtcEngine;
use super::engine::{Path, Remote};
use super::sdp::Sync;
use super::viewer::{Change, EndReason, Viewer};
use crate::encoder::{Bitrate, Codec};
use crate::id::SessionId;
use crate::signaling::access::PassId;
use crate::signaling::{Caller, SignalIn};

/// What the media thread is told.
pub enum MediaIn {
    /// The encoder of this codec starts anew: what was kept is of no use.
    Restarted(Codec),
    /// STUN for this `ice-ufrag` belongs to a session: one whose handshake runs, or one that restarts ICE.
    Expect {
        /// The session.
        session: SessionId,
        /// Its own `ice-ufrag`.
        ufrag: String,
    },
    /// What comes from there belongs to a session.
    Address {
        /// The session.
        session: SessionId,
        /// Where the viewer is.
        remote: Remote,
    },
    /// A session is connected: from now on it is the media thread's.
    Adopt(Box<Viewer<RtcEngine>>),
    /// Something else is agreed with a live session.
    Change {
        /// The session.
        session: SessionId,
        /// What is agreed.
        change: Box<Change>,
    },
    /// Candidates for a live session.
    Candidates {
        /// The session.
        session: SessionId,
        /// Their values.
        candidates: Vec<String>,
    },
    /// A live session ends.
    End {
        /// The session.
        session: SessionId,
        /// Why.
        reason: EndReason,
    },
    /// A session that never became live is gone.
    Forget(SessionId),
    /// The operator asks how all sessions are; what is known here is added.
    Look {
        /// What the join thread knows.
        state: BroadcastState,
        /// Takes all of it.
        reply: oneshot::Sender<BroadcastState>,
    },
    /// The rate of the video at most, from now on.
    Rate(Bitrate),
    /// All sessions end, and the thread with them.
    Shutdown,
}

/// How sessions are made; it may change while the daemon runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// The broadcast's name.
    pub name: String,
    /// Most sessions; those beyond it that are there stay.
    pub max_viewers: usize,
    /// Whether sound can be sent.
    pub audio: bool,
    /// Whether pictures and sound are one MediaStream.
    pub sync: Sync,
    /// The rate of the video at most.
    pub bitrate: Bitrate,
}

/// What the join thread is told.
pub enum JoinIn {
    /// By a protocol.
    Signal(SignalIn),
    /// A datagram of a session whose handshake runs.
    Datagram {
        /// The session.
        session: SessionId,
        /// Where it came to, and from.
        path: Path,
        /// Its bytes.
        data: Vec<u8>,
    },
    /// A live session is over.
    Ended {
        /// The session.
        session: SessionId,
        /// When.
        at: Instant,
        /// Why.
        reason: EndReason,
    },
    /// The operator asks how all sessions are.
    Look(oneshot::Sender<BroadcastState>),
    /// The operator ends a viewer.
    Kick {
        /// The viewer's number.
        number: u32,
        /// Takes who it was; `None` where there is no such viewer.
        reply: oneshot::Sender<Option<Caller>>,
    },
    /// A code is revoked: whom it let in is ended.
    Revoke(PassId),
    /// Sessions are made so from now on.
    Terms(Terms),
    /// The daemon ends: no more offers, all sessions end, the thread too.
    Shutdown,
}
