//! The WebRTC engine of one session: ICE, DTLS and SRTP behind a small interface.
//!
//! [`Engine`] is all that sessions know of it; [`rtc::RtcEngine`] composes it from the webrtc project's sans-IO crates
//! (ARCHITECTURE.md, decision 1), `plain` is the deterministic one of the tests. An engine owns no socket and reads no clock.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

mod checks;
pub mod feedback;
mod handshake;
mod hello;
pub mod identity;
mod records;
pub mod rtc;
pub mod srtcp;
mod srtp;
pub mod stun;

#[cfg(test)]
pub mod plain;

pub use feedback::Feedback;

use crate::id::random_base32;

/// What carries packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// Datagrams.
    Udp,
    /// Frames of a connection that the viewer opened (RFC 6544, RFC 4571).
    Tcp,
}

/// Where a viewer is; the same address and port may be another's by the other protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Remote {
    /// How it is reached.
    pub protocol: Protocol,
    /// Its address.
    pub address: SocketAddr,
}

/// Where packets go: the daemon's own address and the viewer's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Path {
    /// What carries them.
    pub protocol: Protocol,
    /// The address that packets leave from.
    pub local: SocketAddr,
    /// The address that they go to.
    pub remote: SocketAddr,
}

impl Path {
    /// The way of datagrams between two addresses.
    pub fn udp(local: SocketAddr, remote: SocketAddr) -> Self {
        Self { protocol: Protocol::Udp, local, remote }
    }

    /// The way of a connection that was accepted at `local`.
    pub fn tcp(local: SocketAddr, remote: SocketAddr) -> Self {
        Self { protocol: Protocol::Tcp, local, remote }
    }

    /// Its other end.
    pub fn end(&self) -> Remote {
        Remote { protocol: self.protocol, address: self.remote }
    }
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
    /// A STUN request with valid integrity came from there: what comes from there is this session's.
    Address(Remote),
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

impl RemoteTransport {
    /// Whether the certificates that it allows are those of `other`, in whatever order.
    pub fn has_certificate_of(&self, other: &Self) -> bool {
        let all_in = |these: &Self, those: &Self| these.fingerprints.iter().all(|one| those.fingerprints.contains(one));
        all_in(self, other) && all_in(other, self)
    }

    /// The addresses of its candidates for UDP; names are none.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.candidates.iter().filter_map(|candidate| {
            let fields: Vec<_> = candidate.split_ascii_whitespace().take(6).collect();
            let [_, _, transport, _, address, port] = fields[..] else { return None };
            let is_udp = transport.eq_ignore_ascii_case("udp");
            Some(SocketAddr::new(address.parse().ok()?, port.parse().ok()?)).filter(|_| is_udp)
        })
    }
}

/// What the other side is told of the daemon's ICE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalTransport {
    /// `a=ice-ufrag`.
    pub ufrag: String,
    /// `a=ice-pwd`.
    pub password: String,
}

impl LocalTransport {
    /// Draws credentials (RFC 8445, section 5.3): 80 and 160 random bits.
    pub fn random() -> Self {
        Self { ufrag: random_base32(16), password: random_base32(32) }
    }
}

/// Where the daemon's side of pairs begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Base {
    /// The address.
    pub address: SocketAddr,
    /// Whether it is at a relay, and none of this machine's.
    pub is_relayed: bool,
}

impl From<SocketAddr> for Base {
    /// An address of this machine.
    fn from(address: SocketAddr) -> Self {
        Self { address, is_relayed: false }
    }
}

/// Who nominates the pair that media takes (RFC 8445, section 6.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IceRole {
    /// The daemon: it made the offer, or the other side is lite.
    Controlling,
    /// The viewer: it made the offer.
    Controlled,
}

/// Why an engine refused what it was told of the other side.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// The crates can't do with it.
    #[error("the transport's parameters can't be used: {0}")]
    Unusable(String),
    /// [`Engine::start`] a second time.
    #[error("the connection has already begun: restart it, or make another")]
    AlreadyStarted,
    /// [`Engine::restart`] before [`Engine::start`], or after the end.
    #[error("there is no connection to restart: make another")]
    NotRunning,
    /// A new DTLS association is no ICE restart.
    #[error("the restart names another certificate than the connection has: make another connection")]
    OtherCertificate,
    /// The credentials have not changed.
    #[error("the ICE credentials are those of the present connection: a restart needs fresh ones")]
    SameCredentials,
    /// More than any network makes necessary.
    #[error("too many ICE restarts: wait {} s", .0.as_secs())]
    TooManyRestarts(Duration),
}

/// One viewer's transport.
pub trait Engine {
    /// Begins, once the other side is known; what comes before is dropped.
    ///
    /// # Errors
    /// Where it has begun, or the parameters can't be used.
    fn start(&mut self, now: Instant, remote: &RemoteTransport) -> Result<(), TransportError>;

    /// Takes fresh credentials of both sides and where the daemon's side begins (RFC 8445, section 9).
    ///
    /// Keys and media go on as they are; the path changes once a pair of the fresh credentials is nominated, and the former ones are heard until then.
    ///
    /// # Errors
    /// Where it is no restart of this connection, or one too many; the connection goes on as it was.
    fn restart(
        &mut self,
        now: Instant,
        remote: &RemoteTransport,
        local: LocalTransport,
        bases: &[Base],
    ) -> Result<(), TransportError>;

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
