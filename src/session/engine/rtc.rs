//! [`RtcEngine`]: rtc-ice, rtc-dtls and rtc-srtp composed for a viewer that is only sent to.
//!
//! It keeps what those crates are good at (checks and their validation, the handshake, the ciphers' keys) and decides itself where packets go:
//! rtc-ice never leaves the first pair that was nominated, but a phone that changes from Wi-Fi to mobile does.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rtc_ice::agent::Agent;
use rtc_ice::agent::agent_config::AgentConfig;
use rtc_ice::candidate::candidate_host::CandidateHostConfig;
use rtc_ice::candidate::candidate_pair::CandidatePairState;
use rtc_ice::candidate::{CandidateConfig, CandidateType, unmarshal_candidate};
use rtc_ice::mdns::MulticastDnsMode;
use rtc_shared::error::Error;
use rtc_shared::{TaggedBytesMut, TransportContext, TransportProtocol};
use sansio::Protocol;

use super::handshake::{Handshake, Keys, Outcome};
use super::identity::Identity;
use super::{Engine, EngineEnd, EngineEvent, Path, RemoteTransport, Transmit, feedback, stun};

/// Time between rounds of connectivity checks (RFC 8445, section 14.2 asks for at least 5 ms a check).
const CHECK_INTERVAL: Duration = Duration::from_millis(20);
/// Once connected the agent only keeps consent alive (RFC 7675: every 4 to 6 s); it would wake five times a second.
const CONSENT_INTERVAL: Duration = Duration::from_secs(2);
/// Candidates of one viewer that are taken: more would make the daemon send checks to addresses of somebody's choosing.
const MOST_CANDIDATES: usize = 24;
/// Addresses of one viewer that its checks have shown.
///
/// Each makes candidate pairs that rtc-ice goes through again and again; an address beyond them is not heard.
const MOST_ADDRESSES: usize = 16;
/// The port whose datagrams rtc-ice takes for mDNS.
const MDNS_PORT: u16 = 5353;
/// Events and datagrams that wait to be polled.
const MOST_WAITING: usize = 256;

/// The engine of one session.
pub struct RtcEngine {
    agent: Agent,
    handshake: Handshake,
    local_port: u16,
    remote_candidates: usize,
    validated: Vec<SocketAddr>,
    phase: Phase,
    /// Where media goes.
    path: Option<Path>,
    /// Where the handshake goes meanwhile.
    dtls_path: Option<Path>,
    /// What the viewer nominated, until a check of ours is answered there.
    nominated: Option<Path>,
    next_consent: Instant,
    transmits: VecDeque<Transmit>,
    events: VecDeque<EngineEvent>,
}

enum Phase {
    /// No check has been answered yet.
    Checking,
    /// An address is validated, the handshake runs.
    Handshaking,
    /// Media may flow.
    Connected(Box<Keys>),
    /// It is over.
    Ended,
}

/// What the answer says of the daemon's side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalTransport {
    /// `a=ice-ufrag`.
    pub ufrag: String,
    /// `a=ice-pwd`.
    pub password: String,
}

impl RtcEngine {
    /// Makes the daemon's side of a connection whose offer came from the viewer (who therefore controls ICE).
    ///
    /// # Errors
    /// Where the other side's parameters are refused by the crates.
    pub fn new(
        now: Instant,
        identity: &Identity,
        local: &[SocketAddr],
        remote: &RemoteTransport,
    ) -> Result<(Self, LocalTransport), Error> {
        let config = AgentConfig {
            multicast_dns_mode: MulticastDnsMode::Disabled,
            check_interval: CHECK_INTERVAL,
            keepalive_interval: Some(CONSENT_INTERVAL),
            // Silence is the session's to judge.
            disconnected_timeout: Some(Duration::ZERO),
            failed_timeout: Some(Duration::ZERO),
            candidate_types: vec![CandidateType::Host, CandidateType::PeerReflexive],
            is_controlling: false,
            ..Default::default()
        };
        let mut agent = Agent::new(now, Arc::new(config), identity.crypto.clone())?;
        for address in local {
            agent.add_local_candidate(host_candidate(*address)?)?;
        }
        let credentials = agent.get_local_credentials();
        let local_transport = LocalTransport { ufrag: credentials.ufrag.clone(), password: credentials.pwd.clone() };
        agent.start_connectivity_checks(now, false, remote.ufrag.clone(), remote.password.clone())?;
        let mut engine = Self {
            agent,
            handshake: Handshake::new(now, identity, remote)?,
            local_port: local.first().map_or(0, SocketAddr::port),
            remote_candidates: 0,
            validated: Vec::new(),
            phase: Phase::Checking,
            path: None,
            dtls_path: None,
            nominated: None,
            next_consent: now,
            transmits: VecDeque::new(),
            events: VecDeque::new(),
        };
        for candidate in &remote.candidates {
            engine.add_remote_candidate(candidate);
        }
        Ok((engine, local_transport))
    }

    fn handle_stun(&mut self, now: Instant, path: Path, data: &[u8]) -> bool {
        // rtc-ice takes whatever comes from the port of mDNS for mDNS, unchecked; and acts on a role conflict before it checks anything.
        if path.remote.port() == MDNS_PORT || stun::is_of_the_controlled(data) {
            return false;
        }
        let known = self.validated.contains(&path.remote);
        if !known && self.validated.len() >= MOST_ADDRESSES {
            return false;
        }
        // An address that came up after the start (a new interface) is as good as those in the answer.
        if !self.agent.get_local_candidates().iter().any(|candidate| candidate.addr() == path.local)
            && path.local.port() == self.local_port
        {
            let added = host_candidate(path.local).and_then(|candidate| self.agent.add_local_candidate(candidate));
            if added.is_err() {
                return false;
            }
        }
        let transport = TransportContext {
            local_addr: path.local,
            peer_addr: path.remote,
            ecn: None,
            transport_protocol: TransportProtocol::UDP,
        };
        let message = TaggedBytesMut { now, transport, message: BytesMut::from(data) };
        if self.agent.handle_read(message).is_err() {
            return false;
        }
        self.collect_checks();
        // rtc-ice checks the integrity of these two classes only.
        let request = stun::is_request(data);
        if !request && !stun::is_success(data) {
            return false;
        }
        if !known {
            self.validated.push(path.remote);
        }
        self.events.push_back(EngineEvent::Address(path.remote));
        if matches!(self.phase, Phase::Checking) {
            self.phase = Phase::Handshaking;
            self.dtls_path = Some(path);
        }
        if request && stun::nominates(data) && self.path != Some(path) {
            self.nominated = Some(path);
        }
        self.follow_nomination(now);
        if let Err(why) = self.handshake.open(now) {
            self.end(EngineEnd::Handshake(why));
        }
        self.collect_records();
        self.is_current(path)
    }

    /// The viewer controls: the pair that it nominated last is the one, once a check of ours was answered there (RFC 8445, section 7.3.1.5).
    ///
    /// Without that proof a forged source would turn the stream on a stranger.
    fn follow_nomination(&mut self, now: Instant) {
        let Some(path) = self.nominated else { return };
        let local =
            self.agent.get_local_candidates().iter().find(|c| c.addr() == path.local).map(|c| c.id().to_owned());
        let remote =
            self.agent.get_remote_candidates().iter().find(|c| c.addr() == path.remote).map(|c| c.id().to_owned());
        let (Some(local), Some(remote)) = (local, remote) else { return };
        let answered = self.agent.get_candidate_pairs_stats(now).into_iter().any(|pair| {
            pair.local_candidate_id == local
                && pair.remote_candidate_id == remote
                && pair.state == CandidatePairState::Succeeded
        });
        if answered {
            self.path = Some(path);
            self.nominated = None;
        }
    }

    /// Whether what comes along `path` shows that the viewer is there (RFC 7675: consent is for one pair).
    fn is_current(&self, path: Path) -> bool {
        self.path.is_none_or(|current| current == path)
    }

    fn handle_dtls(&mut self, now: Instant, path: Path, data: &[u8]) -> bool {
        if matches!(self.phase, Phase::Checking | Phase::Ended) || !self.validated.contains(&path.remote) {
            return false;
        }
        let connected = matches!(self.phase, Phase::Connected(_));
        let outcome = self.handshake.read(now, data, connected);
        if !connected && !matches!(outcome, Outcome::Ignored) {
            self.dtls_path = Some(path);
        }
        self.collect_records();
        let meant = match outcome {
            Outcome::Ignored => false,
            // Once connected, reading proves nothing: anybody can send a record.
            Outcome::Taken => !connected,
            Outcome::Complete(_) | Outcome::Closed | Outcome::Failed(_) => true,
        };
        match outcome {
            Outcome::Ignored | Outcome::Taken => {}
            Outcome::Complete(keys) => {
                self.phase = Phase::Connected(keys);
                // The handshake went there and back along this path: it serves until one is nominated.
                self.path = self.path.or(self.dtls_path);
                self.events.push_back(EngineEvent::Connected);
            }
            Outcome::Closed => self.end(EngineEnd::ClosedByPeer),
            Outcome::Failed(why) => self.end(EngineEnd::Handshake(why)),
        }
        meant && self.is_current(path)
    }

    fn handle_rtcp(&mut self, path: Path, data: &[u8]) -> bool {
        let Phase::Connected(keys) = &mut self.phase else { return false };
        let Ok(plain) = keys.rtcp_in.decrypt_rtcp(data) else { return false };
        for feedback in feedback::parse(&plain) {
            if self.events.len() < MOST_WAITING {
                self.events.push_back(EngineEvent::Feedback(feedback));
            }
        }
        self.is_current(path)
    }

    fn end(&mut self, end: EngineEnd) {
        if !matches!(self.phase, Phase::Ended) {
            self.phase = Phase::Ended;
            self.events.push_back(EngineEvent::Ended(end));
        }
    }

    fn collect_checks(&mut self) {
        while self.agent.poll_event().is_some() {}
        while let Some(message) = self.agent.poll_write() {
            if self.transmits.len() < MOST_WAITING {
                let path = Path { local: message.transport.local_addr, remote: message.transport.peer_addr };
                self.transmits.push_back(Transmit { path, data: message.message.to_vec() });
            }
        }
    }

    fn collect_records(&mut self) {
        while let Some(record) = self.handshake.poll_record() {
            if let (Some(path), true) = (self.path.or(self.dtls_path), self.transmits.len() < MOST_WAITING) {
                self.transmits.push_back(Transmit { path, data: record });
            }
        }
    }
}

impl Engine for RtcEngine {
    fn handle_datagram(&mut self, now: Instant, path: Path, data: &[u8]) -> bool {
        // RFC 7983: the first byte tells the protocols apart; 192 to 223 in the second is RTCP (RFC 5761).
        match data {
            [0..=3, ..] => self.handle_stun(now, path, data),
            [20..=63, ..] => self.handle_dtls(now, path, data),
            [128..=191, 192..=223, ..] => self.handle_rtcp(path, data),
            _ => false,
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        let connected = matches!(self.phase, Phase::Connected(_));
        if matches!(self.phase, Phase::Ended) {
            return;
        }
        if !connected || now >= self.next_consent {
            self.next_consent = now + CONSENT_INTERVAL;
            // The only error is one of mDNS, which is off.
            let _ = self.agent.handle_timeout(now);
            self.collect_checks();
        }
        if matches!(self.phase, Phase::Handshaking) {
            if let Err(why) = self.handshake.handle_timeout(now) {
                self.end(EngineEnd::Handshake(why));
            }
            self.collect_records();
        }
    }

    fn poll_timeout(&mut self) -> Option<Instant> {
        match self.phase {
            Phase::Ended => None,
            Phase::Connected(_) => Some(self.next_consent),
            Phase::Checking => self.agent.poll_timeout(),
            Phase::Handshaking => {
                [self.agent.poll_timeout(), self.handshake.poll_timeout()].into_iter().flatten().min()
            }
        }
    }

    fn add_remote_candidate(&mut self, candidate: &str) {
        // Names are left alone: the viewer's own checks show its address (mDNS, WEBRTC.md), and TCP is not offered.
        let text = candidate.strip_prefix("candidate:").unwrap_or(candidate);
        let mut fields = text.split_ascii_whitespace();
        let (transport, address) = (fields.nth(2).unwrap_or_default(), fields.nth(1).unwrap_or_default());
        if !transport.eq_ignore_ascii_case("udp") || address.parse::<std::net::IpAddr>().is_err() {
            return;
        }
        if self.remote_candidates >= MOST_CANDIDATES {
            return;
        }
        if let Ok(candidate) = unmarshal_candidate(text) {
            self.remote_candidates += 1;
            // What the agent refuses can't be paired; the viewer's other candidates go on.
            let _ = self.agent.add_remote_candidate(candidate);
        }
    }

    fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    fn poll_event(&mut self) -> Option<EngineEvent> {
        self.events.pop_front()
    }

    fn path(&self) -> Option<Path> {
        self.path
    }

    fn round_trip(&self, now: Instant) -> Option<Duration> {
        self.agent
            .get_candidate_pairs_stats(now)
            .into_iter()
            .filter(|pair| pair.nominated && pair.current_round_trip_time > 0.0)
            .map(|pair| Duration::from_secs_f64(pair.current_round_trip_time.min(10.0)))
            .next()
    }

    fn tag_length(&self) -> usize {
        match &self.phase {
            Phase::Connected(keys) => keys.sealer.tag_length(),
            _ => 16,
        }
    }

    fn seal(&mut self, packet: &mut [u8], header_length: usize, index: u64) -> bool {
        match &mut self.phase {
            Phase::Connected(keys) => keys.sealer.seal(packet, header_length, index),
            _ => false,
        }
    }

    fn protect_rtcp(&mut self, packet: &[u8]) -> Option<Vec<u8>> {
        match &mut self.phase {
            Phase::Connected(keys) => keys.rtcp_out.encrypt_rtcp(packet).ok().map(|bytes| bytes.to_vec()),
            _ => None,
        }
    }

    fn close(&mut self, now: Instant) {
        self.handshake.close(now);
        self.collect_records();
        self.phase = Phase::Ended;
    }
}

fn host_candidate(address: SocketAddr) -> Result<rtc_ice::candidate::Candidate, Error> {
    CandidateHostConfig {
        base_config: CandidateConfig {
            network: "udp".to_owned(),
            address: address.ip().to_string(),
            port: address.port(),
            component: 1,
            ..Default::default()
        },
        ..Default::default()
    }
    .new_candidate_host()
}

const _: () = {
    const fn is_send<T: Send>() {}
    is_send::<RtcEngine>();
};

#[cfg(test)]
mod tests;
