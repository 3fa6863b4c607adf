//! Reads an SDP fragment of trickled ICE (RFC 8840, section 9: `application/trickle-ice-sdpfrag`).
//!
//! It never interprets an address: what a candidate means is decided by the session.

use std::fmt::Write as _;

use crate::signaling::Trickle;

/// Candidates that one fragment may carry.
const CANDIDATES: usize = 64;
/// Bytes of one candidate's line.
const CANDIDATE_BYTES: usize = 512;

/// Why a fragment can't be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FragmentError {
    /// A line is no SDP.
    #[error("line {0} of the fragment is not SDP (a letter, =, a value)")]
    NotSdp(usize),
    /// A candidate doesn't have the form of one.
    #[error("line {0} of the fragment is not a candidate (RFC 8839, section 5.1)")]
    NotACandidate(usize),
    /// Credentials that ICE doesn't allow.
    #[error("line {0} of the fragment is no ice-ufrag (4 to 256 letters, digits, + and /)")]
    NotAnUfrag(usize),
    /// A password that ICE doesn't allow.
    #[error("line {0} of the fragment is no ice-pwd (22 to 256 letters, digits, + and /)")]
    NotAPassword(usize),
    /// Two credentials in one fragment.
    #[error("the fragment names two different ice-ufrags")]
    TwoUfrags,
    /// More candidates than anybody has.
    #[error("the fragment has more than {CANDIDATES} candidates")]
    TooMany,
    /// Nothing that trickles.
    #[error("the fragment has no candidate, no end-of-candidates and no credentials")]
    Empty,
}

/// Parses a fragment: its credentials, candidates and their end; attributes that don't matter are skipped.
///
/// # Errors
/// Where it has no such form, or nothing in it.
pub fn parse(text: &str) -> Result<Trickle, FragmentError> {
    let mut trickle = Trickle::default();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim_end();
        if line.is_empty() {
            continue;
        }
        let Some((kind, value)) = line.split_once('=').filter(|(kind, _)| is_type(kind)) else {
            return Err(FragmentError::NotSdp(number));
        };
        if kind != "a" {
            continue;
        }
        match value.split_once(':').unwrap_or((value, "")) {
            ("ice-ufrag", ufrag) => {
                if !is_ufrag(ufrag) {
                    return Err(FragmentError::NotAnUfrag(number));
                }
                if trickle.ufrag.as_deref().is_some_and(|other| other != ufrag) {
                    return Err(FragmentError::TwoUfrags);
                }
                trickle.ufrag = Some(ufrag.to_owned());
            }
            ("candidate", candidate) => {
                if !is_candidate(candidate) {
                    return Err(FragmentError::NotACandidate(number));
                }
                if trickle.candidates.len() == CANDIDATES {
                    return Err(FragmentError::TooMany);
                }
                trickle.candidates.push(value.to_owned());
            }
            ("ice-pwd", password) => {
                if !is_password(password) {
                    return Err(FragmentError::NotAPassword(number));
                }
                trickle.password = Some(password.to_owned());
            }
            ("mid", mid) if trickle.mid.is_none() && is_mid(mid) => trickle.mid = Some(mid.to_owned()),
            ("end-of-candidates", _) => trickle.end = true,
            _ => {}
        }
    }
    let says_nothing = trickle.candidates.is_empty() && !trickle.end && trickle.password.is_none();
    if says_nothing { Err(FragmentError::Empty) } else { Ok(trickle) }
}

/// Writes a fragment of the daemon's own.
pub fn write(own: &Trickle) -> String {
    let mut out = String::from("a=ice-options:trickle\r\n");
    for (name, value) in [("ice-ufrag", &own.ufrag), ("ice-pwd", &own.password)] {
        if let Some(value) = value {
            let _ = write!(out, "a={name}:{value}\r\n");
        }
    }
    // What the section is about doesn't matter (RFC 8840, section 9.2): its mid says which it is.
    let _ = write!(out, "m=audio 9 RTP/AVP 0\r\na=mid:{}\r\n", own.mid.as_deref().unwrap_or("0"));
    for candidate in &own.candidates {
        let _ = write!(out, "a={candidate}\r\n");
    }
    if own.end {
        out.push_str("a=end-of-candidates\r\n");
    }
    out
}

fn is_type(kind: &str) -> bool {
    matches!(kind.as_bytes(), [letter] if letter.is_ascii_lowercase())
}

fn is_ufrag(ufrag: &str) -> bool {
    (4..=256).contains(&ufrag.len()) && ufrag.bytes().all(is_ice_char)
}

fn is_password(password: &str) -> bool {
    (22..=256).contains(&password.len()) && password.bytes().all(is_ice_char)
}

fn is_ice_char(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/'
}

fn is_mid(mid: &str) -> bool {
    (1..=64).contains(&mid.len()) && mid.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

/// Whether the value has a candidate's form: `foundation component transport priority address port typ type …`.
fn is_candidate(value: &str) -> bool {
    let words: Vec<&str> = value.split(' ').collect();
    let [_, component, _, priority, _, port, typ, _, ..] = words.as_slice() else { return false };
    value.len() <= CANDIDATE_BYTES
        && value.bytes().all(|b| b.is_ascii_graphic() || b == b' ')
        && words[..8].iter().all(|word| !word.is_empty())
        && component.parse::<u16>().is_ok()
        && priority.parse::<u32>().is_ok()
        && port.parse::<u16>().is_ok()
        && *typ == "typ"
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const MDNS: &str =
        "candidate:1 1 udp 2113937151 5d0f2c1e-aaaa.local 51432 typ host generation 0 ufrag EsAw network-cost 999";

    #[test]
    fn a_browsers_fragment_is_read() {
        let text = format!(
            "a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\nm=video 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:0\r\na={MDNS}\r\na=end-of-candidates\r\n"
        );
        let trickle = parse(&text).unwrap();
        assert_eq!(trickle.ufrag.as_deref(), Some("EsAw"));
        assert_eq!(trickle.candidates, [MDNS]);
        assert!(trickle.end);
    }

    #[test]
    fn lines_may_end_in_any_way_and_unknown_attributes_are_skipped() {
        let trickle = parse(
            "a=group:BUNDLE 0\na=ice-options:trickle\n\na=candidate:2 1 TCP 5 2001:db8::1 9 typ host tcptype active",
        )
        .unwrap();
        assert_eq!(trickle.candidates.len(), 1);
        assert_eq!((trickle.ufrag, trickle.end), (None, false));
        assert!(parse("a=end-of-candidates").unwrap().end);
    }

    #[test]
    fn garbage_is_refused_with_its_line() {
        let long = format!("a=candidate:1 1 udp 1 {} 9 typ host", "x".repeat(600));
        let many = "a=candidate:1 1 udp 1 192.0.2.1 9 typ host\n".repeat(65);
        for (text, error) in [
            ("", FragmentError::Empty),
            ("a=mid:0", FragmentError::Empty),
            ("hello", FragmentError::NotSdp(1)),
            ("a=mid:0\r\n{\"candidate\":\"x=\"}", FragmentError::NotSdp(2)),
            ("=x", FragmentError::NotSdp(1)),
            ("a=candidate:", FragmentError::NotACandidate(1)),
            ("a=candidate:1 1 udp 1 192.0.2.1 99999 typ host", FragmentError::NotACandidate(1)),
            ("a=candidate:1 1 udp 1 192.0.2.1 9 typ", FragmentError::NotACandidate(1)),
            ("a=candidate:1  udp 1 192.0.2.1 9 typ host x", FragmentError::NotACandidate(1)),
            ("a=candidate:1 1 udp 1 192.0.2.1\0 9 typ host", FragmentError::NotACandidate(1)),
            (&long, FragmentError::NotACandidate(1)),
            (&many, FragmentError::TooMany),
            ("a=ice-ufrag:abc", FragmentError::NotAnUfrag(1)),
            ("a=ice-ufrag:ab cd", FragmentError::NotAnUfrag(1)),
            ("a=ice-ufrag:abcd\na=ice-ufrag:efgh\na=end-of-candidates", FragmentError::TwoUfrags),
        ] {
            assert_eq!(parse(text), Err(error), "{text:?}");
        }
    }
}
