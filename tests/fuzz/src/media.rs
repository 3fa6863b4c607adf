//! The engine's entry: what comes to a session from the network, from whoever knows its ICE password to whoever does not.
//!
//! The input is a list of steps, see [`step`]. No handshake can be finished, as nobody here has the viewer's key: a session never gets connected.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use laterna::session::engine::identity::Identity;
use laterna::session::engine::rtc::RtcEngine;
use laterna::session::engine::{
    Base, Engine, EngineEvent, IceRole, LocalTransport, Path, Protocol, RemoteTransport, Transmit, stun,
};
use laterna::session::relay::wire::{BINDING, Class, Transaction, Writer, attribute};
use laterna::session::tcp::frames::{Frames, LARGEST};
use rtc_crypto::RTCCryptoProvider;

use super::input::{Input, start};

const OURS: (&str, &str) = ("ours", "0123456789012345678901");
const THEIRS: (&str, &str) = ("them", "abcdefghijabcdefghijab");
const PRIORITY: u16 = 0x0024;
const USE_CANDIDATE: u16 = 0x0025;
const ICE_CONTROLLED: u16 = 0x8029;
const ICE_CONTROLLING: u16 = 0x802a;
const DTLS_HANDSHAKE: u8 = 22;
/// Steps of one run.
const MOST_STEPS: usize = 64;
/// Datagrams that one step may have the engine send: its queues are bounded by as many.
const MOST_SENT: usize = 1024;

pub fn run(data: &[u8]) {
    framed(data);
    let mut input = Input(data);
    let mut stage = Stage::new(input.byte());
    for _ in 0..MOST_STEPS {
        if input.is_empty() {
            break;
        }
        step(&mut stage, &mut input);
        stage.drain();
    }
}

struct Stage {
    engine: RtcEngine,
    crypto: Arc<dyn RTCCryptoProvider>,
    now: Instant,
    sent: Vec<Transmit>,
    password: String,
}

fn identity() -> &'static Identity {
    static IDENTITY: OnceLock<Identity> = OnceLock::new();
    IDENTITY.get_or_init(|| Identity::generate().unwrap())
}

fn bases() -> [Base; 2] {
    let address = |text: &str| -> SocketAddr { text.parse().unwrap() };
    [address("192.0.2.1:8889").into(), Base { address: address("203.0.113.5:50000"), is_relayed: true }]
}

fn remote(candidates: Vec<String>, (ufrag, password): (&str, &str), dtls_client: bool) -> RemoteTransport {
    let (ufrag, password) = (ufrag.to_owned(), password.to_owned());
    RemoteTransport { ufrag, password, fingerprints: vec![identity().fingerprint()], dtls_client, candidates }
}

impl Stage {
    fn new(kind: u8) -> Self {
        let (now, (ufrag, password)) = (start(), OURS);
        let role = if kind & 1 == 0 { IceRole::Controlled } else { IceRole::Controlling };
        let local = LocalTransport { ufrag: ufrag.to_owned(), password: password.to_owned() };
        let mut engine = RtcEngine::with_credentials(now, identity(), &bases(), local, role).unwrap();
        let known = vec!["candidate:1 1 udp 2113937151 198.51.100.7 40000 typ host".to_owned()];
        let known = if kind & 4 == 0 { Vec::new() } else { known };
        engine.start(now, &remote(known, THEIRS, kind & 2 != 0)).unwrap();
        let crypto = identity().crypto();
        Self { engine, crypto, now, sent: Vec::new(), password: password.to_owned() }
    }

    fn drain(&mut self) {
        let locals = bases().map(|base| base.address);
        let mut sent = Vec::new();
        while let Some(transmit) = self.engine.poll_transmit() {
            assert!(locals.contains(&transmit.path.local), "{:?} is not ours", transmit.path.local);
            assert!((1..=LARGEST).contains(&transmit.data.len()), "{} bytes", transmit.data.len());
            sent.push(transmit);
            assert!(sent.len() <= MOST_SENT, "it sends without end");
        }
        if !sent.is_empty() {
            self.sent = sent;
        }
        for _ in 0..=MOST_SENT {
            match self.engine.poll_event() {
                None => return,
                Some(EngineEvent::Connected | EngineEvent::Feedback(_)) => panic!("connected without a key"),
                Some(EngineEvent::Address(_) | EngineEvent::Ended(_)) => {}
            }
        }
        panic!("events without end");
    }

    fn pass(&mut self, pause: Duration) {
        self.now += pause;
        self.engine.handle_timeout(self.now);
        self.drain();
        let due = self.engine.poll_timeout();
        assert!(due.is_none_or(|due| due > self.now), "what is due is done");
    }

    fn hears(&mut self, path: Path, datagram: &[u8]) {
        self.engine.handle_datagram(self.now, path, datagram);
    }
}

fn path(byte: u8) -> Path {
    let [base, relay] = bases().map(|base| base.address);
    let remote = match byte >> 4 {
        15 => SocketAddr::from(([198, 51, 100, 7], 5353)),
        14 => "[2001:db8::7]:40000".parse().unwrap(),
        number => SocketAddr::from(([198, 51, 100, 7], 40000 + u16::from(number))),
    };
    let protocol = if byte & 1 == 0 { Protocol::Udp } else { Protocol::Tcp };
    Path { protocol, local: if byte & 2 == 0 { base } else { relay }, remote }
}

/// Takes a step: its kind, then what that needs.
fn step(stage: &mut Stage, input: &mut Input<'_>) {
    match input.byte() % 10 {
        0 => {
            let at = path(input.byte());
            stage.hears(at, input.chunk());
        }
        1 => {
            let at = path(input.byte());
            let request = request(stage, input);
            stage.hears(at, &request);
        }
        2 => answer(stage, input),
        3 => {
            let (at, kind, epoch) = (path(input.byte()), input.byte(), input.word());
            let record = record(kind, epoch, input.chunk());
            stage.hears(at, &record);
        }
        4 => {
            let at = path(input.byte());
            let fragment = fragment(input);
            stage.hears(at, &record(DTLS_HANDSHAKE, 0, &fragment));
        }
        5 => {
            let (at, kind) = (path(input.byte()), input.byte());
            let packet = [&[0x80 | kind >> 5, 192 | kind & 31], input.chunk()].concat();
            stage.hears(at, &packet);
        }
        6 | 7 => {
            let pause = Duration::from_millis(input.word().into());
            stage.pass(pause);
        }
        8 => {
            let candidate = String::from_utf8_lossy(input.chunk());
            stage.engine.add_remote_candidate(&candidate);
        }
        _ => restart(stage, input),
    }
}

/// A connectivity check, signed by whoever knows the password.
fn request(stage: &Stage, input: &mut Input<'_>) -> Vec<u8> {
    let (flags, transaction) = (input.byte(), [input.byte(); 12]);
    let mut writer = Writer::new(Class::Request, BINDING, &transaction);
    if flags & 1 == 0 {
        writer = writer.with(attribute::USERNAME, format!("{}:{}", OURS.0, THEIRS.0).as_bytes());
    }
    if flags & 2 == 0 {
        writer = writer.with(PRIORITY, &[0x6e, 0, 1, 0xff]);
    }
    if flags & 4 == 0 {
        let role = if flags & 8 == 0 { ICE_CONTROLLING } else { ICE_CONTROLLED };
        writer = writer.with(role, &u64::from(input.byte()).to_be_bytes());
    }
    if flags & 16 != 0 {
        writer = writer.with(USE_CANDIDATE, &[]);
    }
    if flags & 32 != 0 {
        let kind = input.word();
        writer = writer.with(kind, input.chunk());
    }
    let signed = writer.signed(stage.password.as_bytes(), stage.crypto.crypto()).into_bytes();
    assert!(stun::is_request(&signed) && stun::nominates(&signed) >= (flags & 16 != 0));
    signed
}

/// The viewer's answer to a check of the daemon's, or one that is signed by nobody.
fn answer(stage: &mut Stage, input: &mut Input<'_>) {
    let (which, flags, at) = (usize::from(input.byte()), input.byte(), input.byte());
    let checks: Vec<_> = stage.sent.iter().filter(|transmit| stun::is_request(&transmit.data)).collect();
    let Some(check) = checks.get(which % checks.len().max(1)) else { return };
    let path = if flags & 1 == 0 { check.path } else { path(at) };
    let transaction: Transaction = *stun::transaction(&check.data).unwrap();
    let class = if flags & 2 == 0 { Class::Success } else { Class::Error };
    let mut writer = Writer::new(class, BINDING, &transaction);
    if flags & 4 == 0 {
        writer = writer.with_address(attribute::XOR_MAPPED_ADDRESS, check.path.local);
    }
    if flags & 2 != 0 {
        writer = writer.with(attribute::ERROR_CODE, &[0, 0, at >> 4, at & 15, b'n', b'o']);
    }
    let key = if flags & 8 == 0 { THEIRS.1 } else { OURS.1 };
    let message = writer.signed(key.as_bytes(), stage.crypto.crypto()).into_bytes();
    stage.hears(path, &message);
}

fn restart(stage: &mut Stage, input: &mut Input<'_>) {
    let (flags, candidate) = (input.byte(), String::from_utf8_lossy(input.chunk()).into_owned());
    let password = format!("fresh{:03}{}", flags, THEIRS.1);
    let local = LocalTransport { ufrag: format!("{}{flags}", OURS.0), password: OURS.1.to_owned() };
    let remote = remote(vec![candidate], ("again", &password), flags & 1 != 0);
    // Too many are refused.
    let _ = stage.engine.restart(stage.now, &remote, local, &bases());
}

fn record(kind: u8, epoch: u16, body: &[u8]) -> Vec<u8> {
    let mut record = vec![kind, 0xfe, 0xfd];
    record.extend(epoch.to_be_bytes());
    record.extend([0; 6]);
    record.extend((body.len() as u16).to_be_bytes());
    record.extend(body);
    record
}

fn fragment(input: &mut Input<'_>) -> Vec<u8> {
    let (kind, sequence, total, offset, body) = (input.byte(), input.byte(), input.word(), input.word(), input.chunk());
    let three = |number: usize| (number as u32).to_be_bytes()[1..].to_vec();
    let length = three(if total & 0x8000 == 0 { body.len() } else { usize::from(total & 0x7fff) });
    let total = if total == 0 { body.len() } else { usize::from(total & 0x7fff) };
    [&[kind][..], &three(total), &[0, sequence], &three(offset.into()), &length, body].concat()
}

/// Frames of a TCP connection: the same packets however the bytes are cut, each of a lawful length.
fn framed(data: &[u8]) {
    let packets = |step: usize| {
        let (mut frames, mut found) = (Frames::default(), Vec::new());
        for chunk in data.chunks(step) {
            frames.buffer().extend_from_slice(chunk);
            loop {
                match frames.poll_packet() {
                    Ok(Some(packet)) => found.push(packet),
                    Ok(None) => break,
                    Err(_) => return found,
                }
            }
        }
        found
    };
    let whole = packets(data.len().max(1));
    assert!(whole.iter().all(|packet| (1..=LARGEST).contains(&packet.len())));
    assert_eq!(whole, packets(usize::from(data.first().copied().unwrap_or(1)).max(1)));
}
