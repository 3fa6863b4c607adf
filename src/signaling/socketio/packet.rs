//! The packets of Engine.IO (versions 3 and 4) and of Socket.IO in them, as text frames of a WebSocket.
//!
//! Owns their writing, nothing of their order. Attachments, other namespaces and what only polling has are told from the rest and not read.

use std::time::Duration;

use serde_json::{Value, json};

/// The bounds of what a handshake may say about heartbeats.
const LEAST_INTERVAL: Duration = Duration::from_millis(250);
const MOST_INTERVAL: Duration = Duration::from_secs(600);
/// The most bytes of a session's id, and of a peer's.
pub const ID_BYTES: usize = 128;
/// The most characters of a server's refusal that are told.
const REFUSAL_CHARACTERS: usize = 100;

/// What a server says.
#[derive(Debug, Clone, PartialEq)]
pub enum Packet {
    /// Engine.IO opens: `0{…}`.
    Open(Handshake),
    /// Engine.IO closes: `1`.
    Close,
    /// A heartbeat that is to be answered, with what it carries: `2`.
    Ping(String),
    /// The answer to one: `3`.
    Pong,
    /// The namespace is joined; version 4 gives the socket's id: `40`.
    Joined(Option<String>),
    /// The namespace is left: `41`.
    Left,
    /// An event, and the number of the acknowledgement that is asked for: `42[…]`.
    Event {
        /// The event's name.
        name: String,
        /// What comes with it.
        arguments: Vec<Value>,
        /// The acknowledgement's number.
        ack: Option<u64>,
    },
    /// The namespace is refused, for this reason: `44`.
    Refused(String),
    /// Something that is of no interest here.
    Other,
}

/// How the server wants the connection to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handshake {
    /// The connection's id, which is the socket's in version 3.
    pub sid: String,
    /// The time between heartbeats.
    pub interval: Duration,
    /// How long past that one may be missing.
    pub timeout: Duration,
    /// The most bytes of a frame that the server takes, where it says so; only servers of version 4 do.
    pub most_bytes: Option<usize>,
}

/// Why a frame can't be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It is no packet.
    #[error("no packet of Engine.IO")]
    Unknown,
    /// What should be JSON in it is none, or none that belongs there.
    #[error("not the JSON that belongs there")]
    Json,
}

impl Packet {
    /// Reads a frame.
    ///
    /// # Errors
    /// Where it is none.
    pub fn parse(frame: &str) -> Result<Self, Malformed> {
        let mut characters = frame.chars();
        let kind = characters.next().ok_or(Malformed::Unknown)?;
        let rest = characters.as_str();
        match kind {
            '0' => Handshake::parse(rest).map(Self::Open).ok_or(Malformed::Json),
            '1' => Ok(Self::Close),
            '2' => Ok(Self::Ping(rest.to_owned())),
            '3' => Ok(Self::Pong),
            '4' => Self::parse_message(rest),
            // An upgrade, a no-op, and binary as polling has it.
            '5' | '6' | 'b' => Ok(Self::Other),
            _ => Err(Malformed::Unknown),
        }
    }

    fn parse_message(text: &str) -> Result<Self, Malformed> {
        let mut characters = text.chars();
        let kind = characters.next().ok_or(Malformed::Unknown)?;
        let Some(rest) = within_namespace(characters.as_str()) else { return Ok(Self::Other) };
        match kind {
            '0' if rest.is_empty() => Ok(Self::Joined(None)),
            '0' => {
                let sid = json(rest)?.get("sid").and_then(Value::as_str).map(str::to_owned);
                Ok(Self::Joined(sid.filter(|sid| is_id(sid))))
            }
            '1' => Ok(Self::Left),
            '2' => {
                let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
                let ack = rest[..digits].parse().ok();
                let Value::Array(mut arguments) = json(&rest[digits..])? else { return Err(Malformed::Json) };
                if !arguments.first().is_some_and(Value::is_string) {
                    return Err(Malformed::Json);
                }
                let Value::String(name) = arguments.remove(0) else { return Err(Malformed::Json) };
                Ok(Self::Event { name, arguments, ack })
            }
            '4' => Ok(Self::Refused(refusal(rest))),
            // An acknowledgement, which is never asked for, and what has attachments.
            '3' | '5' | '6' => Ok(Self::Other),
            _ => Err(Malformed::Unknown),
        }
    }
}

impl Handshake {
    fn parse(text: &str) -> Option<Self> {
        let value: Value = serde_json::from_str(text).ok()?;
        let millis = |name: &str| value.get(name).and_then(Value::as_u64).map(Duration::from_millis);
        let sid = value.get("sid")?.as_str().filter(|sid| is_id(sid))?.to_owned();
        let most_bytes = value.get("maxPayload").and_then(Value::as_u64);
        Some(Self {
            sid,
            interval: millis("pingInterval")?.clamp(LEAST_INTERVAL, MOST_INTERVAL),
            timeout: millis("pingTimeout")?.clamp(LEAST_INTERVAL, MOST_INTERVAL),
            most_bytes: most_bytes.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX)),
        })
    }
}

/// An event as a frame.
pub fn event(name: &str, arguments: &[Value]) -> String {
    let words: Vec<Value> = std::iter::once(json!(name)).chain(arguments.iter().cloned()).collect();
    format!("42{}", Value::Array(words))
}

/// The acknowledgement of an event as a frame.
pub fn acknowledgement(number: u64) -> String {
    format!("43{number}[]")
}

/// Whether a text can be an id.
pub fn is_id(text: &str) -> bool {
    (1..=ID_BYTES).contains(&text.len())
}

/// What follows the namespace (`/name?query,`), where it is the main one.
fn within_namespace(text: &str) -> Option<&str> {
    if !text.starts_with('/') {
        return Some(text);
    }
    let (namespace, rest) = text.split_once(',').unwrap_or((text, ""));
    let name = namespace.split('?').next().unwrap_or_default();
    (name == "/").then_some(rest)
}

fn json(text: &str) -> Result<Value, Malformed> {
    serde_json::from_str(text).map_err(|_| Malformed::Json)
}

/// The reason in a refusal: an object's `message` in version 4, a text in version 3.
fn refusal(text: &str) -> String {
    let value: Option<Value> = serde_json::from_str(text).ok();
    let message = value.as_ref().and_then(|value| value.get("message").unwrap_or(value).as_str());
    let printable = message.unwrap_or("no reason given").chars().filter(|c| !c.is_control());
    printable.take(REFUSAL_CHARACTERS).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn joined(sid: &str) -> Packet {
        Packet::Joined(Some(sid.to_owned()))
    }

    #[test]
    fn packets_of_both_versions_are_read() {
        let event = |ack| Packet::Event { name: "stop".to_owned(), arguments: vec![json!("x"), json!(1)], ack };
        let table = [
            ("1", Packet::Close),
            ("2", Packet::Ping(String::new())),
            ("2probe", Packet::Ping("probe".to_owned())),
            ("3", Packet::Pong),
            ("40", Packet::Joined(None)),
            ("40/?token=x", Packet::Joined(None)),
            (r#"40{"sid":"abc"}"#, joined("abc")),
            (r#"40/,{"sid":"abc"}"#, joined("abc")),
            (r#"40/admin,{"sid":"abc"}"#, Packet::Other),
            ("41", Packet::Left),
            ("41/admin", Packet::Other),
            (r#"42["stop","x",1]"#, event(None)),
            (r#"4217["stop","x",1]"#, event(Some(17))),
            (r#"42/admin,["stop","x",1]"#, Packet::Other),
            ("4312[]", Packet::Other),
            (r#"44{"message":"not authorised"}"#, Packet::Refused("not authorised".to_owned())),
            (r#"44"not\nauthorised""#, Packet::Refused("notauthorised".to_owned())),
            ("44", Packet::Refused("no reason given".to_owned())),
            (r#"451-["offer",{"_placeholder":true,"num":0}]"#, Packet::Other),
            ("461-7[]", Packet::Other),
            ("6", Packet::Other),
            ("bAQID", Packet::Other),
        ];
        for (frame, packet) in table {
            assert_eq!(Packet::parse(frame), Ok(packet), "{frame}");
        }
    }

    #[test]
    fn what_is_no_packet_is_told_from_what_is_no_json() {
        for frame in ["", "7", "x", "4", "49", "é", "4é"] {
            assert_eq!(Packet::parse(frame), Err(Malformed::Unknown), "{frame}");
        }
        let long = format!(r#"0{{"sid":"{}","pingInterval":1,"pingTimeout":1}}"#, "x".repeat(ID_BYTES + 1));
        for frame in ["0", "0{}", r#"0{"sid":"a"}"#, &long, "42", "42[]", "42[7]", r#"42{"a":1}"#, "42[\"a\"", "40{"] {
            assert_eq!(Packet::parse(frame), Err(Malformed::Json), "{frame}");
        }
        assert!(Packet::parse(&format!("42{}", "[".repeat(100_000))).is_err());
    }

    #[test]
    fn heartbeats_are_bounded() {
        let frame = r#"0{"sid":"a","pingInterval":0,"pingTimeout":99999999999,"maxPayload":5}"#;
        let handshake =
            Handshake { sid: "a".to_owned(), interval: LEAST_INTERVAL, timeout: MOST_INTERVAL, most_bytes: Some(5) };
        assert_eq!(Packet::parse(frame), Ok(Packet::Open(handshake)));
    }

    #[test]
    fn events_are_written_as_they_are_read() {
        let arguments = vec![json!("abc"), json!({"sdp": "v=0\r\n", "type": "offer"})];
        let frame = event("offer", &arguments);
        assert_eq!(frame, r#"42["offer","abc",{"sdp":"v=0\r\n","type":"offer"}]"#);
        assert_eq!(Packet::parse(&frame), Ok(Packet::Event { name: "offer".to_owned(), arguments, ack: None }));
        assert_eq!(acknowledgement(12), "4312[]");
    }
}
