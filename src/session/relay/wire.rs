//! Messages of STUN and TURN (RFC 8489, section 5; RFC 8656, sections 12, 17 and 18): written and read, nothing decided.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;

use rtc_crypto::{HmacAlgorithm, RTCCrypto};

use crate::session::engine::stun;

/// Which of a pair of messages it is, or one that nobody answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Asks.
    Request,
    /// Is not answered.
    Indication,
    /// Grants.
    Success,
    /// Refuses.
    Error,
}

/// Names one request and its response.
pub type Transaction = [u8; 12];

/// Asks what the server sees (RFC 8489).
pub const BINDING: u16 = 1;
/// Asks for an allocation.
pub const ALLOCATE: u16 = 3;
/// Renews or gives back an allocation.
pub const REFRESH: u16 = 4;
/// Carries a payload to a peer.
pub const SEND: u16 = 6;
/// Carries a payload from a peer.
pub const DATA: u16 = 7;
/// Asks to let a peer's address in.
pub const CREATE_PERMISSION: u16 = 8;
/// Asks for a channel to a peer.
pub const CHANNEL_BIND: u16 = 9;

/// Kinds of attributes.
pub mod attribute {
    /// Who asks.
    pub const USERNAME: u16 = 0x0006;
    /// What the message is signed with.
    pub const MESSAGE_INTEGRITY: u16 = 0x0008;
    /// Why a request is refused.
    pub const ERROR_CODE: u16 = 0x0009;
    /// A channel.
    pub const CHANNEL_NUMBER: u16 = 0x000c;
    /// Seconds that an allocation lasts.
    pub const LIFETIME: u16 = 0x000d;
    /// A peer.
    pub const XOR_PEER_ADDRESS: u16 = 0x0012;
    /// A payload.
    pub const DATA: u16 = 0x0013;
    /// Where the user is known.
    pub const REALM: u16 = 0x0014;
    /// What the server wants said again.
    pub const NONCE: u16 = 0x0015;
    /// An address at the relay.
    pub const XOR_RELAYED_ADDRESS: u16 = 0x0016;
    /// What the relay is to carry.
    pub const REQUESTED_TRANSPORT: u16 = 0x0019;
    /// Where the server sees the sender.
    pub const XOR_MAPPED_ADDRESS: u16 = 0x0020;
}

const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const HEADER: usize = 20;
/// Bytes of the value of MESSAGE-INTEGRITY.
const TAG: usize = 20;

/// A message that is being written; its length is always that of what it has.
#[derive(Debug)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// Begins a message without attributes.
    pub fn new(class: Class, method: u16, transaction: &Transaction) -> Self {
        let class = match class {
            Class::Request => 0,
            Class::Indication => 0x10,
            Class::Success => 0x100,
            Class::Error => 0x110,
        };
        let mut bytes = Vec::with_capacity(160);
        bytes.extend((class | method).to_be_bytes());
        bytes.extend([0, 0]);
        bytes.extend(COOKIE);
        bytes.extend(transaction);
        Self(bytes)
    }

    /// Adds an attribute, and the padding behind it.
    pub fn with(mut self, kind: u16, value: &[u8]) -> Self {
        self.0.extend(kind.to_be_bytes());
        self.0.extend((value.len() as u16).to_be_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        let length = self.0.len() - HEADER;
        self.set_length(length);
        self
    }

    /// Adds an address (RFC 8489, section 14.2).
    pub fn with_address(self, kind: u16, address: SocketAddr) -> Self {
        let (value, length) = xor_address(address, &self.0[8..HEADER]);
        self.with(kind, &value[..length])
    }

    /// Adds the integrity of all that is there (RFC 8489, section 14.5); without it where the system has no such hash, which the server refuses.
    pub fn signed(mut self, key: &[u8], crypto: &dyn RTCCrypto) -> Self {
        let mut tag = [0; TAG];
        self.set_length(self.0.len() - HEADER + 4 + TAG);
        let signed =
            crypto.new_hmac(HmacAlgorithm::Sha1, key).and_then(|mut mac| mac.sign(&[&self.0], &mut tag)).is_ok();
        if signed { self.with(attribute::MESSAGE_INTEGRITY, &tag) } else { self }
    }

    /// The message.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn set_length(&mut self, length: usize) {
        self.0[2..4].copy_from_slice(&(length as u16).to_be_bytes());
    }
}

/// An address as attributes have it: its bytes and how many they are.
fn xor_address(address: SocketAddr, transaction: &[u8]) -> ([u8; 20], usize) {
    let mut value = [0; 20];
    let port = address.port().to_be_bytes();
    let mask = COOKIE.iter().chain(transaction);
    (value[2], value[3]) = (port[0] ^ COOKIE[0], port[1] ^ COOKIE[1]);
    let fill = |value: &mut [u8; 20], family, ip: &[u8]| {
        value[1] = family;
        for ((out, byte), mask) in value[4..].iter_mut().zip(ip).zip(mask) {
            *out = byte ^ mask;
        }
        4 + ip.len()
    };
    let length = match address.ip() {
        IpAddr::V4(ip) => fill(&mut value, 1, &ip.octets()),
        IpAddr::V6(ip) => fill(&mut value, 2, &ip.octets()),
    };
    (value, length)
}

/// A message that came, its header checked.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    data: &'a [u8],
    /// Its class.
    pub class: Class,
    /// Its method.
    pub method: u16,
}

impl<'a> Message<'a> {
    /// Reads the header; `None` where it is no such message, or none that this client knows.
    pub fn parse(data: &'a [u8]) -> Option<Self> {
        let header: &[u8; HEADER] = data.first_chunk()?;
        let kind = u16::from_be_bytes([header[0], header[1]]);
        let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
        if header[4..8] != COOKIE || length % 4 != 0 || data.len() != HEADER + length {
            return None;
        }
        let class = match kind & 0xfff0 {
            0 => Class::Request,
            0x10 => Class::Indication,
            0x100 => Class::Success,
            0x110 => Class::Error,
            _ => return None,
        };
        Some(Self { data, class, method: kind & 0xf })
    }

    /// The request that it belongs to.
    pub fn is_of(&self, transaction: &Transaction) -> bool {
        self.data[8..HEADER] == *transaction
    }

    /// An attribute's value; the first where it is there twice.
    pub fn attribute(&self, kind: u16) -> Option<&'a [u8]> {
        stun::find(self.data, kind).map(|(_, value)| value)
    }

    /// Where in the message an attribute's value is.
    pub fn range(&self, kind: u16) -> Option<Range<usize>> {
        stun::find(self.data, kind).map(|(start, value)| start + 4..start + 4 + value.len())
    }

    /// An attribute that is an address.
    pub fn address(&self, kind: u16) -> Option<SocketAddr> {
        let [0, family, p0, p1, ip @ ..] = self.attribute(kind)? else { return None };
        let port = u16::from_be_bytes([p0 ^ COOKIE[0], p1 ^ COOKIE[1]]);
        // The cookie and the transaction stand side by side in the header.
        let plain = ip.iter().zip(&self.data[4..HEADER]).map(|(byte, mask)| byte ^ mask);
        let mut bytes = [0; 16];
        bytes.iter_mut().zip(plain).for_each(|(out, byte)| *out = byte);
        let ip: IpAddr = match (family, ip.len()) {
            (1, 4) => Ipv4Addr::new(bytes[0], bytes[1], bytes[2], bytes[3]).into(),
            (2, 16) => Ipv6Addr::from(bytes).into(),
            _ => return None,
        };
        Some(SocketAddr::new(ip, port))
    }

    /// An attribute that is a number of four bytes.
    pub fn number(&self, kind: u16) -> Option<u32> {
        self.attribute(kind)?.try_into().ok().map(u32::from_be_bytes)
    }

    /// Why a request was refused: the code, and the server's words.
    pub fn error(&self) -> (u16, String) {
        match self.attribute(attribute::ERROR_CODE) {
            Some([_, _, class, number, reason @ ..]) => {
                let reason: String =
                    String::from_utf8_lossy(reason).chars().filter(|c| !c.is_control()).take(128).collect();
                (u16::from(class & 7) * 100 + u16::from(*number), reason)
            }
            _ => (0, String::new()),
        }
    }

    /// Whether its integrity is that of `key`.
    pub fn is_signed_by(&self, key: &[u8], crypto: &dyn RTCCrypto) -> bool {
        stun::is_signed_by(self.data, key, crypto)
    }
}

/// What stands before a payload on its way to a peer, and how much padding behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Envelope {
    bytes: [u8; Self::MOST],
    length: usize,
    /// Bytes behind the payload.
    pub padding: usize,
}

impl Envelope {
    /// Bytes before a payload at most: of a Send indication to an IPv6 peer.
    const MOST: usize = 48;

    /// ChannelData (RFC 8656, section 12.4): padded on streams only.
    pub fn channel(number: u16, length: usize, on_stream: bool) -> Self {
        let mut bytes = [0; Self::MOST];
        bytes[..2].copy_from_slice(&number.to_be_bytes());
        bytes[2..4].copy_from_slice(&(length as u16).to_be_bytes());
        Self { bytes, length: 4, padding: if on_stream { length.next_multiple_of(4) - length } else { 0 } }
    }

    /// A Send indication (RFC 8656, section 11.1).
    pub fn indication(peer: SocketAddr, length: usize, transaction: &Transaction) -> Self {
        let head = Writer::new(Class::Indication, SEND, transaction).with_address(attribute::XOR_PEER_ADDRESS, peer);
        let mut head = head.into_bytes();
        head.extend(attribute::DATA.to_be_bytes());
        head.extend((length as u16).to_be_bytes());
        let padded = length.next_multiple_of(4);
        let total = head.len() - HEADER + padded;
        head[2..4].copy_from_slice(&(total as u16).to_be_bytes());
        let mut bytes = [0; Self::MOST];
        bytes[..head.len()].copy_from_slice(&head);
        Self { bytes, length: head.len(), padding: padded - length }
    }

    /// What stands before the payload.
    pub fn head(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// The bytes of the first whole message in `data` that came by a stream, padding included (RFC 8656, section 12.5); `None` where more must come.
///
/// # Errors
/// Where no TURN server would send that, or more than `most` bytes.
pub fn frame(data: &[u8], most: usize) -> Result<Option<usize>, NotTurn> {
    let [first, _, l0, l1, ..] = data else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([*l0, *l1]));
    let total = match first >> 6 {
        0 => HEADER + length,
        1 => 4 + length.next_multiple_of(4),
        _ => return Err(NotTurn),
    };
    if total > most {
        return Err(NotTurn);
    }
    Ok((data.len() >= total).then_some(total))
}

/// What came by a stream is nothing that a TURN server sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("what came is no message of TURN: is this a TURN server?")]
pub struct NotTurn;

/// The channel's number and the payload of ChannelData; `None` where it is something else.
pub fn channel_data(data: &[u8]) -> Option<(u16, Range<usize>)> {
    let [n0 @ 0x40..=0x4f, n1, l0, l1, rest @ ..] = data else { return None };
    let length = usize::from(u16::from_be_bytes([*l0, *l1]));
    (length <= rest.len()).then(|| (u16::from_be_bytes([*n0, *n1]), 4..4 + length))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_written_is_read_and_is_signed() {
        let provider = rtc_crypto::default_provider().unwrap();
        let crypto = provider.crypto();
        for peer in ["192.0.2.1:32853", "[2001:db8:1234:5678:11:2233:4455:6677]:32853"] {
            let peer: SocketAddr = peer.parse().unwrap();
            let message = Writer::new(Class::Request, CHANNEL_BIND, &[9; 12])
                .with(attribute::USERNAME, b"eve")
                .with_address(attribute::XOR_PEER_ADDRESS, peer)
                .signed(b"key", crypto)
                .into_bytes();
            let read = Message::parse(&message).unwrap();
            assert_eq!((read.class, read.method, read.is_of(&[9; 12])), (Class::Request, CHANNEL_BIND, true));
            assert_eq!(read.attribute(attribute::USERNAME), Some(&b"eve"[..]));
            assert_eq!(read.address(attribute::XOR_PEER_ADDRESS), Some(peer));
            assert!(read.is_signed_by(b"key", crypto) && !read.is_signed_by(b"kez", crypto));
            for cut in 0..message.len() {
                assert!(Message::parse(&message[..cut]).is_none(), "cut at {cut}");
            }
        }
    }

    /// RFC 5769, section 2.4: the long-term credentials' test vector, whose username is not ASCII.
    #[test]
    fn the_integrity_is_that_of_the_specifications_example() {
        let provider = rtc_crypto::default_provider().unwrap();
        let transaction = [0x78, 0xad, 0x34, 0x33, 0xc6, 0xad, 0x72, 0xc0, 0x29, 0xda, 0x41, 0x2e];
        let user = "\u{30de}\u{30c8}\u{30ea}\u{30c3}\u{30af}\u{30b9}";
        let key =
            super::super::credentials::long_term_key(user, b"example.org", "TheMatrIX", provider.crypto()).unwrap();
        let message = Writer::new(Class::Request, BINDING, &transaction)
            .with(attribute::USERNAME, user.as_bytes())
            .with(attribute::NONCE, b"f//499k954d6OL34oL9FSTvy64sA")
            .with(attribute::REALM, b"example.org")
            .signed(&key, provider.crypto())
            .into_bytes();
        let tag = [
            0xf6, 0x70, 0x24, 0x65, 0x6d, 0xd6, 0x4a, 0x3e, 0x02, 0xb8, 0xe0, 0x71, 0x2e, 0x85, 0xc9, 0xa2, 0x8c, 0xa8,
            0x96, 0x66,
        ];
        assert_eq!(Message::parse(&message).unwrap().attribute(attribute::MESSAGE_INTEGRITY), Some(&tag[..]));
    }

    #[test]
    fn envelopes_are_whole_messages_around_their_payload() {
        for peer in ["192.0.2.1:7", "[2001:db8::1]:7"] {
            let peer: SocketAddr = peer.parse().unwrap();
            for length in 0..9 {
                let envelope = Envelope::indication(peer, length, &[3; 12]);
                let mut message = envelope.head().to_vec();
                message.extend(std::iter::repeat_n(0xaa, length));
                message.extend(std::iter::repeat_n(0, envelope.padding));
                let read = Message::parse(&message).unwrap();
                assert_eq!((read.class, read.method), (Class::Indication, SEND));
                assert_eq!(read.address(attribute::XOR_PEER_ADDRESS), Some(peer));
                assert_eq!(read.attribute(attribute::DATA).unwrap(), vec![0xaa; length]);
                assert_eq!(read.range(attribute::DATA).unwrap().len(), length);
                assert_eq!(frame(&message, 4096), Ok(Some(message.len())));

                let envelope = Envelope::channel(0x4abc, length, true);
                let mut message = envelope.head().to_vec();
                message.extend(std::iter::repeat_n(0xaa, length + envelope.padding));
                assert_eq!(channel_data(&message), Some((0x4abc, 4..4 + length)));
                assert_eq!(frame(&message, 4096), Ok(Some(message.len())));
                assert_eq!(frame(&message[..message.len() - 1], 4096), Ok(None));
            }
        }
        assert_eq!(
            frame(b"HTTP/1.1 400", 1 << 17),
            Ok(None),
            "that begins like a channel's, of a length that never comes"
        );
        assert_eq!(frame(b"HTTP/1.1 400", 4096), Err(NotTurn));
        assert_eq!(frame(&[0xff; 4], 4096), Err(NotTurn));
    }
}
