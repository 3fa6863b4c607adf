//! Reads which SRTP profiles a ClientHello offers, before the handshake begins (RFC 6347, section 4.2; RFC 5764, section 4.1.1).
//!
//! Chromium lists AES-CM with HMAC-SHA1 first and rtc-dtls takes the client's first choice; AES-GCM costs a tenth of it, so the daemon
//! offers that alone to whoever has it. A ClientHello with a post-quantum key share comes in several datagrams, in any order.

use super::records::{Fragment, fragments, records};

/// The handshake message's type.
const CLIENT_HELLO: u8 = 1;
/// Extension number of use_srtp.
const USE_SRTP: u16 = 14;
/// Bounds of what is kept of somebody who has proved nothing but an address.
const MOST_MESSAGE: usize = 8_192;
const MOST_DATAGRAMS: usize = 12;

/// Collects the datagrams of a ClientHello.
#[derive(Debug, Default)]
pub(super) struct ClientHello {
    datagrams: Vec<Vec<u8>>,
    message: Vec<u8>,
    covered: Vec<bool>,
}

/// A ClientHello that is whole.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Complete {
    /// The numbers of the SRTP profiles offered, in the client's order.
    pub(super) profiles: Vec<u16>,
    /// The datagrams that it came in.
    pub(super) datagrams: Vec<Vec<u8>>,
}

impl ClientHello {
    /// Takes a datagram; gives the whole once it is there. Whatever is no part of a ClientHello is passed over.
    pub(super) fn handle(&mut self, datagram: &[u8]) -> Option<Complete> {
        let mut part = false;
        for fragment in
            records(datagram).filter_map(fragments).flatten().filter(|fragment| fragment.kind == CLIENT_HELLO)
        {
            part |= self.add(&fragment);
        }
        if part && self.datagrams.len() < MOST_DATAGRAMS {
            self.datagrams.push(datagram.to_vec());
        }
        if self.covered.is_empty() || self.covered.contains(&false) {
            return None;
        }
        let profiles = profiles(&self.message).unwrap_or_default();
        Some(Complete { profiles, datagrams: std::mem::take(&mut self.datagrams) })
    }

    fn add(&mut self, fragment: &Fragment<'_>) -> bool {
        if fragment.total > MOST_MESSAGE {
            return false;
        }
        if self.message.len() != fragment.total {
            *self =
                Self { datagrams: Vec::new(), message: vec![0; fragment.total], covered: vec![false; fragment.total] };
        }
        let range = fragment.offset..fragment.offset + fragment.body.len();
        self.message[range.clone()].copy_from_slice(fragment.body);
        self.covered[range].fill(true);
        true
    }
}

fn profiles(message: &[u8]) -> Option<Vec<u16>> {
    let mut hello = Reader(message);
    hello.take(34)?; // Version, random.
    hello.vector(1)?; // Session id.
    hello.vector(1)?; // Cookie.
    hello.vector(2)?; // Cipher suites.
    hello.vector(1)?; // Compression.
    let mut extensions = Reader(hello.vector(2)?);
    loop {
        let kind = extensions.number(2)? as u16;
        let body = extensions.vector(2)?;
        if kind == USE_SRTP {
            let profiles = Reader(body).vector(2)?;
            return Some(profiles.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect());
        }
    }
}

/// A reader that never goes past the end.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(head)
    }

    fn number(&mut self, bytes: usize) -> Option<usize> {
        self.take(bytes).map(|bytes| bytes.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    fn vector(&mut self, length_bytes: usize) -> Option<&'a [u8]> {
        let length = self.number(length_bytes)?;
        self.take(length)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn message(profiles: &[u8]) -> Vec<u8> {
        let mut body = vec![0xfe, 0xfd];
        body.extend([7; 32]);
        body.extend([0, 0]); // No session id, no cookie.
        body.extend([0, 2, 0xc0, 0x2b, 1, 0]);
        let mut extensions = vec![0, 10, 0, 4, 0, 2, 0, 29];
        extensions.extend([0, 14, 0, profiles.len() as u8 + 3, 0, profiles.len() as u8]);
        extensions.extend(profiles);
        extensions.push(0);
        body.extend([0, extensions.len() as u8]);
        body.extend(extensions);
        body
    }

    fn datagram(message: &[u8], part: std::ops::Range<usize>) -> Vec<u8> {
        let length = |n: usize| [0, 0, n as u8];
        let mut record = vec![22, 0xfe, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, part.len() as u8 + 12, 1];
        record.extend(length(message.len()));
        record.extend([0, 0]);
        record.extend(length(part.start));
        record.extend(length(part.len()));
        record.extend(&message[part]);
        record
    }

    #[test]
    fn a_hello_in_pieces_is_put_together() {
        let whole = message(&[0, 1, 0, 7, 0, 8]);
        let (first, second) = (datagram(&whole, 0..40), datagram(&whole, 40..whole.len()));
        for order in [[&first, &second], [&second, &first]] {
            let mut hello = ClientHello::default();
            assert_eq!(hello.handle(order[0]), None);
            assert_eq!(hello.handle(&[1, 2, 3]), None, "garbage in between");
            let complete = hello.handle(order[1]).unwrap();
            assert_eq!(complete.profiles, [1, 7, 8]);
            assert_eq!(complete.datagrams, [order[0].clone(), order[1].clone()]);
        }
        assert_eq!(ClientHello::default().handle(&datagram(&whole, 0..whole.len())).unwrap().profiles, [1, 7, 8]);
    }

    #[test]
    fn damage_does_no_harm() {
        let whole = message(&[0, 7]);
        let whole = datagram(&whole, 0..whole.len());
        for cut in 0..whole.len() {
            let _ = ClientHello::default().handle(&whole[..cut]);
            let mut damaged = whole.clone();
            damaged[cut] = 0xff;
            let _ = ClientHello::default().handle(&damaged);
        }
    }
}
