//! The messages between peers: JSON of descriptions and candidates, and the three bytes `BYE`.

use serde_json::Value;

use crate::signaling::peers::Useless;
use crate::signaling::words::{self, Word};

/// Reads the body of a message.
///
/// # Errors
/// Where it is none of this protocol, or of no use here.
pub fn parse(body: &[u8]) -> Result<Word, Useless> {
    if body.trim_ascii() == b"BYE" {
        return Ok(Word::Bye);
    }
    let value: Value = serde_json::from_slice(body).map_err(|_| Useless::NotJson)?;
    match value.get("type").map(Value::as_str) {
        // A call of the peer by itself, for tests of the original client.
        Some(Some("offer-loopback")) => Err(Useless::Unexpected),
        Some(_) => words::description(&value).ok_or(Useless::Unknown),
        None if value.is_null() => Err(Useless::Unknown),
        None => words::candidate(&value).ok_or(Useless::Unknown),
    }
}

/// Writes the body of a message; `None` for what towards such a peer is never said: a goodbye, which the classic page can't take.
pub fn write(word: &Word) -> Option<String> {
    match word {
        Word::Description { kind, sdp } => Some(words::described(*kind, sdp).to_string()),
        Word::Candidate(_) | Word::Bye => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::signaling::words::Kind;

    #[test]
    fn descriptions_are_read_as_clients_write_them() {
        let multi_line =
            b"{\n   \"sdp\" : \"v=0\\r\\no=- 4611 2 IN IP4 127.0.0.1\\r\\n\",\n   \"type\" : \"answer\"\n}\n";
        let Ok(Word::Description { kind: Kind::Answer, sdp }) = parse(multi_line) else { panic!("an answer") };
        assert_eq!(words::origin(&sdp), Some("4611"));
        let answer = Word::Description { kind: Kind::Answer, sdp: "v=0\r\n".to_owned() };
        assert_eq!(write(&answer).as_deref(), Some(r#"{"sdp":"v=0\r\n","type":"answer"}"#));
        assert_eq!(parse(br#"{"type":"offer-loopback"}"#), Err(Useless::Unexpected));
        assert_eq!((parse(b"BYE"), write(&Word::Bye)), (Ok(Word::Bye), None));
        let trickled = br#"{"candidate":"candidate:1 1 udp 1 192.0.2.7 9 typ host","sdpMLineIndex":0,"sdpMid":"0"}"#;
        assert!(matches!(parse(trickled), Ok(Word::Candidate(trickle)) if trickle.candidates.len() == 1));
    }

    #[test]
    fn everything_else_is_told_apart() {
        let nested = "[".repeat(30_000);
        for body in [&b""[..], b"{", b"bye", b"\xff\xfe", b"{\"type\":\"offer\",\"sdp\":\"v=0", nested.as_bytes()] {
            assert_eq!(parse(body), Err(Useless::NotJson));
        }
        for body in ["0", "[]", "{}", "null", r#"{"type":7}"#, r#"{"type":"offer"}"#, r#"{"type":"moon","sdp":"v=0"}"#]
        {
            assert_eq!(parse(body.as_bytes()), Err(Useless::Unknown), "{body}");
        }
    }
}
