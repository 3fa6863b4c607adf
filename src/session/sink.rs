//! Packets on their way to the media socket: written and sealed in its batch, sent at each flush.

use std::collections::HashSet;
use std::time::Instant;

use super::engine::{Path, Transmit};
use super::stream::PacketSink;
use super::udp::{DropCause, MediaSocket, SendBatch};

/// A thread's own batch and its handle on the one socket.
pub struct SocketSink {
    socket: MediaSocket,
    batch: SendBatch,
    viewer: u32,
    overflowed: HashSet<u32>,
    sent: u64,
    dropped: u64,
}

impl SocketSink {
    /// Makes an empty sink that sends through `socket`.
    pub fn new(socket: MediaSocket) -> Self {
        let batch = SendBatch::new(&socket);
        Self { socket, batch, viewer: 0, overflowed: HashSet::new(), sent: 0, dropped: 0 }
    }

    /// What follows is this viewer's.
    pub fn begin(&mut self, viewer: u32) {
        self.viewer = viewer;
    }

    /// The port of the socket.
    pub fn local_port(&self) -> u16 {
        self.socket.local_port()
    }

    /// Adds a datagram of an engine's own.
    pub fn transmit(&mut self, transmit: &Transmit) {
        self.push(transmit.path, transmit.data.len(), &mut |out| {
            out.copy_from_slice(&transmit.data);
            true
        });
    }

    /// Sends what waits, as far as the kernel takes it; see [`Self::poll_timeout`] for the rest.
    pub fn flush(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let report = self.batch.flush(&self.socket, Instant::now());
        self.sent += report.sent as u64;
        self.dropped += report.dropped as u64;
        let full = self.batch.dropped().iter().filter(|dropped| dropped.cause == DropCause::Full);
        self.overflowed.extend(full.map(|dropped| dropped.tag));
    }

    /// Until when the socket is waited for: flush once it is writable, or then. `None` where the kernel took everything.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.batch.poll_timeout()
    }

    /// The viewers of whom packets were lost to a full socket since the last call.
    pub fn take_overflowed(&mut self) -> HashSet<u32> {
        std::mem::take(&mut self.overflowed)
    }

    /// Datagrams sent, and given up.
    pub fn counters(&self) -> (u64, u64) {
        (self.sent, self.dropped)
    }
}

impl PacketSink for SocketSink {
    fn push(&mut self, path: Path, length: usize, write: &mut dyn FnMut(&mut [u8]) -> bool) {
        for _ in 0..2 {
            let mut fill = |out: &mut [u8]| if write(&mut out[..length]) { length } else { 0 };
            if self.batch.push(self.viewer, path.local, path.remote, length, &mut fill).is_ok() {
                return;
            }
            self.flush();
        }
    }
}
