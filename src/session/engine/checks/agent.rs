//! rtc-ice's agent as the daemon sets it up, and the daemon's addresses as its candidates.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rtc_crypto::RTCCryptoProvider;
use rtc_ice::agent::Agent;
use rtc_ice::agent::agent_config::AgentConfig;
use rtc_ice::candidate::candidate_host::CandidateHostConfig;
use rtc_ice::candidate::candidate_relay::CandidateRelayConfig;
use rtc_ice::candidate::{Candidate, CandidateConfig, CandidateType};
use rtc_ice::mdns::MulticastDnsMode;
use rtc_ice::tcp_type::TcpType;
use rtc_shared::error::Error;

use super::{CHECK_INTERVAL, CONSENT_INTERVAL};
use crate::session::engine::{Base, IceRole, LocalTransport, Protocol};

/// Checks of a pair that stay unanswered before the controlling side gives it up.
///
/// rtc-ice's controlling side never checks a pair again once it failed, and with its own eight rounds that is 0.2 s after the answer.
const MOST_ROUNDS: u16 = 64;
/// How long a relay is left unnominated, so that a direct pair may be found.
const RELAY_PATIENCE: Duration = Duration::from_millis(500);

/// An agent of rtc-ice that has only the daemon's side.
pub(super) fn agent(
    now: Instant,
    crypto: &Arc<dyn RTCCryptoProvider>,
    local: &LocalTransport,
    bases: &[Base],
    role: IceRole,
) -> Result<Agent, Error> {
    let controlling = role == IceRole::Controlling;
    let config = AgentConfig {
        local_ufrag: local.ufrag.clone(),
        local_pwd: local.password.clone(),
        multicast_dns_mode: MulticastDnsMode::Disabled,
        check_interval: CHECK_INTERVAL,
        keepalive_interval: Some(CONSENT_INTERVAL),
        // Silence is the session's to judge.
        disconnected_timeout: Some(Duration::ZERO),
        failed_timeout: Some(Duration::ZERO),
        candidate_types: vec![CandidateType::Host, CandidateType::PeerReflexive, CandidateType::Relay],
        is_controlling: controlling,
        // The controlled side checks again whenever it is checked.
        max_binding_requests: controlling.then_some(MOST_ROUNDS),
        host_acceptance_min_wait: Some(Duration::ZERO),
        srflx_acceptance_min_wait: Some(Duration::ZERO),
        // Browsers hide their addresses behind mDNS names: what their checks show is a host.
        prflx_acceptance_min_wait: Some(Duration::ZERO),
        relay_acceptance_min_wait: Some(RELAY_PATIENCE),
        ..Default::default()
    };
    let mut agent = Agent::new(now, Arc::new(config), crypto.clone())?;
    for base in bases {
        agent.add_local_candidate(match base.is_relayed {
            false => host_candidate(base.address, Protocol::Udp)?,
            true => relay_candidate(base.address)?,
        })?;
    }
    Ok(agent)
}

/// Where the pairs of one of the daemon's candidates begin; `None` for a TCP connection's.
pub(super) fn base_of(candidate: &Candidate) -> Option<Base> {
    let is_relayed = candidate.candidate_type() == CandidateType::Relay;
    (protocol_of(candidate) == Protocol::Udp).then(|| Base { address: candidate.addr(), is_relayed })
}

/// What carries the packets of a candidate.
pub(super) fn protocol_of(candidate: &Candidate) -> Protocol {
    if candidate.network_type().is_tcp() { Protocol::Tcp } else { Protocol::Udp }
}

/// An address of this machine as a candidate.
pub(in crate::session::engine) fn host_candidate(address: SocketAddr, protocol: Protocol) -> Result<Candidate, Error> {
    let (network, tcp_type) = match protocol {
        Protocol::Udp => ("udp", TcpType::Unspecified),
        Protocol::Tcp => ("tcp", TcpType::Passive),
    };
    CandidateHostConfig { tcp_type, base_config: candidate(address, network) }.new_candidate_host()
}

/// An address at a TURN server as a candidate: less preferred than any other.
fn relay_candidate(address: SocketAddr) -> Result<Candidate, Error> {
    CandidateRelayConfig { base_config: candidate(address, "udp"), ..Default::default() }.new_candidate_relay()
}

fn candidate(address: SocketAddr, network: &str) -> CandidateConfig {
    CandidateConfig {
        network: network.to_owned(),
        address: address.ip().to_string(),
        port: address.port(),
        component: 1,
        ..Default::default()
    }
}
