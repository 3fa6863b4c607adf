//! MDN's video-offer/video-answer chat server: the daemon as one of its users.
use std::time::Instant;

use crate::id::SessionId;
use crate::signaling::client::frames::{Breach, FrameProtocol, Output};
use crate::signaling::peers::{CallPolicy, Peers};

/// The daemon at such a server.
pub struct Mdn {
    peers: Peers,
}

impl Mdn {
    /// Calls by `call`; `sessions` draws fresh ids.
    pub fn new(_name: &str, call: CallPolicy, sessions: impl FnMut() -> SessionId + Send + 'static) -> Self {
        Self { peers: Peers::new(call, sessions) }
    }
}

impl FrameProtocol for Mdn {
    fn handle_open(&mut self, _now: Instant) {}

    fn handle_frame(&mut self, _now: Instant, _frame: &str) -> Result<(), Breach> {
        Ok(())
    }

    fn handle_closed(&mut self, _now: Instant) {}

    fn sign_out(&mut self) {}

    fn handle_timeout(&mut self, now: Instant) -> Result<(), Breach> {
        self.peers.handle_timeout(now);
        Ok(())
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.peers.poll_timeout()
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.peers.poll_output().map(Output::Broadcast)
    }

    fn peers(&self) -> &Peers {
        &self.peers
    }

    fn peers_mut(&mut self) -> &mut Peers {
        &mut self.peers
    }
}
