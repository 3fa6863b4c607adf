//! The messages between peers: JSON of descriptions and candidates, and the three bytes `BYE`.
//!
//! Owns what a body means and what a description is written as. It never judges an SDP.

use serde_json::{Value, json};

use crate::signaling::Trickle;

/// The most bytes of one candidate.
const CANDIDATE_BYTES: usize = 1024;

/// What one peer says to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// A description.
    Description {
        /// Of which kind.
        kind: Kind,
        /// The SDP.
        sdp: String,
    },
    /// A trickled candidate, or the last one's end.
    Candidate(Trickle),
    /// A call of the peer by itself, for tests of the original client.
    OfferLoopback,
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

/// Why a body is no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// It is neither JSON nor `BYE`.
    #[error("expected JSON or BYE, found {0} bytes of something else")]
    NotJson(usize),
    /// It is JSON of another kind.
    #[error("expected a description or a candidate, found JSON of another kind")]
    Unknown,
}

/// Reads the body of a message.
///
/// # Errors
/// Where it is none of this protocol.
pub fn parse(body: &[u8]) -> Result<Message, MessageError> {
    if body.trim_ascii() == b"BYE" {
        return Ok(Message::Bye);
    }
    let value: Value = serde_json::from_slice(body).map_err(|_| MessageError::NotJson(body.len()))?;
    let text = |name: &str| value.get(name).and_then(Value::as_str);
    if let Some(kind) = text("type") {
        let kind = match kind {
            "offer" => Kind::Offer,
            "answer" => Kind::Answer,
            "pranswer" => Kind::ProvisionalAnswer,
            "offer-loopback" => return Ok(Message::OfferLoopback),
            _ => return Err(MessageError::Unknown),
        };
        return match text("sdp") {
            Some(sdp) => Ok(Message::Description { kind, sdp: sdp.to_owned() }),
            None => Err(MessageError::Unknown),
        };
    }
    match value.get("candidate") {
        Some(Value::Null) => Ok(Message::Candidate(Trickle { end: true, ..Trickle::default() })),
        Some(Value::String(candidate)) if candidate.len() <= CANDIDATE_BYTES => {
            Ok(Message::Candidate(trickle(candidate, text("usernameFragment"))))
        }
        _ => Err(MessageError::Unknown),
    }
}

/// A candidate, for the generation of ICE that it or the message beside it names.
fn trickle(candidate: &str, fragment: Option<&str>) -> Trickle {
    let candidate = candidate.trim();
    let candidate = candidate.strip_prefix("a=").unwrap_or(candidate);
    let of_line = || candidate.split_ascii_whitespace().skip_while(|word| *word != "ufrag").nth(1);
    let ufrag = fragment.or_else(of_line).map(str::to_owned);
    if candidate.is_empty() {
        return Trickle { ufrag, end: true, ..Trickle::default() };
    }
    Trickle { ufrag, candidates: vec![candidate.to_owned()], ..Trickle::default() }
}

/// Writes a description.
pub fn describe(kind: Kind, sdp: &str) -> String {
    let kind = match kind {
        Kind::Offer => "offer",
        Kind::Answer => "answer",
        Kind::ProvisionalAnswer => "pranswer",
    };
    json!({ "sdp": sdp, "type": kind }).to_string()
}

/// The session id of an SDP's `o=` line (RFC 8866, section 5.2), which stays the same for one connection.
pub fn origin(sdp: &str) -> Option<&str> {
    let line = sdp.lines().find_map(|line| line.strip_prefix("o="))?;
    line.split_ascii_whitespace().nth(1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn candidate(body: &str) -> Trickle {
        match parse(body.as_bytes()) {
            Ok(Message::Candidate(trickle)) => trickle,
            other => panic!("{body}: {other:?}"),
        }
    }

    #[test]
    fn descriptions_are_read_as_clients_write_them() {
        let multi_line =
            b"{\n   \"sdp\" : \"v=0\\r\\no=- 4611 2 IN IP4 127.0.0.1\\r\\n\",\n   \"type\" : \"answer\"\n}\n";
        let Ok(Message::Description { kind: Kind::Answer, sdp }) = parse(multi_line) else { panic!("an answer") };
        assert_eq!(origin(&sdp), Some("4611"));
        assert_eq!(
            parse(describe(Kind::Offer, "v=0").as_bytes()).unwrap(),
            Message::Description { kind: Kind::Offer, sdp: "v=0".to_owned() }
        );
        assert_eq!(describe(Kind::Answer, "v=0\r\n"), r#"{"sdp":"v=0\r\n","type":"answer"}"#);
        assert_eq!(parse(br#"{"type":"offer-loopback"}"#), Ok(Message::OfferLoopback));
        assert_eq!(parse(b"BYE"), Ok(Message::Bye));
    }

    #[test]
    fn candidates_name_their_generation_in_either_way() {
        let line = "candidate:1 1 udp 2122260223 192.0.2.7 56391 typ host generation 0 ufrag BpPv";
        let trickled = candidate(&format!(r#"{{"candidate":"{line}","sdpMLineIndex":0,"sdpMid":"0"}}"#));
        assert_eq!((trickled.ufrag.as_deref(), &trickled.candidates[..]), (Some("BpPv"), &[line.to_owned()][..]));
        let named = candidate(r#"{"candidate":"candidate:1 1 udp 1 ::1 9 typ host","usernameFragment":"ab"}"#);
        assert_eq!((named.ufrag.as_deref(), named.end), (Some("ab"), false));
        assert!(candidate(r#"{"candidate":"","sdpMid":"0","sdpMLineIndex":0}"#).end);
        assert!(candidate(r#"{"candidate":null}"#).end);
    }

    #[test]
    fn everything_else_is_told_apart() {
        for body in [&b""[..], b"{", b"bye", b"\xff\xfe", b"{\"type\":\"offer\",\"sdp\":\"v=0"] {
            assert_eq!(parse(body), Err(MessageError::NotJson(body.len())));
        }
        let nested = "[".repeat(30_000);
        assert_eq!(parse(nested.as_bytes()), Err(MessageError::NotJson(30_000)));
        let long = format!(r#"{{"candidate":"{}"}}"#, "x".repeat(2000));
        for body in ["0", "[]", "{}", r#"{"type":7}"#, r#"{"type":"offer"}"#, r#"{"type":"moon","sdp":"v=0"}"#, &long] {
            assert_eq!(parse(body.as_bytes()), Err(MessageError::Unknown), "{body}");
        }
    }
}
