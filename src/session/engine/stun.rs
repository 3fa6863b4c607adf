//! What is read of a STUN message (RFC 8489, section 5); it is rtc-ice that checks what is acted on.

use rtc_crypto::{HmacAlgorithm, RTCCrypto};

const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const USE_CANDIDATE: u16 = 0x0025;
const ICE_CONTROLLED: u16 = 0x8029;
const ICE_CONTROLLING: u16 = 0x802a;

/// Whether it is a Binding request.
pub fn is_request(data: &[u8]) -> bool {
    data.len() >= 20 && data[..2] == [0, 1]
}

/// Whether it is a Binding success response.
pub fn is_success(data: &[u8]) -> bool {
    data.len() >= 20 && data[..2] == [1, 1]
}

/// Whether it nominates its pair.
pub fn nominates(data: &[u8]) -> bool {
    attribute(data, USE_CANDIDATE).is_some()
}

/// Whether a request says that its sender is the controlled side, which whoever offered is not (RFC 8445, section 6.1.1).
pub fn is_of_the_controlled(data: &[u8]) -> bool {
    is_request(data) && attribute(data, ICE_CONTROLLED).is_some()
}

/// Whether a request says that its sender is the controlling side.
pub fn is_of_the_controlling(data: &[u8]) -> bool {
    is_request(data) && attribute(data, ICE_CONTROLLING).is_some()
}

/// The transaction that a message belongs to.
pub fn transaction(data: &[u8]) -> Option<&[u8; 12]> {
    data.get(8..20)?.first_chunk()
}

/// Whether a message's integrity is that of `key`: a password, or what is made of one (RFC 8489, section 14.5).
pub fn is_signed_by(data: &[u8], key: &[u8], crypto: &dyn RTCCrypto) -> bool {
    let Some((start, tag)) = find(data, MESSAGE_INTEGRITY).filter(|(_, tag)| tag.len() == 20) else { return false };
    let Ok(mut mac) = crypto.new_hmac(HmacAlgorithm::Sha1, key) else { return false };
    // The length in the header is taken as if the message ended with the tag.
    let Ok(length) = u16::try_from(start + 4) else { return false };
    mac.verify(&[&data[..2], &length.to_be_bytes(), &data[4..start]], tag).is_ok()
}

/// The daemon's own `ice-ufrag` in a request: what a datagram from an unknown address is recognised by.
pub fn local_ufrag(data: &[u8]) -> Option<&str> {
    if !is_request(data) {
        return None;
    }
    std::str::from_utf8(attribute(data, USERNAME)?).ok()?.split(':').next()
}

fn attribute(data: &[u8], wanted: u16) -> Option<&[u8]> {
    find(data, wanted).map(|(_, value)| value)
}

/// Where an attribute begins, and its value.
pub fn find(data: &[u8], wanted: u16) -> Option<(usize, &[u8])> {
    let mut rest = data.get(20..)?;
    while let [t0, t1, l0, l1, tail @ ..] = rest {
        let length = usize::from(u16::from_be_bytes([*l0, *l1]));
        let value = tail.get(..length)?;
        if u16::from_be_bytes([*t0, *t1]) == wanted {
            return Some((data.len() - rest.len(), value));
        }
        rest = tail.get(length.next_multiple_of(4)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(attributes: &[u8]) -> Vec<u8> {
        let mut message = vec![0, 1, 0, attributes.len() as u8, 0x21, 0x12, 0xa4, 0x42];
        message.extend([7; 12]);
        message.extend(attributes);
        message
    }

    #[test]
    fn a_request_says_whose_it_is_and_whether_it_nominates() {
        let named = request(&[0, 6, 0, 5, b'a', b'b', b':', b'c', b'd', 0, 0, 0, 0, 0x25, 0, 0]);
        assert_eq!(local_ufrag(&named), Some("ab"));
        assert!(nominates(&named) && is_request(&named) && !is_success(&named));
        assert!(!nominates(&request(&[])));
        for cut in 0..named.len() {
            let _ = (local_ufrag(&named[..cut]), nominates(&named[..cut]));
        }
        assert_eq!(local_ufrag(&request(&[0, 6, 0xff, 0xff])), None);
    }
}
