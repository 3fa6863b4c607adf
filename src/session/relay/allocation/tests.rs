#![allow(clippy::unwrap_used)]
use std::collections::HashMap;
use std::net::IpAddr;

use super::*;
use crate::id::random_bytes;

const REALM: &[u8] = b"a.test";

fn crypto() -> Arc<dyn RTCCryptoProvider> {
    rtc_crypto::default_provider().unwrap()
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn peer(number: u8) -> SocketAddr {
    SocketAddr::new(IpAddr::from([198, 51, 100, number]), 4000 + u16::from(number))
}

/// A server that does what the specification says, and what the test wants besides.
struct Server {
    crypto: Arc<dyn RTCCryptoProvider>,
    password: &'static str,
    nonce: u32,
    /// Refused once each, before all else: method and code.
    refusals: Vec<(u16, u16)>,
    lifetime: u32,
    mapped: SocketAddr,
    allocated: bool,
    permissions: Vec<IpAddr>,
    channels: HashMap<u16, SocketAddr>,
    /// What it was asked, signed.
    granted: Vec<u16>,
    dead: bool,
}

impl Server {
    fn new() -> Self {
        Self {
            crypto: crypto(),
            password: "secret",
            nonce: 1,
            refusals: Vec::new(),
            lifetime: 600,
            mapped: address("203.0.113.9:4711"),
            allocated: false,
            permissions: Vec::new(),
            channels: HashMap::new(),
            granted: Vec::new(),
            dead: false,
        }
    }

    fn refuse(&self, message: &Message<'_>, transaction: &[u8; 12], code: u16) -> Vec<u8> {
        let value = [0, 0, (code / 100) as u8, (code % 100) as u8, b'n', b'o'];
        Writer::new(Class::Error, message.method, transaction)
            .with(attribute::ERROR_CODE, &value)
            .with(attribute::REALM, REALM)
            .with(attribute::NONCE, &self.nonce.to_be_bytes())
            .into_bytes()
    }

    fn answer(&mut self, request: &[u8]) -> Option<Vec<u8>> {
        let message = Message::parse(request).unwrap();
        let transaction = request[8..20].try_into().unwrap();
        if self.dead || message.class != Class::Request {
            return None;
        }
        if message.method == wire::BINDING {
            let answer = Writer::new(Class::Success, wire::BINDING, &transaction);
            return Some(answer.with_address(attribute::XOR_MAPPED_ADDRESS, self.mapped).into_bytes());
        }
        if let Some(at) = self.refusals.iter().position(|(method, _)| *method == message.method) {
            let (_, code) = self.refusals.remove(at);
            return Some(self.refuse(&message, &transaction, code));
        }
        let key = long_term_key("user", REALM, self.password, self.crypto.crypto()).unwrap();
        if !message.is_signed_by(&key, self.crypto.crypto()) {
            return Some(self.refuse(&message, &transaction, 401));
        }
        if message.attribute(attribute::NONCE) != Some(&self.nonce.to_be_bytes()) {
            return Some(self.refuse(&message, &transaction, 438));
        }
        if message.method != ALLOCATE && !self.allocated {
            return Some(self.refuse(&message, &transaction, 437));
        }
        self.granted.push(message.method);
        let mut answer = Writer::new(Class::Success, message.method, &transaction);
        match message.method {
            ALLOCATE => {
                assert_eq!(message.attribute(attribute::REQUESTED_TRANSPORT), Some(&UDP[..]));
                self.allocated = true;
                answer = answer
                    .with_address(attribute::XOR_RELAYED_ADDRESS, address("192.0.2.5:50000"))
                    .with_address(attribute::XOR_MAPPED_ADDRESS, self.mapped)
                    .with(attribute::LIFETIME, &self.lifetime.to_be_bytes());
            }
            REFRESH => {
                let lifetime = message.number(attribute::LIFETIME).unwrap();
                self.allocated = lifetime > 0;
                answer = answer.with(attribute::LIFETIME, &lifetime.min(self.lifetime).to_be_bytes());
            }
            CREATE_PERMISSION => {
                self.permissions.push(message.address(attribute::XOR_PEER_ADDRESS).unwrap().ip());
            }
            CHANNEL_BIND => {
                let number = message.attribute(attribute::CHANNEL_NUMBER).unwrap();
                let number = u16::from_be_bytes([number[0], number[1]]);
                let peer = message.address(attribute::XOR_PEER_ADDRESS).unwrap();
                assert!(
                    self.channels.insert(number, peer).is_none_or(|known| known == peer),
                    "a number has changed hands"
                );
            }
            method => panic!("a request of method {method}"),
        }
        Some(answer.signed(&key, self.crypto.crypto()).into_bytes())
    }
}

fn allocation(now: Instant) -> Allocation {
    let sign_in = Login { username: "user".to_owned(), password: "secret".to_owned() };
    Allocation::new(now, crypto(), sign_in, false, random_bytes)
}

/// Carries messages both ways until nobody has more to say; gives the events.
fn talk(now: Instant, allocation: &mut Allocation, server: &mut Server) -> Vec<Event> {
    let mut events = Vec::new();
    for _ in 0..1000 {
        allocation.handle_timeout(now);
        let requests: Vec<_> = std::iter::from_fn(|| allocation.poll_transmit()).collect();
        events.extend(std::iter::from_fn(|| allocation.poll_event()));
        if requests.is_empty() {
            return events;
        }
        for answer in requests.iter().filter_map(|request| server.answer(request)) {
            allocation.handle_message(now, &Message::parse(&answer).unwrap());
        }
    }
    panic!("they talk for ever");
}

/// Lets time pass, in the steps that the allocation wants; gives the events.
fn pass(now: &mut Instant, time: Duration, allocation: &mut Allocation, server: &mut Server) -> Vec<Event> {
    let until = *now + time;
    let mut events = Vec::new();
    for _ in 0..10_000 {
        match allocation.poll_timeout().filter(|due| *due <= until) {
            Some(due) => *now = due.max(*now),
            None => {
                *now = until;
                return events;
            }
        }
        events.extend(talk(*now, allocation, server));
    }
    panic!("a deadline does not move");
}

fn standing() -> (Instant, Allocation, Server) {
    let (now, mut server) = (Instant::now(), Server::new());
    let mut allocation = allocation(now);
    let events = talk(now, &mut allocation, &mut server);
    assert_eq!(events, [Event::Seen(address("203.0.113.9:4711")), Event::Relayed(address("192.0.2.5:50000"))]);
    (now, allocation, server)
}

fn wrapped(now: Instant, allocation: &mut Allocation, peer: SocketAddr) -> Option<(Vec<u8>, bool)> {
    let (envelope, is_channel) = allocation.wrap(now, peer, 3)?;
    let mut message = envelope.head().to_vec();
    message.extend([7; 3]);
    message.resize(message.len() + envelope.padding, 0);
    Some((message, is_channel))
}

#[test]
fn it_signs_in_when_asked_and_keeps_the_allocation_until_it_gives_it_back() {
    let (mut now, mut allocation, mut server) = standing();
    assert_eq!(allocation.relayed(), Some(address("192.0.2.5:50000")));
    let events = pass(&mut now, Duration::from_secs(3600), &mut allocation, &mut server);
    assert_eq!(events, []);
    let refreshed = server.granted.iter().filter(|method| **method == REFRESH).count();
    assert_eq!(refreshed, 3600 / (600 - 90));
    allocation.close(now);
    talk(now, &mut allocation, &mut server);
    assert!(!server.allocated);
    assert_eq!((allocation.relayed(), allocation.poll_timeout()), (None, None));
}

#[test]
fn a_short_lifetime_is_respected() {
    let (mut now, mut server) = (Instant::now(), Server::new());
    server.lifetime = 30;
    let mut allocation = allocation(now);
    talk(now, &mut allocation, &mut server);
    pass(&mut now, Duration::from_secs(60), &mut allocation, &mut server);
    assert_eq!(server.granted.iter().filter(|method| **method == REFRESH).count(), 4);
}

#[test]
fn packets_go_by_indications_until_there_is_a_channel() {
    let (now, mut allocation, mut server) = standing();
    let (message, is_channel) = wrapped(now, &mut allocation, peer(1)).unwrap();
    let indication = Message::parse(&message).unwrap();
    assert!(!is_channel && indication.class == Class::Indication);
    assert_eq!(indication.address(attribute::XOR_PEER_ADDRESS), Some(peer(1)));
    talk(now, &mut allocation, &mut server);
    assert_eq!(server.permissions, [peer(1).ip()]);
    allocation.want_channel(now, peer(1));
    talk(now, &mut allocation, &mut server);
    let (number, _) = server.channels.iter().next().map(|(number, peer)| (*number, *peer)).unwrap();
    let (message, is_channel) = wrapped(now, &mut allocation, peer(1)).unwrap();
    assert!(is_channel);
    assert_eq!(message, [&number.to_be_bytes()[..], &[0, 3, 7, 7, 7]].concat(), "without padding in datagrams");
    assert_eq!(allocation.unwrap(now, &message), Some((peer(1), 4..7)));
    assert_eq!(allocation.unwrap(now, &[0x4f, 0xff, 0, 0]), None, "nobody's channel");
    let data = Writer::new(Class::Indication, DATA, &[1; 12])
        .with_address(attribute::XOR_PEER_ADDRESS, peer(2))
        .with(attribute::DATA, b"hello")
        .into_bytes();
    let (from, range) = allocation.unwrap(now, &data).unwrap();
    assert_eq!((from, &data[range]), (peer(2), &b"hello"[..]));
    assert!(allocation.wrap(now, address("[2001:db8::1]:9"), 3).is_none(), "it relays for IPv4");
}

#[test]
fn a_channel_lives_for_as_long_as_it_is_used() {
    let (mut now, mut allocation, mut server) = standing();
    wrapped(now, &mut allocation, peer(1));
    allocation.want_channel(now, peer(1));
    for _ in 0..240 {
        talk(now, &mut allocation, &mut server);
        assert_eq!(pass(&mut now, Duration::from_secs(10), &mut allocation, &mut server), []);
        assert!(wrapped(now, &mut allocation, peer(1)).unwrap().1, "the channel is gone");
    }
    let count = |method| server.granted.iter().filter(|granted| **granted == method).count();
    assert_eq!(
        (count(CHANNEL_BIND), count(CREATE_PERMISSION)),
        (5, 11),
        "in 40 minutes: each 9 and each 4, and once at first"
    );
}

#[test]
fn stale_nonces_are_renewed_without_a_word() {
    let (mut now, mut allocation, mut server) = standing();
    for round in 0..20 {
        server.nonce += 1;
        assert_eq!(pass(&mut now, Duration::from_secs(500), &mut allocation, &mut server), [], "round {round}");
    }
    assert!(allocation.relayed().is_some());
    server.refusals = vec![(REFRESH, 438); 10];
    let events = pass(&mut now, Duration::from_secs(600), &mut allocation, &mut server);
    assert_eq!(events.len(), 1, "a server that only ever says so is given up: {events:?}");
}

#[test]
fn what_refuses_says_why() {
    let now = Instant::now();
    let refused = |code| Lost::Refused { code, reason: "no".to_owned() };
    for (code, lost) in [(486, refused(486)), (508, refused(508)), (300, refused(300)), (403, refused(403))] {
        let (mut allocation, mut server) = (allocation(now), Server::new());
        server.refusals = vec![(ALLOCATE, 401), (ALLOCATE, code)];
        assert_eq!(talk(now, &mut allocation, &mut server), [Event::Lost(lost)]);
    }
    let (mut allocation, mut server) = (allocation(now), Server::new());
    server.password = "another";
    assert_eq!(talk(now, &mut allocation, &mut server), [Event::Lost(Lost::Credentials)]);
}

#[test]
fn what_a_former_run_left_is_cleared() {
    let (now, mut server) = (Instant::now(), Server::new());
    (server.allocated, server.refusals) = (true, vec![(ALLOCATE, 401), (ALLOCATE, 437)]);
    let mut allocation = allocation(now);
    assert_eq!(talk(now, &mut allocation, &mut server).len(), 2);
    assert_eq!(server.granted, [REFRESH, ALLOCATE]);
}

#[test]
fn a_server_that_dies_forgets_or_sees_another_address_is_lost() {
    let (mut now, mut allocation, mut server) = standing();
    server.dead = true;
    let since = now;
    assert_eq!(pass(&mut now, Duration::from_secs(60), &mut allocation, &mut server), [Event::Lost(Lost::NoAnswer)]);
    assert!(allocation.relayed().is_none() && allocation.wrap(now, peer(1), 3).is_none(), "since {since:?}");

    let (mut now, mut allocation, mut server) = standing();
    server.allocated = false;
    wrapped(now, &mut allocation, peer(1));
    assert_eq!(talk(now, &mut allocation, &mut server), [Event::Lost(Lost::Gone)]);
    now += Duration::from_secs(60);
    assert_eq!(talk(now, &mut allocation, &mut server), []);

    let (mut now, mut allocation, mut server) = standing();
    server.mapped = address("203.0.113.10:4711");
    assert_eq!(pass(&mut now, Duration::from_secs(60), &mut allocation, &mut server), [Event::Lost(Lost::Moved)]);
}

#[test]
fn a_forged_grant_is_not_believed() {
    let now = Instant::now();
    let (mut allocation, server) = (allocation(now), Server::new());
    let first = allocation.poll_transmit().unwrap();
    let challenge = server.refuse(&Message::parse(&first).unwrap(), first[8..20].try_into().unwrap(), 401);
    allocation.handle_message(now, &Message::parse(&challenge).unwrap());
    let second = allocation.poll_transmit().unwrap();
    let forged = Writer::new(Class::Success, ALLOCATE, second[8..20].try_into().unwrap())
        .with_address(attribute::XOR_RELAYED_ADDRESS, address("192.0.2.66:6666"));
    let key = long_term_key("user", REALM, "guess", crypto().crypto()).unwrap();
    let forged = forged.signed(&key, crypto().crypto()).into_bytes();
    assert!(allocation.handle_message(now, &Message::parse(&forged).unwrap()));
    assert_eq!((allocation.relayed(), allocation.poll_event()), (None, None));
}

#[test]
fn a_peer_that_is_forbidden_costs_nothing_else() {
    let (mut now, mut allocation, mut server) = standing();
    server.refusals = vec![(CREATE_PERMISSION, 403)];
    wrapped(now, &mut allocation, peer(1));
    assert_eq!(talk(now, &mut allocation, &mut server), []);
    assert!(wrapped(now, &mut allocation, peer(1)).is_none());
    assert!(wrapped(now, &mut allocation, peer(2)).is_some());
    now += Duration::from_secs(61);
    assert!(wrapped(now, &mut allocation, peer(1)).is_some(), "it is asked again");
}

/// A small generator (xorshift), so that a failure can be repeated.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

#[test]
fn random_operations_and_garbage_keep_the_tables_whole() {
    for seed in 1..=30 {
        let (mut now, mut allocation, mut server) = standing();
        let mut chance = Chance(seed * 0x9e37_79b9);
        for _ in 0..400 {
            let peer = peer(chance.below(40) as u8);
            match chance.below(8) {
                0..=2 => drop(allocation.wrap(now, peer, chance.below(1200) as usize)),
                3 => allocation.want_channel(now, peer),
                4 => {
                    let mut garbage: Vec<u8> = (0..chance.below(80)).map(|_| chance.below(256) as u8).collect();
                    if garbage.len() >= 20 && chance.below(2) == 0 {
                        let length = (garbage.len() - 20) as u16;
                        garbage[..2]
                            .copy_from_slice(&[[0, 0x17], [1, 3], [1, 0x13], [0x40, 1]][chance.below(4) as usize]);
                        garbage[2..4].copy_from_slice(&length.to_be_bytes());
                        garbage[4..8].copy_from_slice(&[0x21, 0x12, 0xa4, 0x42]);
                    }
                    let carried = allocation.unwrap(now, &garbage);
                    assert!(carried.is_none_or(|(_, range)| range.end <= garbage.len()));
                    if let Some(message) = Message::parse(&garbage) {
                        assert!(!allocation.handle_message(now, &message), "nobody asked for it");
                    }
                }
                5 => server
                    .refusals
                    .push(([CREATE_PERMISSION, CHANNEL_BIND][chance.below(2) as usize], 400 + chance.below(40) as u16)),
                6 => now += Duration::from_millis(chance.below(90_000)),
                _ => server.nonce += 1,
            }
            // 401 and 437 end an allocation, as they must.
            server.refusals.retain(|(_, code)| *code != 401 && *code != 437);
            let events = talk(now, &mut allocation, &mut server);
            assert_eq!(events, [], "seed {seed}");
            allocation.peers.verify_invariants();
            assert!(allocation.pending.len() <= MOST_PENDING);
        }
    }
}
