//! Protocols that are text frames over a WebSocket: what their cores do, and the shell that all of them share.

use std::time::Instant;

use tokio::sync::{mpsc, watch};
use url::Url;

use super::{ClientConfig, Operation};
use crate::signaling::peers::{self, Peers};

/// What a protocol's core wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// The server gets a text frame.
    Frame(String),
    /// The daemon is signed in, under this name.
    SignedIn(String),
    /// Something for the broadcast: a question, a candidate, a goodbye. Words for peers have become frames.
    Broadcast(peers::Output),
}

/// Why a server's frames can't be gone on with: the connection is closed and made anew.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Breach(pub String);

/// The daemon's side of a protocol at one server: a pure core, the same over all connections to that server.
pub trait FrameProtocol: Send {
    /// The subprotocol that is asked for (RFC 6455, section 1.9).
    fn subprotocol(&self) -> Option<&'static str> {
        None
    }

    /// Where its WebSocket is at the server of this URL; asked before each connection.
    fn address(&self, url: &Url) -> Url {
        url.clone()
    }

    /// The server answers the request for a WebSocket with this status (HTTP) instead.
    fn handle_refused(&mut self, _status: u16) {}

    /// A connection stands.
    fn handle_open(&mut self, now: Instant);

    /// Takes a text frame.
    ///
    /// # Errors
    /// Where the server breaks its protocol so that nothing can be made of what follows.
    fn handle_frame(&mut self, now: Instant, frame: &str) -> Result<(), Breach>;

    /// The connection is gone: who was there is not known any more, what is connected goes on.
    fn handle_closed(&mut self, now: Instant);

    /// Says goodbye to the server, where the protocol has a word for it; the connection is closed after what it puts out.
    fn sign_out(&mut self);

    /// Does what is due.
    ///
    /// # Errors
    /// Where the server has been silent for too long.
    fn handle_timeout(&mut self, now: Instant) -> Result<(), Breach>;

    /// When [`FrameProtocol::handle_timeout`] is due.
    fn poll_timeout(&self) -> Option<Instant>;

    /// What is to be done next.
    fn poll_output(&mut self) -> Option<Output>;

    /// The talks with those who are there.
    fn peers(&self) -> &Peers;

    /// The same, to be told outcomes and calls; [`FrameProtocol::poll_output`] has what follows.
    fn peers_mut(&mut self) -> &mut Peers;
}

/// Runs a protocol over a WebSocket until `stop` says so.
pub(super) async fn run(
    config: ClientConfig,
    protocol: impl FrameProtocol,
    operations: mpsc::Receiver<Operation>,
    stop: watch::Receiver<bool>,
) {
    let _ = (config, protocol, operations, stop);
}
