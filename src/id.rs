//! Identities: sessions, peers, and random text for them.

use std::fmt;

/// RFC 4648 base32 in lower case, which has no look-alikes of 0, 1 and 8.
const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// Names one viewer's connection: 128 random bits, so that it can't be guessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId([u8; 16]);

impl SessionId {
    /// Draws a fresh id.
    pub fn random() -> Self {
        Self(random_bytes())
    }

    /// Makes the id with these bits (for deterministic tests).
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Parses the 32 hexadecimal digits that [`fmt::Display`] writes; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase()) {
            return None;
        }
        u128::from_str_radix(text, 16).ok().map(|bits| Self(bits.to_be_bytes()))
    }

    /// The first eight digits: enough to tell sessions apart in a log, too few to act on one.
    pub fn short(&self) -> String {
        self.to_string()[..8].to_owned()
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// Names one peer at one signaling server, which gives these numbers; never reused there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerId(pub u64);

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Fills an array from the operating system's generator.
///
/// # Panics
/// Where the operating system has no randomness: nothing secure can be done then.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system provides randomness");
    bytes
}

/// Draws `length` random lower-case base32 characters (5 bits each).
pub fn random_base32(length: usize) -> String {
    (0..length).map(|_| char::from(BASE32[usize::from(random_bytes::<1>()[0] & 31)])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_ids_survive_text_and_refuse_others() {
        let id = SessionId::random();
        assert_eq!(SessionId::parse(&id.to_string()), Some(id));
        for bad in ["", "xyz", &"A".repeat(32), &"+".repeat(32), &"0".repeat(33)] {
            assert_eq!(SessionId::parse(bad), None, "{bad}");
        }
    }
}
