//! Packets on their way to the media socket: written and sealed in its batch, sent at each flush.

use super::engine::{Path, Transmit};
use super::stream::PacketSink;
use super::udp::{DropCause, MediaSocket, SendBatch};

/// A thread's own batch and its handle on the one socket.
pub struct SocketSink {
    socket: MediaSocket,
    batch: SendBatch,
    viewer: u32,
    overflowed: Vec<u32>,
    sent: u64,
    dropped: u64,
}

impl SocketSink {
    /// Makes an empty sink that sends through `socket`.
    pub fn new(socket: MediaSocket) -> Self {
        let batch = SendBatch::new(&socket);
        Self { socket, batch, viewer: 0, overflowed: Vec::new(), sent: 0, dropped: 0 }
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

    /// Sends all that waits.
    pub fn flush(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let report = self.batch.flush(&self.socket);
        self.sent += report.sent as u64;
        self.dropped += report.dropped as u64;
        let full = self.batch.dropped().iter().filter(|dropped| dropped.cause == DropCause::Full);
        self.overflowed.extend(full.map(|dropped| dropped.tag));
    }

    /// The viewers of whom packets were lost to a full socket since the last call.
    pub fn take_overflowed(&mut self) -> Vec<u32> {
        let mut viewers = std::mem::take(&mut self.overflowed);
        viewers.sort_unstable();
        viewers.dedup();
        viewers
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
