//! Packets on their way to the media socket: written and sealed in its batch, sent at each flush; and those of viewers over TCP, into the queues of their connections.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use super::engine::{Path, Protocol, Transmit};
use super::relay::table::{Departing, Relays, View, Way, Wrapped};
use super::stream::PacketSink;
use super::streams::{Stream, Streams};
use super::udp::{DropCause, MediaSocket, SendBatch};

/// A thread's own batch and its handle on the one socket.
pub struct SocketSink {
    socket: MediaSocket,
    batch: SendBatch,
    streams: Streams,
    /// Connections that were given something since the last flush, each once in a row.
    stirred: Vec<Arc<Stream>>,
    relays: View,
    viewer: u32,
    overflowed: HashSet<u32>,
    slow: HashSet<u32>,
    sent: u64,
    dropped: u64,
}

impl SocketSink {
    /// Makes an empty sink that sends through `socket` and `streams`.
    pub fn new(socket: MediaSocket, streams: Streams) -> Self {
        let batch = SendBatch::new(&socket);
        let (stirred, overflowed, slow) = (Vec::new(), HashSet::new(), HashSet::new());
        let relays = View::default();
        Self { socket, batch, streams, stirred, relays, viewer: 0, overflowed, slow, sent: 0, dropped: 0 }
    }

    /// Has it send by these relays too, along paths that begin at them.
    pub fn with_relays(mut self, relays: Arc<Relays>) -> Self {
        self.relays = View::new(relays);
        self
    }

    /// The relays and other servers, as this thread knows them.
    pub fn relays(&mut self) -> &mut View {
        &mut self.relays
    }

    /// Sends what is to be said to servers; returns when it wants to be called next.
    pub fn pump(&mut self, now: Instant) -> Option<Instant> {
        let relays = self.relays.relays()?.clone();
        relays.pump(now, |server, message| {
            // Nobody's in particular.
            self.viewer = 0;
            self.push_at(unspecified(server), server, message.len(), &mut |out| {
                out.copy_from_slice(message);
                true
            });
        })
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
        self.stirred.drain(..).for_each(|stream| stream.stir());
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

    /// The viewers of whom packets were lost to their own connection since the last call: it takes less than they are sent.
    pub fn take_slow(&mut self) -> HashSet<u32> {
        std::mem::take(&mut self.slow)
    }

    /// Whether so much waits for the connection of `path` that nothing but live units should be added.
    pub fn is_behind(&self, path: Path) -> bool {
        path.protocol == Protocol::Tcp && self.streams.of(path).is_some_and(|stream| stream.is_behind())
    }

    /// Ends the connection of `path`, if it is one, once all that waits for it is written.
    pub fn close(&self, path: Path) {
        self.streams.close(path);
    }

    /// The connections.
    pub fn streams(&self) -> &Streams {
        &self.streams
    }

    /// Packets sent, and given up.
    pub fn counters(&self) -> (u64, u64) {
        (self.sent, self.dropped)
    }

    fn push_stream(&mut self, path: Path, length: usize, write: &mut dyn FnMut(&mut [u8]) -> bool) {
        let Some(stream) = self.streams.of(path) else {
            // The connection has ended; the viewer opens another, or its session ends.
            self.dropped += 1;
            return;
        };
        if stream.push(length, write).is_err() {
            self.dropped += 1;
            self.slow.insert(self.viewer);
            return;
        }
        self.sent += 1;
        if self.stirred.last().is_none_or(|last| !Arc::ptr_eq(last, &stream)) {
            self.stirred.push(stream);
        }
    }
}

impl PacketSink for SocketSink {
    fn push(&mut self, path: Path, length: usize, write: &mut dyn FnMut(&mut [u8]) -> bool) {
        if path.protocol == Protocol::Tcp {
            self.push_stream(path, length, write);
            return;
        }
        match self.relays.relay_at(path.local).cloned() {
            None => self.push_at(path.local, path.remote, length, write),
            Some(relays) => self.push_by(&relays, path, length, write),
        }
    }
}

impl SocketSink {
    fn push_at(&mut self, from: SocketAddr, to: SocketAddr, length: usize, write: &mut dyn FnMut(&mut [u8]) -> bool) {
        for _ in 0..2 {
            let mut fill = |out: &mut [u8]| if write(&mut out[..length]) { length } else { 0 };
            if self.batch.push(self.viewer, from, to, length, &mut fill).is_ok() {
                return;
            }
            self.flush();
        }
    }

    /// Sends a packet by a relay: in the same runs as others, where it goes by datagrams.
    fn push_by(&mut self, relays: &Relays, path: Path, length: usize, write: &mut dyn FnMut(&mut [u8]) -> bool) {
        let now = Instant::now();
        let Some(Wrapped { way, envelope, is_channel }) = relays.wrap(now, path, length) else {
            self.dropped += 1;
            return;
        };
        let head = envelope.head();
        let total = head.len() + length + envelope.padding;
        let mut is_media = false;
        let mut fill = |out: &mut [u8]| {
            let (before, rest) = out.split_at_mut(head.len());
            let (payload, padding) = rest.split_at_mut(length);
            before.copy_from_slice(head);
            padding.fill(0);
            let written = write(payload);
            // RFC 7983: what begins so is STUN; a session's other packets are worth a channel.
            is_media = written && payload.first().is_some_and(|first| *first > 3);
            written
        };
        match way {
            Way::Datagrams(server) => self.push_at(unspecified(server), server, total, &mut fill),
            Way::Stream(queue) => {
                let mut data = vec![0; total];
                if fill(&mut data) && queue.try_send(Departing { viewer: self.viewer, at: now, data }).is_err() {
                    self.dropped += 1;
                    relays.note_late(self.viewer);
                }
            }
        }
        if is_media && !is_channel {
            relays.want_channel(now, path);
        }
    }
}

/// The address from which the kernel chooses where it sends to `server`.
fn unspecified(server: SocketAddr) -> SocketAddr {
    let ip: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    SocketAddr::new(ip, 0)
}
