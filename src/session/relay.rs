//! STUN and TURN servers: the daemon's addresses as they see them, and addresses at them (RFC 8489, RFC 8656).
//!
//! There is one allocation at each TURN server for the whole daemon, as there is one UDP port: a relayed address is a further local address, which is known before any
//! viewer comes. The cores are `probe`, `allocation` and `peers`; [`table`] is what the media thread, the join thread and the servers' tasks share of them, [`server`] such a task.

use std::net::SocketAddr;

pub mod allocation;
pub mod asks;
pub mod credentials;
mod peers;
mod probe;
mod request;
pub mod server;
mod stream;
pub mod table;
pub mod told;
pub mod wire;

use wire::Transaction;

/// Draws names of requests, which nobody may guess.
pub type Draw = fn() -> Transaction;

/// What is new with a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It sees this address of the daemon's.
    Seen(SocketAddr),
    /// It relays for this address.
    Relayed(SocketAddr),
    /// Nothing goes by it any more: another attempt is to be made.
    Lost(Lost),
}

/// Why a server is of no use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// It does not answer.
    #[error("it does not answer: is it running, and open to this machine?")]
    NoAnswer,
    /// It knows no such user, or another password.
    #[error("it accepts neither this user nor this password: see what its configuration says of them")]
    Credentials,
    /// It refused what must be granted.
    #[error("it refuses to relay ({code} {reason})")]
    Refused {
        /// The code.
        code: u16,
        /// Its words.
        reason: String,
    },
    /// It was started anew, or has given the place to another.
    #[error("it has forgotten the allocation")]
    Gone,
    /// A network address translator took another address, or this machine did.
    #[error("this machine reaches it from another address now")]
    Moved,
}
