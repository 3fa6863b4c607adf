//! A TURN server's words, as hostile as they may be: messages, framing on streams, and one allocation over a play of replies.
//!
//! The first byte chooses datagrams or a stream; the rest is a list of steps, see [`step`].

use std::cell::Cell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use laterna::ice_server::Login;
use laterna::session::relay::allocation::Allocation;
use laterna::session::relay::credentials::long_term_key;
use laterna::session::relay::wire::{
    ALLOCATE, BINDING, CHANNEL_BIND, CREATE_PERMISSION, Class, DATA, Message, REFRESH, Transaction, Writer, attribute,
    channel_data, frame,
};
use rtc_crypto::RTCCryptoProvider;

use super::input::{Input, start};

const LOGIN: (&str, &str) = ("user", "secret");
const REALM: &[u8] = b"a.test";
/// Bytes of the longest message on a stream.
const LARGEST: usize = 4096;
const MOST_STEPS: usize = 128;
/// Requests that a server may leave unanswered at a time; more is forgotten here.
const MOST_OPEN: usize = 64;

thread_local! {
    static DRAWN: Cell<u64> = const { Cell::new(0) };
}

/// Names of requests in a row, so that each run is the same.
fn draw() -> Transaction {
    let number = DRAWN.with(|drawn| drawn.replace(drawn.get() + 1));
    let mut transaction = [0x55; 12];
    transaction[4..].copy_from_slice(&number.to_be_bytes());
    transaction
}

pub fn run(data: &[u8]) {
    stream(data);
    DRAWN.with(|drawn| drawn.set(0));
    let mut input = Input(data);
    let mut stage = Stage::new(input.byte() & 1 == 1);
    for _ in 0..MOST_STEPS {
        if input.is_empty() {
            break;
        }
        step(&mut stage, &mut input);
        stage.drain();
    }
}

struct Stage {
    allocation: Allocation,
    crypto: Arc<dyn RTCCryptoProvider>,
    key: Vec<u8>,
    now: Instant,
    /// What the server was asked and has not answered: method and name.
    open: Vec<(u16, Transaction)>,
}

impl Stage {
    fn new(on_stream: bool) -> Self {
        let (crypto, now) = (rtc_crypto::default_provider().unwrap(), start());
        let (username, password) = (LOGIN.0.to_owned(), LOGIN.1.to_owned());
        let allocation = Allocation::new(now, crypto.clone(), Login { username, password }, on_stream, draw);
        let key = long_term_key(LOGIN.0, REALM, LOGIN.1, crypto.crypto()).unwrap();
        let mut stage = Self { allocation, crypto, key, now, open: Vec::new() };
        stage.drain();
        stage
    }

    /// What it sends is well formed, and what it asks is remembered.
    fn drain(&mut self) {
        let mut sent = 0;
        while let Some(bytes) = self.allocation.poll_transmit() {
            let message = Message::parse(&bytes).unwrap_or_else(|| panic!("no message: {bytes:?}"));
            assert!(matches!(message.method, BINDING | ALLOCATE | REFRESH | CREATE_PERMISSION | CHANNEL_BIND));
            assert_eq!(message.class, Class::Request);
            let signed = message.attribute(attribute::MESSAGE_INTEGRITY).is_some();
            let named = message.attribute(attribute::NONCE).is_some();
            assert_eq!(signed, named, "signed where the server has asked for it");
            self.open.push((message.method, *bytes[8..].first_chunk().unwrap()));
            sent += 1;
            assert!(sent <= 1024, "it sends without end");
        }
        let forgotten = self.open.len().saturating_sub(MOST_OPEN);
        self.open.drain(..forgotten);
        for _ in 0..=1024 {
            if self.allocation.poll_event().is_none() {
                return;
            }
        }
        panic!("events without end");
    }

    fn hears(&mut self, data: &[u8]) {
        if let Some(message) = read(data) {
            self.allocation.handle_message(self.now, &message);
        }
        if let Some((_, range)) = self.allocation.unwrap(self.now, data) {
            assert!(data.get(range).is_some(), "a payload outside of its message");
        }
    }
}

fn peer(byte: u8) -> SocketAddr {
    match byte >> 6 {
        3 => SocketAddr::from((std::net::Ipv6Addr::from(u128::from(byte)), 4000)),
        _ => SocketAddr::from(([198, 51, 100, byte], 4000 + u16::from(byte & 1))),
    }
}

/// Takes a step: its kind, then what that needs.
fn step(stage: &mut Stage, input: &mut Input<'_>) {
    match input.byte() % 8 {
        0..=2 => reply(stage, input),
        3 => stage.hears(input.chunk()),
        4 => {
            stage.now += Duration::from_millis(u64::from(input.word()) * 16);
            stage.allocation.handle_timeout(stage.now);
            let due = stage.allocation.poll_timeout();
            assert!(due.is_none_or(|due| due > stage.now), "what is due is done");
        }
        5 => {
            let (peer, length) = (peer(input.byte()), usize::from(input.word() % 1500));
            if let Some((envelope, is_channel)) = stage.allocation.wrap(stage.now, peer, length) {
                let packet = [envelope.head(), &vec![7; length + envelope.padding]].concat();
                let carried = if is_channel {
                    channel_data(&packet).unwrap().1.len()
                } else {
                    let message = Message::parse(&packet).unwrap();
                    assert_eq!(message.address(attribute::XOR_PEER_ADDRESS), Some(peer));
                    message.attribute(attribute::DATA).unwrap().len()
                };
                assert_eq!(carried, length);
            }
        }
        6 => stage.allocation.want_channel(stage.now, peer(input.byte())),
        _ => {
            let (kind, peer) = (input.byte(), peer(input.byte()));
            let payload = input.chunk();
            let message = if kind & 1 == 0 {
                let number = (0x4000 + u16::from(kind >> 1)).to_be_bytes();
                [&number[..], &(payload.len() as u16).to_be_bytes(), payload].concat()
            } else {
                let indication = Writer::new(Class::Indication, DATA, &[3; 12]);
                indication.with_address(attribute::XOR_PEER_ADDRESS, peer).with(attribute::DATA, payload).into_bytes()
            };
            stage.hears(&message);
        }
    }
}

/// A reply to what was asked, of any kind that a server may think of.
fn reply(stage: &mut Stage, input: &mut Input<'_>) {
    let (which, flags, code) = (usize::from(input.byte()), input.byte(), input.word());
    let Some(&(method, transaction)) = stage.open.get(which % stage.open.len().max(1)) else { return };
    let class = if code == 0 { Class::Success } else { Class::Error };
    let mut writer = Writer::new(class, method, &transaction);
    if code != 0 {
        writer = writer.with(attribute::ERROR_CODE, &[0, 0, (code / 100) as u8, (code % 100) as u8, b'n', 0xff, 7]);
    }
    if flags & 1 != 0 {
        writer = writer.with(attribute::REALM, REALM).with(attribute::NONCE, &[input.byte()]);
    }
    if flags & 2 != 0 {
        writer = writer.with_address(attribute::XOR_RELAYED_ADDRESS, peer(input.byte()));
    }
    if flags & 4 != 0 {
        writer = writer.with_address(attribute::XOR_MAPPED_ADDRESS, peer(input.byte()));
    }
    if flags & 8 != 0 {
        writer = writer.with(attribute::LIFETIME, &input.number().to_be_bytes());
    }
    if flags & 16 != 0 {
        let kind = input.word();
        writer = writer.with(kind, input.chunk());
    }
    let writer = if flags & 32 == 0 { writer.signed(&stage.key, stage.crypto.crypto()) } else { writer };
    stage.open.retain(|(_, open)| *open != transaction || flags & 64 != 0);
    stage.hears(&writer.into_bytes());
}

/// Reads a message in all its parts.
fn read(data: &[u8]) -> Option<Message<'_>> {
    let message = Message::parse(data)?;
    for kind in [attribute::XOR_PEER_ADDRESS, attribute::DATA, attribute::NONCE, attribute::LIFETIME, 0x8022] {
        let range = message.range(kind);
        assert_eq!(range.map(|range| &data[range]), message.attribute(kind));
        let _ = (message.address(kind), message.number(kind));
    }
    let (code, reason) = message.error();
    assert!(code < 1000 && reason.chars().count() <= 128 && !reason.contains(char::is_control));
    Some(message)
}

/// Messages of a stream one after the other: each is as long as it says, and what is cut short is awaited.
fn stream(data: &[u8]) {
    let mut rest = data;
    while let Ok(Some(length)) = frame(rest, LARGEST) {
        assert!((4..=LARGEST).contains(&length));
        let (message, after) = rest.split_at(length);
        assert_eq!(frame(&message[..length - 1], LARGEST), Ok(None));
        if let Some((number, range)) = channel_data(message) {
            assert!((0x4000..0x5000).contains(&number) && range.end <= message.len());
        }
        read(message);
        rest = after;
    }
}
