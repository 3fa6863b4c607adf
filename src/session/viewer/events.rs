//! What a session tells its owner, and why it ended.

use std::time::Duration;

use crate::session::engine::{EngineEnd, Remote};
use crate::session::history::HistoryCounters;

/// What a session tells its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ViewerEvent {
    /// What comes from there is this session's.
    Address(Remote),
    /// Media may flow.
    Connected,
    /// A keyframe is wanted, by the viewer or for it.
    KeyframeWanted,
    /// It is over.
    Ended(EndReason),
}

/// Why a session ended; the words are those of the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndReason {
    /// By WHEP DELETE.
    #[error("left")]
    Left,
    /// By the engine.
    #[error("{0}")]
    Engine(#[from] EngineEnd),
    /// Nothing was heard any more.
    #[error("nothing heard for {} s", .0.as_secs())]
    Silent(Duration),
    /// It never came to a connection.
    #[error("not connected within {} s: no answer to connectivity checks, or the handshake never finished", .0.as_secs())]
    NeverConnected(Duration),
    /// The same viewer made another connection, which is there now.
    #[error("replaced by another connection of the same viewer")]
    Replaced,
    /// The viewer's answer to the daemon's offer could not be used.
    #[error("the answer could not be used: {0}")]
    BadAnswer(String),
    /// Its place went to another, since it did not connect.
    #[error("not connected yet when all places were taken: another viewer got the place")]
    GaveWay,
    /// By an operator's word.
    #[error("ended by the operator")]
    Kicked,
    /// The daemon ends.
    #[error("the broadcaster is shutting down")]
    Shutdown,
    /// A fault of ours in this session; its message is in the log.
    #[error("an internal fault, which is a bug: please report the message above")]
    Fault,
}

/// What happened to a session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ViewerCounters {
    /// What it asked for again.
    pub repeats: HistoryCounters,
    /// Keyframes that it asked for and did not get.
    pub keyframes_refused: u64,
    /// Times that its picture began anew without what the fanout holds, since that was had too often.
    pub catchups_refused: u64,
    /// Datagrams that were no sign of life: forged, garbled, or not along its path.
    pub unheard: u64,
}
