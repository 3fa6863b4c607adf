//! What peers say to each other, whatever protocol carries it: descriptions, candidates, goodbyes; and the JSON that browsers make of them.
//!
//! Owns the two dictionaries of the WebRTC recommendation (`RTCSessionDescriptionInit`, `RTCIceCandidateInit`). It never judges an SDP.

use serde_json::{Value, json};

use super::Trickle;

/// The most bytes of one candidate, of a description (as WHEP has it), and of an `ice-ufrag` (RFC 8839, section 5.4).
const CANDIDATE_BYTES: usize = 1024;
const DESCRIPTION_BYTES: usize = 64 * 1024;
const UFRAG_BYTES: usize = 256;

/// What one peer says to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Word {
    /// A description.
    Description {
        /// Of which kind.
        kind: Kind,
        /// The SDP.
        sdp: String,
    },
    /// A trickled candidate, or the last one's end.
    Candidate(Trickle),
    /// It hangs up.
    Bye,
}

/// The kinds of descriptions (RFC 8829, section 4.1.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An offer.
    Offer,
    /// An answer.
    Answer,
    /// An answer that another will follow.
    ProvisionalAnswer,
}

impl Kind {
    /// Reads the `type` of a description; `None` for another word.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "offer" => Some(Self::Offer),
            "answer" => Some(Self::Answer),
            "pranswer" => Some(Self::ProvisionalAnswer),
            _ => None,
        }
    }

    /// The `type` of a description.
    pub fn text(self) -> &'static str {
        match self {
            Self::Offer => "offer",
            Self::Answer => "answer",
            Self::ProvisionalAnswer => "pranswer",
        }
    }
}

/// Reads an `RTCSessionDescriptionInit`; `None` for anything else.
pub fn description(value: &Value) -> Option<Word> {
    let text = |name: &str| value.get(name).and_then(Value::as_str);
    let sdp = text("sdp").filter(|sdp| sdp.len() <= DESCRIPTION_BYTES)?;
    Some(Word::Description { kind: Kind::parse(text("type")?)?, sdp: sdp.to_owned() })
}

/// Writes an `RTCSessionDescriptionInit`.
pub fn described(kind: Kind, sdp: &str) -> Value {
    json!({ "sdp": sdp, "type": kind.text() })
}

/// Reads an `RTCIceCandidateInit`, one whose candidate is `null`, or `null` itself: both are the end of candidates. `None` for anything else.
pub fn candidate(value: &Value) -> Option<Word> {
    let text = |name: &str| value.get(name).and_then(Value::as_str);
    match value.get("candidate") {
        None if value.is_null() => Some(Word::Candidate(Trickle { end: true, ..Trickle::default() })),
        Some(Value::Null) => Some(Word::Candidate(Trickle { end: true, ..Trickle::default() })),
        Some(Value::String(line)) if line.len() <= CANDIDATE_BYTES => {
            Some(Word::Candidate(trickle(line, text("usernameFragment"))))
        }
        _ => None,
    }
}

/// A candidate line, for the generation of ICE that it or the message beside it names.
pub fn trickle(candidate: &str, fragment: Option<&str>) -> Trickle {
    let candidate = candidate.trim();
    let candidate = candidate.strip_prefix("a=").unwrap_or(candidate);
    let of_line = || candidate.split_ascii_whitespace().skip_while(|word| *word != "ufrag").nth(1);
    let ufrag = fragment.filter(|ufrag| ufrag.len() <= UFRAG_BYTES).or_else(of_line).map(str::to_owned);
    if candidate.is_empty() {
        return Trickle { ufrag, end: true, ..Trickle::default() };
    }
    Trickle { ufrag, candidates: vec![candidate.to_owned()], ..Trickle::default() }
}

/// The session id of an SDP's `o=` line (RFC 8866, section 5.2), which stays the same for one connection.
pub fn origin(sdp: &str) -> Option<&str> {
    let line = sdp.lines().find_map(|line| line.strip_prefix("o="))?;
    line.split_ascii_whitespace().nth(1)
}

/// The first `a=ice-ufrag` of an SDP (RFC 8839, section 5.4).
pub fn ufrag(sdp: &str) -> Option<&str> {
    sdp.lines().find_map(|line| line.strip_prefix("a=ice-ufrag:")).map(str::trim)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(text: &str) -> Option<Word> {
        candidate(&serde_json::from_str(text).unwrap())
    }

    fn trickled(text: &str) -> Trickle {
        match read(text) {
            Some(Word::Candidate(trickle)) => trickle,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn descriptions_are_read_as_they_are_written() {
        let sdp = "v=0\r\no=- 4611 2 IN IP4 127.0.0.1\r\na=ice-ufrag:ab\r\n";
        for kind in [Kind::Offer, Kind::Answer, Kind::ProvisionalAnswer] {
            assert_eq!(description(&described(kind, sdp)), Some(Word::Description { kind, sdp: sdp.to_owned() }));
        }
        assert_eq!((origin(sdp), ufrag(sdp)), (Some("4611"), Some("ab")));
        for other in [json!(null), json!({"type": "offer"}), json!({"type": "moon", "sdp": ""}), json!({"sdp": "v=0"})]
        {
            assert_eq!(description(&other), None, "{other}");
        }
    }

    #[test]
    fn candidates_name_their_generation_in_either_way() {
        let line = "candidate:1 1 udp 2122260223 192.0.2.7 56391 typ host generation 0 ufrag BpPv";
        let of_line = trickled(&format!(r#"{{"candidate":"{line}","sdpMLineIndex":0,"sdpMid":"0"}}"#));
        assert_eq!((of_line.ufrag.as_deref(), &of_line.candidates[..]), (Some("BpPv"), &[line.to_owned()][..]));
        let named = trickled(r#"{"candidate":"candidate:1 1 udp 1 ::1 9 typ host","usernameFragment":"ab"}"#);
        assert_eq!((named.ufrag.as_deref(), named.end), (Some("ab"), false));
        assert!(trickled(r#"{"candidate":"","sdpMid":"0","sdpMLineIndex":0}"#).end);
        assert!(trickled(r#"{"candidate":null}"#).end && trickled("null").end);
        let long = format!(r#"{{"candidate":"{}"}}"#, "x".repeat(2000));
        for other in ["0", "[]", "{}", r#"{"candidate":7}"#, &long] {
            assert_eq!(read(other), None, "{other}");
        }
    }
}
