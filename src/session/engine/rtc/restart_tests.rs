//! Two composed engines against each other in virtual time: a call, and ICE restarts while media flows.

#![allow(clippy::unwrap_used)]

use std::collections::HashSet;
use std::net::SocketAddr;

use super::*;

const STEP: Duration = Duration::from_millis(5);

struct Side {
    engine: RtcEngine,
    local: LocalTransport,
    identity: Identity,
    addresses: Vec<SocketAddr>,
    dtls_client: bool,
    connected: bool,
    ended: bool,
}

fn bases(addresses: &[SocketAddr]) -> Vec<Base> {
    addresses.iter().copied().map(Base::from).collect()
}

impl Side {
    fn new(now: Instant, address: &str, role: IceRole, dtls_client: bool) -> Self {
        let (identity, addresses) = (Identity::generate().unwrap(), vec![address.parse().unwrap()]);
        let (engine, local) = RtcEngine::new(now, &identity, &bases(&addresses), role).unwrap();
        Self { engine, local, identity, addresses, dtls_client, connected: false, ended: false }
    }

    /// What the other side's engine is told of this one.
    fn transport(&self) -> RemoteTransport {
        let candidate = |(n, a): (usize, &SocketAddr)| {
            format!("candidate:{n} 1 udp {} {} {} typ host", 2_000_000_000 - n, a.ip(), a.port())
        };
        RemoteTransport {
            ufrag: self.local.ufrag.clone(),
            password: self.local.password.clone(),
            fingerprints: vec![self.identity.fingerprint()],
            dtls_client: !self.dtls_client,
            candidates: self.addresses.iter().enumerate().map(candidate).collect(),
        }
    }
}

/// The daemon, which called and sends, and a viewer, over a network without loss or delay in which addresses can go dead.
struct Net {
    now: Instant,
    sides: [Side; 2],
    dead: HashSet<SocketAddr>,
    /// The viewer's own address and what a translator makes of it.
    translated: Option<(SocketAddr, SocketAddr)>,
    index: u64,
    /// Signs of life at each side.
    heard: [u32; 2],
    /// Opens the media at the viewer's.
    receiver: Option<rtc_srtp::context::Context>,
}

impl Net {
    fn new(daemon_opens: bool) -> Self {
        let now = Instant::now();
        let mut daemon = Side::new(now, "192.0.2.1:8889", IceRole::Controlling, daemon_opens);
        let mut viewer = Side::new(now, "198.51.100.7:40000", IceRole::Controlled, !daemon_opens);
        daemon.engine.start(now, &viewer.transport()).unwrap();
        viewer.engine.start(now, &daemon.transport()).unwrap();
        Self {
            now,
            sides: [daemon, viewer],
            dead: HashSet::new(),
            translated: None,
            index: 0,
            heard: [0; 2],
            receiver: None,
        }
    }

    fn connected() -> Self {
        let mut net = Self::new(false);
        assert!(net.run(400, Net::has_settled));
        net
    }

    fn has_settled(&self) -> bool {
        self.sides
            .iter()
            .all(|side| side.connected && side.engine.fresh.is_none() && side.engine.checks.selected().is_some())
    }

    fn step(&mut self) {
        self.now += STEP;
        for n in [0, 1] {
            if self.sides[n].engine.poll_timeout().is_some_and(|due| due <= self.now) {
                self.sides[n].engine.handle_timeout(self.now);
            }
        }
        // Answers to answers: until nobody has anything to say.
        while let Some((n, transmit)) =
            [0, 1].into_iter().find_map(|n| Some((n, self.sides[n].engine.poll_transmit()?)))
        {
            self.deliver(1 - n, transmit.path, &transmit.data);
        }
        for side in &mut self.sides {
            while let Some(event) = side.engine.poll_event() {
                side.connected |= matches!(event, EngineEvent::Connected);
                side.ended |= matches!(event, EngineEvent::Ended(_));
            }
        }
    }

    fn deliver(&mut self, to: usize, path: Path, data: &[u8]) -> bool {
        let Some(path) = self.way(to, path) else { return false };
        let heard = self.sides[to].engine.handle_datagram(self.now, path, data);
        self.heard[to] += u32::from(heard);
        heard
    }

    /// How a datagram arrives that left along `path`, if it does.
    fn way(&self, to: usize, path: Path) -> Option<Path> {
        let (mut from, mut at) = (path.local, path.remote);
        if let Some((inside, outside)) = self.translated {
            from = if from == inside { outside } else { from };
            at = if at == outside { inside } else { at };
            if path.remote == inside {
                return None;
            }
        }
        let alive = |address| !self.dead.contains(address);
        let arrives = alive(&path.local) && alive(&path.remote) && self.sides[to].addresses.contains(&at);
        arrives.then_some(Path::udp(at, from))
    }

    /// Lets steps pass until `done`; returns whether it came to that.
    fn run(&mut self, steps: u32, done: impl Fn(&Self) -> bool) -> bool {
        (0..steps).any(|_| {
            self.step();
            done(self)
        })
    }

    /// Sends a packet of media from the daemon; returns whether it arrived, in which case the viewer must have been able to open it.
    fn media(&mut self) -> bool {
        self.index += 1;
        let mut packet = vec![0x80, 96];
        packet.extend((self.index as u16).to_be_bytes());
        packet.extend([0, 0, 0, 1, 0, 0, 0, 2]);
        packet.extend(b"picture");
        packet.resize(packet.len() + self.sides[0].engine.tag_length(), 0);
        assert!(self.sides[0].engine.seal(&mut packet, 12, self.index));
        let path = self.sides[0].engine.path().unwrap();
        if self.way(1, path).is_none() {
            return false;
        }
        let handshake = self.sides[1].engine.handshake.as_ref().unwrap();
        let receiver = self.receiver.get_or_insert_with(|| handshake.receiver().unwrap());
        assert_eq!(&receiver.decrypt_rtp(&packet).unwrap()[12..], b"picture");
        true
    }

    /// Has the viewer restart from `address`, as by an offer and its answer.
    fn restart(&mut self, address: &str) -> Result<(), TransportError> {
        let address = address.parse().unwrap();
        self.sides[1].addresses.push(address);
        for side in &mut self.sides {
            side.local = LocalTransport::random();
        }
        let mut transport = self.sides[1].transport();
        transport.candidates.retain(|candidate| candidate.contains(&address.ip().to_string()));
        let of_daemon = self.sides[0].transport();
        let (local, addresses) = (self.sides[0].local.clone(), self.sides[0].addresses.clone());
        self.sides[0].engine.restart(self.now, &transport, local, &bases(&addresses))?;
        let local = self.sides[1].local.clone();
        self.sides[1].engine.restart(self.now, &of_daemon, local, &[address.into()])
    }
}

#[test]
fn two_engines_connect_whoever_opens() {
    for daemon_opens in [true, false] {
        let mut net = Net::new(daemon_opens);
        assert!(net.run(400, Net::has_settled));
        assert!(net.media());
        let report = [0x80, 201, 0, 1, 0, 0, 0, 1];
        let protected = net.sides[1].engine.protect_rtcp(&report).unwrap();
        let path = net.sides[1].engine.path().unwrap();
        assert!(net.deliver(0, path, &protected), "what comes along the path is a sign of life");
    }
}

#[test]
fn a_conflict_of_roles_is_repaired() {
    for role in [IceRole::Controlling, IceRole::Controlled] {
        let now = Instant::now();
        let mut daemon = Side::new(now, "192.0.2.1:8889", role, false);
        let mut viewer = Side::new(now, "198.51.100.7:40000", role, true);
        daemon.engine.start(now, &viewer.transport()).unwrap();
        viewer.engine.start(now, &daemon.transport()).unwrap();
        let mut net = Net {
            now,
            sides: [daemon, viewer],
            dead: HashSet::new(),
            translated: None,
            index: 0,
            heard: [0; 2],
            receiver: None,
        };
        assert!(net.run(1_000, Net::has_settled), "both {role:?}");
        assert_ne!(net.sides[0].engine.checks.role(), net.sides[1].engine.checks.role());
    }
}

#[test]
fn a_restart_moves_media_without_a_gap() {
    let mut net = Net::connected();
    let before = net.sides[0].engine.path().unwrap();
    net.restart("203.0.113.5:50000").unwrap();
    let mut moved = false;
    for _ in 0..400 {
        assert!(net.media(), "each packet arrives and can be opened");
        assert!(!moved || net.sides[0].engine.path() != Some(before), "there is no way back");
        net.step();
        moved |= net.sides[0].engine.path() != Some(before);
    }
    assert!(moved && net.has_settled());
    assert_eq!(net.sides[0].engine.path().unwrap().remote.to_string(), "203.0.113.5:50000");
    // The former address may die, and consent goes on along the present path.
    net.dead.insert(before.remote);
    let path = net.sides[0].engine.path().unwrap();
    let heard = net.heard;
    for _ in 0..2_000 {
        net.step();
        assert!(net.media());
    }
    assert_eq!(net.sides[0].engine.path(), Some(path));
    assert!((2..20).contains(&(net.heard[0] - heard[0])), "signs of life in ten seconds: {:?}", net.heard);
    assert!(!net.sides.iter().any(|side| side.ended));
}

#[test]
fn after_a_restart_the_former_credentials_are_refused() {
    let mut net = Net::connected();
    // A check of the viewer's, kept back.
    net.sides[1].engine.handle_timeout(net.now + Duration::from_secs(3));
    let mut old = std::iter::from_fn(|| net.sides[1].engine.poll_transmit())
        .filter(|t| crate::session::engine::stun::is_request(&t.data));
    let old = old.next().expect("consent is asked for");
    assert!(net.deliver(0, old.path, &old.data), "they are good so far");
    net.restart("203.0.113.5:50000").unwrap();
    assert!(net.deliver(0, old.path, &old.data), "and while the restart has found nothing");
    assert!(net.run(400, Net::has_settled));
    while net.sides[0].engine.poll_transmit().is_some() {}
    assert!(!net.deliver(0, old.path, &old.data));
    assert!(net.sides[0].engine.poll_transmit().is_none(), "nor answered");
}

#[test]
fn a_restart_that_finds_nothing_leaves_the_path_as_it_is() {
    let mut net = Net::connected();
    let before = net.sides[0].engine.path();
    net.dead.insert("203.0.113.5:50000".parse().unwrap());
    net.restart("203.0.113.5:50000").unwrap();
    for _ in 0..12_000 {
        net.step();
        assert!(net.media());
    }
    assert_eq!(net.sides[0].engine.path(), before);
    assert!(net.sides[0].engine.fresh.is_some());
    let (path, now) = (net.sides[1].engine.path().unwrap(), net.now);
    net.sides[1].engine.handle_timeout(now + CONSENT);
    let check = std::iter::from_fn(|| net.sides[1].engine.poll_transmit()).find(|transmit| transmit.path == path);
    assert!(net.deliver(0, path, &check.expect("consent is asked for").data), "which is a sign of life");
}

/// Longer than between two checks of consent.
const CONSENT: Duration = Duration::from_secs(3);

#[test]
fn a_called_viewer_is_followed_to_the_address_that_it_has_now() {
    let mut net = Net::connected();
    let outside = "203.0.113.9:61000".parse().unwrap();
    net.run(1_000, |_| false);
    net.translated = Some((net.sides[1].addresses[0], outside));
    assert!(!net.media());
    let path = |net: &Net| net.sides[0].engine.path().unwrap().remote;
    assert!(net.run(2_000, |net| path(net) == outside), "before the session is given up for silence");
    let heard = net.heard[0];
    for _ in 0..4_000 {
        net.step();
        assert!(net.media());
    }
    assert!((4..40).contains(&(net.heard[0] - heard)), "signs of life in twenty seconds: {:?}", net.heard);
}

#[test]
fn datagrams_alone_restart_nothing() {
    let mut net = Net::connected();
    let before = net.sides[0].engine.path();
    // The viewer has restarted, but nobody told the daemon: its checks have a name that nobody gave them.
    let of_daemon = RemoteTransport { ufrag: LocalTransport::random().ufrag, ..net.sides[0].transport() };
    let elsewhere = ["203.0.113.5:50000".parse().unwrap()];
    net.sides[1].addresses.extend(elsewhere);
    net.sides[1].engine.restart(net.now, &of_daemon, LocalTransport::random(), &bases(&elsewhere)).unwrap();
    for _ in 0..1_000 {
        net.step();
        assert!(net.media() && net.sides[0].engine.fresh.is_none());
    }
    assert_eq!(net.sides[0].engine.path(), before);
    assert!(!net.sides[0].engine.has_validated(Path::udp(elsewhere[0], elsewhere[0]).end()));
}

#[test]
fn a_restart_before_the_connection_comes_about() {
    for steps in [0, 1, 2, 5] {
        let mut net = Net::new(false);
        // The first address leads nowhere but for these steps.
        net.run(steps, |_| false);
        net.dead.insert(net.sides[1].addresses[0]);
        net.restart("203.0.113.5:50000").unwrap();
        assert!(net.run(1_000, Net::has_settled), "after {steps} steps");
        assert!(net.media());
    }
}

#[test]
fn only_a_restart_is_taken_for_one_and_a_flood_is_bounded() {
    let mut net = Net::connected();
    let stranger = Identity::generate().unwrap();
    let (now, addresses) = (net.now, bases(&net.sides[0].addresses));
    let of_viewer = net.sides[1].transport();
    let engine = &mut net.sides[0].engine;
    let mut restart = |now, remote: &RemoteTransport| engine.restart(now, remote, LocalTransport::random(), &addresses);
    assert_eq!(restart(now, &of_viewer), Err(TransportError::SameCredentials));
    let fresh = || RemoteTransport { ufrag: LocalTransport::random().ufrag, ..of_viewer.clone() };
    let other = RemoteTransport { fingerprints: vec![stranger.fingerprint()], ..fresh() };
    assert_eq!(restart(now, &other), Err(TransportError::OtherCertificate));
    let taken = (0..100).filter(|_| restart(now, &fresh()).is_ok()).count();
    assert_eq!(taken, MOST_RESTARTS as usize);
    assert!(restart(now + RESTARTS_WITHIN, &fresh()).is_ok());
    let engine = &mut net.sides[0].engine;
    engine.close(now);
    assert_eq!(engine.restart(now, &fresh(), LocalTransport::random(), &addresses), Err(TransportError::NotRunning));
    let (mut engine, _) = RtcEngine::new(now, &stranger, &addresses, IceRole::Controlled).unwrap();
    assert_eq!(engine.restart(now, &fresh(), LocalTransport::random(), &addresses), Err(TransportError::NotRunning));
}

#[test]
fn candidates_go_to_the_credentials_that_they_name() {
    let mut net = Net::connected();
    let before = net.sides[1].local.ufrag.clone();
    net.dead.insert("203.0.113.5:50000".parse().unwrap());
    net.restart("203.0.113.5:50000").unwrap();
    let fresh = net.sides[1].local.ufrag.clone();
    let engine = &mut net.sides[0].engine;
    let counts =
        |engine: &RtcEngine| (engine.checks.count_addresses(), engine.fresh.as_ref().unwrap().count_addresses());
    let (old, new) = counts(engine);
    let candidate =
        |n: u8, rest: &str| format!("candidate:1 1 udp 2113937151 203.0.113.{n} 9 typ host generation 0{rest}");
    engine.add_remote_candidate(&candidate(20, &format!(" ufrag {before} network-cost 999")));
    assert_eq!(counts(engine), (old + 1, new));
    engine.add_remote_candidate(&candidate(21, &format!(" ufrag {fresh}")));
    engine.add_remote_candidate(&candidate(22, ""));
    assert_eq!(counts(engine), (old + 1, new + 2));
    engine.add_remote_candidate(&candidate(23, " ufrag nobody"));
    assert_eq!(counts(engine), (old + 1, new + 2));
}

/// Prints what a connected session costs a second, but for its media.
#[test]
#[ignore = "a measurement, not a check"]
fn cost_of_a_session() {
    let mut net = Net::connected();
    let begun = Instant::now();
    for _ in 0..1_000_000 {
        std::hint::black_box(net.sides[0].engine.poll_timeout());
    }
    eprintln!("poll_timeout {:?}", begun.elapsed() / 1_000_000);

    // A report block and transport-wide feedback on the 26 packets that 2.5 Mbit/s have in 100 ms.
    let mut report = vec![0x81, 201, 0, 7, 0, 0, 0, 1, 0, 0, 0, 2];
    report.extend([0; 20]);
    let mut transport = vec![0xaf, 205, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 100, 0, 26, 0, 0, 1, 0, 0x20, 26];
    transport.extend([1; 26]);
    transport.resize(transport.len().next_multiple_of(4), 0);
    transport[3] = (transport.len() / 4 - 1) as u8;
    let compound = [report, transport].concat();
    const COUNT: u32 = 50_000;
    let path = net.sides[0].engine.path().unwrap();
    let datagrams: Vec<_> = (0..COUNT).map(|_| net.sides[1].engine.protect_rtcp(&compound).unwrap()).collect();
    let (now, engine) = (net.now, &mut net.sides[0].engine);
    let begun = Instant::now();
    let mut events = 0;
    for datagram in &datagrams {
        assert!(engine.handle_datagram(now, path, datagram));
        while let Some(event) = engine.poll_event() {
            std::hint::black_box(event);
            events += 1;
        }
    }
    eprintln!("RTCP of {} bytes {:?}, {} events each", datagrams[0].len(), begun.elapsed() / COUNT, events / COUNT);

    let (mut due, mut answers, mut spent) = (Duration::ZERO, 0u32, [Duration::ZERO; 2]);
    const ROUNDS: u32 = 2_000;
    for _ in 0..ROUNDS {
        due += Duration::from_secs(2);
        let begun = Instant::now();
        net.sides[0].engine.handle_timeout(now + due);
        spent[0] += begun.elapsed();
        net.sides[1].engine.handle_timeout(now + due);
        for from in [0, 1, 0, 1] {
            while let Some(transmit) = net.sides[from].engine.poll_transmit() {
                let path = Path::udp(transmit.path.remote, transmit.path.local);
                let begun = Instant::now();
                net.sides[1 - from].engine.handle_datagram(now + due, path, &transmit.data);
                while net.sides[1 - from].engine.poll_event().is_some() {}
                if from == 1 {
                    answers += 1;
                    spent[1] += begun.elapsed();
                }
            }
        }
    }
    eprintln!(
        "consent {:?} a round of 2 s, {:?} each STUN message ({answers} in {ROUNDS} rounds)",
        spent[0] / ROUNDS,
        spent[1] / answers
    );
    let report = [0x80, 201, 0, 1, 0, 0, 0, 1];
    let begun = Instant::now();
    for _ in 0..COUNT {
        std::hint::black_box(net.sides[0].engine.protect_rtcp(&report));
    }
    eprintln!("protect_rtcp {:?}", begun.elapsed() / COUNT);
}
