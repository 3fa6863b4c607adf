//! The deterministic engine of the tests: connected from the start, and "sealing" is a copy, but a packet index may be sealed only once, as with a cipher.

use std::collections::{HashSet, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::{
    Base, Engine, EngineEvent, Feedback, LocalTransport, Path, RemoteTransport, Transmit, TransportError, feedback,
};

/// An engine without a network or a cipher.
#[derive(Default)]
pub struct PlainEngine {
    events: VecDeque<EngineEvent>,
    sealed: HashSet<(u32, u64)>,
    /// Reports that were protected.
    pub reports: Vec<Vec<u8>>,
    /// How often it was restarted.
    pub restarts: u32,
    /// Whether [`Engine::close`] was called.
    pub closed: bool,
}

impl PlainEngine {
    /// An engine whose handshake has just been done.
    pub fn connected() -> Self {
        Self { events: [EngineEvent::Connected].into(), ..Default::default() }
    }

    /// Makes it one whose handshake never comes about.
    pub fn forget_connected(&mut self) {
        self.events.clear();
    }

    /// Has the viewer report something.
    pub fn feed(&mut self, feedback: Feedback) {
        self.events.push_back(EngineEvent::Feedback(feedback));
    }
}

impl Engine for PlainEngine {
    fn start(&mut self, _: Instant, _: &RemoteTransport) -> Result<(), TransportError> {
        self.events.push_back(EngineEvent::Connected);
        Ok(())
    }
    fn restart(
        &mut self,
        _: Instant,
        _: &RemoteTransport,
        _: LocalTransport,
        _: &[Base],
    ) -> Result<(), TransportError> {
        self.restarts += 1;
        Ok(())
    }
    fn handle_datagram(&mut self, _: Instant, _: Path, data: &[u8]) -> bool {
        feedback::parse(data).into_iter().for_each(|said| self.feed(said));
        true
    }
    fn handle_timeout(&mut self, _: Instant) {}
    fn poll_timeout(&mut self) -> Option<Instant> {
        None
    }
    fn add_remote_candidate(&mut self, _: &str) {}
    fn poll_transmit(&mut self) -> Option<Transmit> {
        None
    }
    fn poll_event(&mut self) -> Option<EngineEvent> {
        self.events.pop_front()
    }
    fn path(&self) -> Option<Path> {
        let address = SocketAddr::from(([127, 0, 0, 1], 9));
        Some(Path::udp(address, address))
    }
    fn round_trip(&self, _: Instant) -> Option<Duration> {
        None
    }
    fn tag_length(&self) -> usize {
        0
    }
    fn seal(&mut self, packet: &mut [u8], _: usize, index: u64) -> bool {
        let ssrc = u32::from_be_bytes([packet[8], packet[9], packet[10], packet[11]]);
        assert!(self.sealed.insert((ssrc, index)), "index {index} of SSRC {ssrc} was sealed twice");
        true
    }
    fn protect_rtcp(&mut self, packet: &[u8]) -> Option<Vec<u8>> {
        self.reports.push(packet.to_vec());
        Some(packet.to_vec())
    }
    fn close(&mut self, _: Instant) {
        self.closed = true;
    }
}
