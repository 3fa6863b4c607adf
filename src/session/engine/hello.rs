//! Reads which SRTP profiles a ClientHello offers (RFC 6347, section 4.2; RFC 5764, section 4.1.1).
//!
//! Chromium lists AES-CM with HMAC-SHA1 first and rtc-dtls takes the client's first choice; AES-GCM costs a tenth (WEBRTC measurements), so
//! the daemon offers that alone to whoever has it.

/// Extension number of use_srtp.
const USE_SRTP: u16 = 14;

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

/// The numbers of the SRTP profiles that a datagram with a ClientHello offers, in the client's order; `None` for any other datagram.
pub(super) fn srtp_profiles(datagram: &[u8]) -> Option<Vec<u16>> {
    let mut record = Reader(datagram);
    if record.number(1)? != 22 {
        return None;
    }
    record.take(10)?; // Version, epoch, sequence number.
    let mut handshake = Reader(record.vector(2)?);
    if handshake.number(1)? != 1 {
        return None;
    }
    handshake.take(11)?; // Length, message sequence, fragment offset and length.
    handshake.take(34)?; // Version, random.
    handshake.vector(1)?; // Session id.
    handshake.vector(1)?; // Cookie.
    handshake.vector(2)?; // Cipher suites.
    handshake.vector(1)?; // Compression.
    let mut extensions = Reader(handshake.vector(2)?);
    loop {
        let kind = extensions.number(2)? as u16;
        let body = extensions.vector(2)?;
        if kind == USE_SRTP {
            let profiles = Reader(body).vector(2)?;
            return Some(profiles.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(profiles: &[u8]) -> Vec<u8> {
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
        let mut record = vec![22, 0xfe, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, body.len() as u8 + 12];
        record.extend([1, 0, 0, body.len() as u8, 0, 0, 0, 0, 0, 0, 0, body.len() as u8]);
        record.extend(body);
        record
    }

    #[test]
    fn profiles_are_found_and_damage_does_no_harm() {
        let whole = hello(&[0, 1, 0, 7, 0, 8]);
        assert_eq!(srtp_profiles(&whole), Some(vec![1, 7, 8]));
        for cut in 0..whole.len() {
            let _ = srtp_profiles(&whole[..cut]);
            let mut damaged = whole.clone();
            damaged[cut] = 0xff;
            let _ = srtp_profiles(&damaged);
        }
        assert_eq!(srtp_profiles(&[]), None);
    }
}
