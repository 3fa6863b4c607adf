//! The WebRTC engine of one session: ICE, DTLS and SRTP behind a small interface.
//!
//! [`Engine`] is all that sessions know of it; [`rtc::RtcEngine`] composes it from the webrtc project's sans-IO crates
//! (ARCHITECTURE.md, decision 1), `plain` is the deterministic one of the tests. An engine owns no socket and reads no clock.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

pub mod feedback;
mod handshake;
mod hello;
pub mod identity;
mod records;
pub mod rtc;
mod srtp;
pub mod stun;

#[cfg(test)]
pub mod plain;

pub use feedback::Feedback;

/// Where packets go: the daemon's own address and the viewer's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Path {
    /// The address that packets leave from.
    pub local: SocketAddr,
    /// The address that they go to.
    pub remote: SocketAddr,
}

/// A datagram of the engine's own (STUN, DTLS).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// Where it goes.
    pub path: Path,
    /// Its bytes.
    pub data: Vec<u8>,
}

/// What an engine tells its session.
#[derive(Debug)]
pub enum EngineEvent {
    /// A STUN request with valid integrity came from this address: datagrams from there are this session's.
    Address(SocketAddr),
    /// The handshake is done: media may flow.
    Connected,
    /// RTCP from the viewer, authentic.
    Feedback(Feedback),
    /// The connection is over.
    Ended(EngineEnd),
}

/// Why an engine gave up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineEnd {
    /// The viewer said `close_notify`.
    #[error("the viewer closed the connection")]
    ClosedByPeer,
    /// The handshake failed.
    #[error("the DTLS handshake failed: {0}")]
    Handshake(String),
}

/// What an engine must be told of the other side; from its SDP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteTransport {
    /// `a=ice-ufrag`.
    pub ufrag: String,
    /// `a=ice-pwd`.
    pub password: String,
    /// `a=fingerprint` of SHA-256: the certificate must have one of them.
    pub fingerprints: Vec<[u8; 32]>,
    /// Whether the daemon opens the handshake (`a=setup:active` in its answer).
    pub dtls_client: bool,
    /// The candidates' values, from `candidate:` on.
    pub candidates: Vec<String>,
}

/// One viewer's transport.
pub trait Engine {
    /// Takes a datagram that came to `path.local` from `path.remote`; returns whether it was authentic.
    fn handle_datagram(&mut self, now: Instant, path: Path, data: &[u8]) -> bool;

    /// Does what is due.
    fn handle_timeout(&mut self, now: Instant);

    /// When [`Engine::handle_timeout`] wants to be called next.
    fn poll_timeout(&mut self) -> Option<Instant>;

    /// Takes a candidate of the other side; one that can't be understood or resolved is passed over.
    fn add_remote_candidate(&mut self, candidate: &str);

    /// The next datagram to send.
    fn poll_transmit(&mut self) -> Option<Transmit>;

    /// The next event.
    fn poll_event(&mut self) -> Option<EngineEvent>;

    /// Where media goes, once it may.
    fn path(&self) -> Option<Path>;

    /// The round trip time that connectivity checks measured.
    fn round_trip(&self, now: Instant) -> Option<Duration>;

    /// Bytes that [`Engine::seal`] adds at the end.
    fn tag_length(&self) -> usize;

    /// Protects an RTP packet in place (RFC 3711): `packet` is header, payload and [`Engine::tag_length`] spare bytes;
    /// `index` is its 48-bit packet index. An index must never be sealed twice for one SSRC.
    ///
    /// Returns false where nothing could be sealed: the packet must not be sent.
    fn seal(&mut self, packet: &mut [u8], header_length: usize, index: u64) -> bool;

    /// Protects a compound RTCP packet; `None` before the handshake is done.
    fn protect_rtcp(&mut self, packet: &[u8]) -> Option<Vec<u8>>;

    /// Says goodbye (`close_notify`); [`Engine::poll_transmit`] has it.
    fn close(&mut self, now: Instant);
}
