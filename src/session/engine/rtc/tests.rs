//! The composed engine against a browser's side made of the same crates, in virtual time.

#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::sync::Arc;

use rtc_dtls::config::{ClientAuthType, ConfigBuilder, HandshakeConfig};
use rtc_dtls::endpoint::{Endpoint, EndpointEvent};
use rtc_ice::agent::agent_config::AgentConfig;
use rtc_ice::agent::{Agent, Credentials};
use rtc_ice::candidate::candidate_host::CandidateHostConfig;
use rtc_ice::candidate::{Candidate, CandidateConfig};
use rtc_ice::mdns::MulticastDnsMode;
use rtc_ice::tcp_type::TcpType;
use rtc_shared::{TaggedBytesMut, TransportContext, TransportProtocol};
use rtc_srtp::config::{Config as SrtpConfig, LABEL_EXTRACTOR_DTLS_SRTP};
use rtc_srtp::context::Context;
use rtc_srtp::protection_profile::ProtectionProfile;

use sansio::Protocol as _;

use super::*;
use crate::session::engine::Protocol;
use crate::session::engine::checks::{CHECK_INTERVAL, MOST_ADDRESSES, MOVE_AFTER, host_candidate};
use crate::session::engine::handshake::{CM, GCM, association};
use crate::session::engine::stun;

const PORT: u16 = 8889;

/// The viewer's side, which offers the profiles in Chromium's order; ICE and DTLS in the roles that the daemon leaves it.
struct Browser {
    agent: Agent,
    dtls: Endpoint,
    config: Arc<HandshakeConfig>,
    credentials: Credentials,
    connected: bool,
    address: SocketAddr,
    protocol: Protocol,
    dtls_client: bool,
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn daemon() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], PORT))
}

/// A viewer's address as a candidate of its own side: by TCP it connects from there.
fn viewers_candidate(at: Remote) -> Candidate {
    let tcp = at.protocol == Protocol::Tcp;
    let base_config = CandidateConfig {
        network: if tcp { "tcp" } else { "udp" }.to_owned(),
        address: at.address.ip().to_string(),
        port: at.address.port(),
        component: 1,
        ..Default::default()
    };
    let tcp_type = if tcp { TcpType::Active } else { TcpType::Unspecified };
    CandidateHostConfig { base_config, tcp_type }.new_candidate_host().unwrap()
}

impl Browser {
    fn path(&self) -> Path {
        Path { protocol: self.protocol, local: daemon(), remote: self.address }
    }

    fn new(now: Instant, identity: &Identity, at: Remote, role: IceRole, dtls_client: bool) -> Self {
        let Remote { protocol, address } = at;
        let config = AgentConfig {
            multicast_dns_mode: MulticastDnsMode::Disabled,
            check_interval: CHECK_INTERVAL,
            is_controlling: role == IceRole::Controlling,
            host_acceptance_min_wait: Some(Duration::ZERO),
            ..Default::default()
        };
        let mut agent = Agent::new(now, Arc::new(config), identity.crypto.clone()).unwrap();
        agent.add_local_candidate(viewers_candidate(at)).unwrap();
        let credentials = agent.get_local_credentials().clone();
        let config = ConfigBuilder::default()
            .with_crypto_provider(identity.crypto.clone())
            .with_certificates(vec![identity.certificate.clone()])
            .with_srtp_protection_profiles(vec![CM, GCM])
            .with_client_auth(ClientAuthType::RequireAnyClientCert)
            .with_insecure_skip_verify(true)
            .build(dtls_client, dtls_client.then(association))
            .unwrap();
        let config = Arc::new(config);
        let dtls = Endpoint::new(address, TransportProtocol::UDP, (!dtls_client).then(|| config.clone()));
        Self { agent, dtls, config, credentials, connected: false, address, protocol, dtls_client }
    }

    fn transport(&self, identity: &Identity) -> RemoteTransport {
        RemoteTransport {
            ufrag: self.credentials.ufrag.clone(),
            password: self.credentials.pwd.clone(),
            fingerprints: vec![identity.fingerprint()],
            dtls_client: !self.dtls_client,
            candidates: vec![],
        }
    }

    fn handle(&mut self, now: Instant, data: &[u8]) {
        if data[0] <= 3 {
            let transport = TransportContext {
                local_addr: self.address,
                peer_addr: daemon(),
                ecn: None,
                transport_protocol: match self.protocol {
                    Protocol::Udp => TransportProtocol::UDP,
                    Protocol::Tcp => TransportProtocol::TCP,
                },
            };
            let _ = self.agent.handle_read(TaggedBytesMut { now, transport, message: data.into() });
        } else if let Ok(events) = self.dtls.read(now, association(), None, data.into()) {
            self.connected |= events.iter().any(|event| matches!(event, EndpointEvent::HandshakeComplete));
        }
    }

    fn datagrams(&mut self, now: Instant) -> Vec<Vec<u8>> {
        let _ = self.agent.handle_timeout(now);
        let mut out = Vec::new();
        while let Some(message) = self.agent.poll_write() {
            out.push(message.message.to_vec());
        }
        while let Some(record) = self.dtls.poll_transmit() {
            out.push(record.message.to_vec());
        }
        out
    }
}

struct Pair {
    engine: RtcEngine,
    browser: Browser,
    events: Vec<EngineEvent>,
    crypto: Arc<dyn rtc_crypto::RTCCryptoProvider>,
    now: Instant,
}

impl Pair {
    fn new(known: &Identity, shown: &Identity) -> Self {
        Self::in_roles(known, shown, IceRole::Controlled, true)
    }

    /// The daemon's ICE role and whether the browser opens the handshake.
    fn in_roles(known: &Identity, shown: &Identity, role: IceRole, browser_opens: bool) -> Self {
        Self::over(Protocol::Udp, known, shown, role, browser_opens)
    }

    fn over(protocol: Protocol, known: &Identity, shown: &Identity, role: IceRole, browser_opens: bool) -> Self {
        let now = Instant::now();
        let daemon_identity = Identity::generate().unwrap();
        let browsers = if role == IceRole::Controlled { IceRole::Controlling } else { IceRole::Controlled };
        let mut browser = Browser::new(
            now,
            shown,
            Remote { protocol, address: address("198.51.100.7:40000") },
            browsers,
            browser_opens,
        );
        let (mut engine, local) = RtcEngine::new(now, &daemon_identity, &[daemon().into()], role).unwrap();
        let controlling = browsers == IceRole::Controlling;
        browser.agent.start_connectivity_checks(now, controlling, local.ufrag, local.password).unwrap();
        browser.agent.add_remote_candidate(host_candidate(daemon(), protocol).unwrap()).unwrap();
        // What comes before the other side is known does no harm.
        let path = browser.path();
        for datagram in browser.datagrams(now).into_iter().chain([vec![22, 254, 253, 0], vec![0x80, 200, 0, 0]]) {
            assert!(!engine.handle_datagram(now, path, &datagram));
        }
        engine.handle_timeout(now);
        assert!(engine.poll_transmit().is_none() && engine.poll_event().is_none() && engine.poll_timeout().is_none());
        engine.start(now, &browser.transport(known)).unwrap();
        assert_eq!(engine.start(now, &browser.transport(known)), Err(TransportError::AlreadyStarted));
        Self { engine, browser, events: Vec::new(), crypto: known.crypto.clone(), now }
    }

    /// Lets time pass, without loss or delay, until `done` or a second is over.
    fn run(&mut self, done: impl Fn(&Self) -> bool) {
        for _ in 0..200 {
            self.now += Duration::from_millis(5);
            let path = self.browser.path();
            for datagram in self.browser.datagrams(self.now) {
                self.engine.handle_datagram(self.now, path, &datagram);
            }
            self.engine.handle_timeout(self.now);
            while let Some(transmit) = self.engine.poll_transmit() {
                assert_eq!((transmit.path.local, transmit.path.protocol), (daemon(), self.browser.protocol));
                self.browser.handle(self.now, &transmit.data);
            }
            while let Some(event) = self.engine.poll_event() {
                self.events.push(event);
            }
            let opens = self.browser.dtls_client && self.browser.dtls.get_connections_keys().len() == 0;
            if matches!(self.engine.phase, Phase::Handshaking) && opens {
                let config = self.browser.config.clone();
                self.browser.dtls.connect(self.now, association(), config, None).unwrap();
            }
            if done(self) {
                return;
            }
        }
    }

    fn connected() -> Self {
        let identity = Identity::generate().unwrap();
        let mut pair = Self::new(&identity, &identity);
        pair.run(|pair| pair.browser.connected && pair.events.iter().any(|e| matches!(e, EngineEvent::Connected)));
        assert!(pair.browser.connected && pair.events.iter().any(|e| matches!(e, EngineEvent::Connected)));
        pair
    }
}

#[test]
fn a_viewer_connects_by_aes_gcm_and_opens_what_is_sealed() {
    let mut pair = Pair::connected();
    let state = pair.browser.dtls.get_connection_state(association()).unwrap();
    assert!(state.srtp_protection_profile() == GCM, "though the viewer lists AES-CM first");
    let mut config = SrtpConfig { profile: ProtectionProfile::AeadAes128Gcm, ..Default::default() };
    let material = state.export_keying_material(LABEL_EXTRACTOR_DTLS_SRTP, &[], config.keying_material_len()).unwrap();
    config.set_session_keys_from_keying_material(material.as_ref(), true).unwrap();
    let (keys, crypto) = (&config.keys, pair.crypto.clone());
    let (key, salt) = (&keys.remote_master_key, &keys.remote_master_salt);
    let mut receiver = Context::new(key, salt, config.profile, None, None, crypto.crypto()).unwrap();
    let mut packet = vec![0x80, 96, 0, 9, 0, 0, 0, 1, 0, 0, 0, 2];
    packet.extend(b"picture");
    packet.resize(packet.len() + pair.engine.tag_length(), 0);
    assert!(pair.engine.seal(&mut packet, 12, 9));
    assert_eq!(&receiver.decrypt_rtp(&packet).unwrap()[12..], b"picture");
    let report =
        feedback::sender_report(&[feedback::SenderInfo { ssrc: 2, ntp: 1, rtp: 1, packets: 1, octets: 7 }], "laterna");
    let protected = pair.engine.protect_rtcp(&report.clone().unwrap()).unwrap();
    assert_eq!(&receiver.decrypt_rtcp(&protected).unwrap()[..], &report.unwrap()[..]);
}

#[test]
fn whoever_opens_the_handshake_the_daemon_that_called_nominates_and_connects() {
    for browser_opens in [true, false] {
        let identity = Identity::generate().unwrap();
        let mut pair = Pair::in_roles(&identity, &identity, IceRole::Controlling, browser_opens);
        let connected =
            |pair: &Pair| pair.browser.connected && pair.events.iter().any(|e| matches!(e, EngineEvent::Connected));
        pair.run(|pair| connected(pair) && pair.engine.checks.selected().is_some());
        assert!(connected(&pair));
        let path = Path::udp(daemon(), pair.browser.address);
        assert_eq!((pair.engine.path(), pair.engine.checks.selected()), (Some(path), Some(path)));
        let (_, remote) = pair.browser.agent.get_selected_candidate_pair().expect("the browser heard the nomination");
        assert_eq!(remote.addr(), daemon());
        assert!(pair.engine.round_trip(pair.now).is_some());
    }
}

#[test]
fn a_viewer_connects_over_tcp_in_either_role() {
    for role in [IceRole::Controlled, IceRole::Controlling] {
        let identity = Identity::generate().unwrap();
        let mut pair = Pair::over(Protocol::Tcp, &identity, &identity, role, true);
        pair.run(|pair| pair.browser.connected && pair.engine.checks.selected().is_some());
        let path = pair.browser.path();
        assert_eq!((pair.engine.path(), pair.engine.checks.selected()), (Some(path), Some(path)), "{role:?}");
        // The same address by the other protocol is a stranger's.
        let record = [&[22, 254, 253][..], &[0; 40]].concat();
        assert!(!pair.engine.handle_datagram(pair.now, Path::udp(path.local, path.remote), &record));
        assert_eq!(pair.engine.path(), Some(path));
    }
}

#[test]
fn names_tcp_and_ends_among_the_candidates_are_passed_over() {
    let identity = Identity::generate().unwrap();
    let mut pair = Pair::new(&identity, &identity);
    for other in [
        "candidate:1 1 udp 2113937151 0b1d7a5e-1a2b-4c3d-8e9f-001122334455.local 50000 typ host generation 0",
        "candidate:2 1 tcp 1518280447 198.51.100.9 9 typ host tcptype active generation 0",
        "candidate:3 1 TCP 1518280447 198.51.100.9 4443 typ host tcptype passive",
        "candidate:4 1 tcp 1518280447 0b1d7a5e-1a2b-4c3d-8e9f-001122334455.local 9 typ host tcptype active",
        "",
        "end-of-candidates",
        "candidate:",
    ] {
        pair.engine.add_remote_candidate(other);
    }
    assert_eq!(pair.engine.checks.count_addresses(), 0);
    pair.engine.add_remote_candidate("candidate:5 1 udp 2113937151 198.51.100.7 40000 typ host");
    assert_eq!(pair.engine.checks.count_addresses(), 1);
    pair.run(|pair| pair.browser.connected);
    assert!(pair.browser.connected);
}

#[test]
fn another_certificate_than_the_offers_ends_the_handshake() {
    let (known, shown) = (Identity::generate().unwrap(), Identity::generate().unwrap());
    let mut pair = Pair::new(&known, &shown);
    pair.run(|pair| pair.events.iter().any(|e| matches!(e, EngineEvent::Ended(_))));
    assert!(pair.events.iter().any(|e| matches!(e, EngineEvent::Ended(EngineEnd::Handshake(_)))));
    assert!(!pair.events.iter().any(|e| matches!(e, EngineEvent::Connected)));
    assert!(!pair.engine.seal(&mut [0; 40], 12, 1), "nothing is sealed without keys");
}

#[test]
fn goodbyes_are_heard_both_ways() {
    let mut pair = Pair::connected();
    let _ = pair.browser.dtls.close(pair.now);
    pair.run(|pair| pair.events.iter().any(|e| matches!(e, EngineEvent::Ended(_))));
    assert!(pair.events.iter().any(|e| matches!(e, EngineEvent::Ended(EngineEnd::ClosedByPeer))));

    let mut pair = Pair::connected();
    pair.engine.close(pair.now);
    let alert = pair.engine.poll_transmit().unwrap();
    assert_eq!(alert.path.remote, pair.browser.address);
    assert_eq!(alert.data[0], 21, "an alert record");
}

#[test]
fn only_validated_addresses_are_heard_and_garbage_changes_nothing() {
    let mut pair = Pair::connected();
    let (was, stranger) = (pair.engine.path(), address("203.0.113.66:666"));
    let from = |remote| Path::udp(daemon(), remote);
    for first in 0..=255u8 {
        for length in [1, 2, 12, 13, 20, 64, 1200] {
            let mut noise: Vec<u8> = (0..length).map(|i| (i * 31 + usize::from(first)) as u8).collect();
            noise[0] = first;
            assert!(!pair.engine.handle_datagram(pair.now, from(stranger), &noise));
            let _ = pair.engine.handle_datagram(pair.now, from(pair.browser.address), &noise);
        }
    }
    assert_eq!(pair.engine.path(), was);
    assert!(
        std::iter::from_fn(|| pair.engine.poll_event())
            .all(|e| !matches!(e, EngineEvent::Ended(_) | EngineEvent::Address(_)))
    );
    let mut packet = [0x80; 60];
    assert!(pair.engine.seal(&mut packet, 12, 1), "the connection goes on");
}

/// A nominating request, signed with the daemon's password as the viewer can.
fn nomination(pair: &Pair, password: &str) -> Vec<u8> {
    request(pair, password, true)
}

fn request(pair: &Pair, password: &str, nominates: bool) -> Vec<u8> {
    let local = pair.engine.checks.credentials();
    let name = format!("{}:{}", local.ufrag, pair.browser.credentials.ufrag);
    let mut attributes = vec![0, 6, 0, name.len() as u8];
    attributes.extend(name.bytes());
    attributes.resize(attributes.len().next_multiple_of(4), 0);
    if nominates {
        attributes.extend([0, 0x25, 0, 0]);
    }
    let mut data = vec![0, 1, 0, (attributes.len() + 24) as u8, 0x21, 0x12, 0xa4, 0x42];
    data.extend([7; 12]);
    data.extend(attributes);
    let crypto = pair.crypto.crypto();
    let mut mac = crypto.new_hmac(rtc_crypto::HmacAlgorithm::Sha1, password.as_bytes()).unwrap();
    let mut tag = [0; 20];
    mac.sign(&[&data], &mut tag).unwrap();
    data.extend([0, 8, 0, 20]);
    data.extend(tag);
    data
}

#[test]
fn a_nomination_from_where_nobody_answers_moves_nothing_and_addresses_are_bounded() {
    let mut pair = Pair::connected();
    let (was, password) = (pair.engine.path(), pair.engine.checks.credentials().password.clone());
    let request = nomination(&pair, &password);
    for n in 0..4_000u32 {
        let remote = SocketAddr::from(([203, 0, (n >> 8) as u8, n as u8], 4_000));
        let alive = pair.engine.handle_datagram(pair.now, Path::udp(daemon(), remote), &request);
        assert!(!alive, "another path is no sign of life on this one");
        while pair.engine.poll_transmit().is_some() {}
    }
    pair.engine.handle_timeout(pair.now + Duration::from_secs(3));
    assert_eq!(pair.engine.path(), was);
    assert!(pair.engine.checks.count_addresses() <= MOST_ADDRESSES);
}

/// Passes on what the engine sends to an address of the browser, and the browser's replies from there.
fn exchange(pair: &mut Pair, path: Path) -> Vec<Vec<u8>> {
    let mut sent = Vec::new();
    for _ in 0..3 {
        while let Some(transmit) = pair.engine.poll_transmit() {
            if transmit.path == path {
                pair.browser.handle(pair.now, &transmit.data);
                sent.push(transmit.data);
            }
        }
        while let Some(message) = pair.browser.agent.poll_write() {
            if stun::is_success(&message.message) {
                pair.engine.handle_datagram(pair.now, path, &message.message);
            }
        }
    }
    sent
}

#[test]
fn a_viewer_that_nominates_with_its_first_check_gets_its_reply_without_asking_again() {
    let identity = Identity::generate().unwrap();
    let mut pair = Pair::new(&identity, &identity);
    let path = Path::udp(daemon(), pair.browser.address);
    let password = pair.engine.checks.credentials().password.clone();
    let request = nomination(&pair, &password);
    assert!(pair.engine.handle_datagram(pair.now, path, &request));
    let sent = exchange(&mut pair, path);
    let replies = sent.iter().filter(|data| stun::is_success(data) && stun::transaction(data) == Some(&[7; 12]));
    assert_eq!(replies.count(), 1);
    assert_eq!(pair.engine.checks.selected(), Some(path));
}

#[test]
fn a_viewer_that_nominates_all_pairs_is_followed_to_the_one_that_it_uses() {
    let mut pair = Pair::connected();
    let used = Path::udp(daemon(), pair.browser.address);
    let last = Path { remote: address("198.51.100.8:40000"), ..used };
    let password = pair.engine.checks.credentials().password.clone();
    assert_eq!(pair.engine.path(), Some(used));
    let (nomination, request) = (nomination(&pair, &password), request(&pair, &password, false));
    pair.engine.handle_datagram(pair.now, last, &nomination);
    exchange(&mut pair, last);
    assert_eq!(pair.engine.path(), Some(last), "nominated last, and reached");
    pair.now += MOVE_AFTER / 2;
    assert!(!pair.engine.handle_datagram(pair.now, used, &request), "the viewer may only be late to leave");
    pair.now += MOVE_AFTER;
    assert!(pair.engine.handle_datagram(pair.now, used, &request));
    assert_eq!(pair.engine.path(), Some(used));
    let stranger = Path { remote: address("203.0.113.9:40000"), ..used };
    pair.now += MOVE_AFTER * 2;
    assert!(!pair.engine.handle_datagram(pair.now, stranger, &request));
    assert_eq!(pair.engine.path(), Some(used), "nobody is followed to where no check was answered");
}

#[test]
fn the_port_of_mdns_needs_integrity_too() {
    let mut pair = Pair::connected();
    let (was, forged) = (pair.engine.path(), nomination(&pair, "not the password"));
    while pair.engine.poll_event().is_some() {}
    for port in [5353, 5354] {
        let remote = SocketAddr::from(([203, 0, 113, 9], port));
        assert!(!pair.engine.handle_datagram(pair.now, Path::udp(daemon(), remote), &forged));
    }
    assert!(pair.engine.path() == was && pair.engine.poll_event().is_none());
}

#[test]
fn hollow_fragments_and_future_epochs_take_neither_stack_nor_memory() {
    let mut pair = Pair::connected();
    let path = Path::udp(daemon(), pair.browser.address);
    let record = |epoch: u16, body: &[u8]| {
        let mut out = vec![22, 0xfe, 0xfd];
        out.extend(epoch.to_be_bytes());
        out.extend([0, 0, 0, 0, 1, 0]);
        out.extend((body.len() as u16).to_be_bytes());
        out.extend(body);
        out
    };
    let hollow: Vec<u8> = (0..100u8).flat_map(|offset| [1, 0, 0, 0, 0, 0, 0, 0, offset, 0, 0, 1]).collect();
    for _ in 0..2_000 {
        for datagram in [record(0, &hollow), record(1, &hollow), record(2, &hollow)] {
            assert!(!pair.engine.handle_datagram(pair.now, path, &datagram), "junk is no sign of life");
        }
    }
    assert!(pair.engine.seal(&mut [0x80; 60], 12, 1), "the connection goes on");
}

#[test]
fn a_handshake_outlasts_a_bad_moment() {
    let identity = Identity::generate().unwrap();
    let mut pair = Pair::new(&identity, &identity);
    pair.run(|pair| pair.engine.handshake.as_ref().is_some_and(Handshake::begun));
    // The viewer hears nothing for six seconds; then it goes on.
    for _ in 0..1_200 {
        pair.now += Duration::from_millis(5);
        pair.engine.handle_timeout(pair.now);
        while pair.engine.poll_transmit().is_some() {}
    }
    assert!(!std::iter::from_fn(|| pair.engine.poll_event()).any(|e| matches!(e, EngineEvent::Ended(_))));
    for _ in 0..5 {
        let _ = pair.browser.dtls.handle_timeout(association(), pair.now);
        pair.run(|pair| pair.browser.connected);
    }
    assert!(pair.browser.connected);
}
