//! What is said over the control socket, in types: version 1 of the protocol.
//!
//! Each line is a JSON object with `"laterna":1`. A request has its kind in `ask`; a reply has one more key, which is its kind. Fields may be added
//! within a version, so both ends pass over those that they don't know; what is there keeps its name, its type and its meaning.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

mod code;
mod event;

use crate::config::one_line;
pub use code::{Code, CodeOrigin, Revoked};
pub use event::{Event, Happened};

/// The version that is spoken here.
pub const VERSION: u64 = 1;

/// What is asked of the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case")]
pub enum Request {
    /// How it is: [`Reply::Status`].
    Status,
    /// Who is signed in where: [`Reply::Peers`].
    Peers,
    /// What happens from now on: a [`Reply::Event`] for each, until one of both ends; whatever else is asked meanwhile is passed over.
    Events,
    /// To offer the stream to a peer: [`Reply::Called`].
    Call {
        /// Its id, or its name.
        peer: String,
        /// The server, or a part of its label that no other has; needed where the peer alone is not clear.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        server: Option<String>,
    },
    /// To end a viewer's connection: [`Reply::Kicked`].
    Kick {
        /// Its number.
        viewer: u32,
    },
    /// To show another source: [`Reply::Switched`].
    Switch {
        /// Its spec, or `scene:NAME`.
        to: String,
    },
    /// To know the codes of viewers: [`Reply::Codes`].
    Codes {
        /// With the addresses to open, which have the codes in them.
        #[serde(default)]
        show: bool,
    },
    /// To add a code: [`Reply::CodeAdded`].
    AddCode {
        /// Its name.
        name: String,
        /// Since when it may not be used any more, in seconds since the Unix epoch.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expires_s: Option<u64>,
    },
    /// To revoke a code at once, and to end whom it let in: [`Reply::CodeRevoked`].
    RevokeCode {
        /// Its name.
        name: String,
    },
}

/// What the daemon says to a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// How it is.
    Status(Box<Status>),
    /// Each server and who is there.
    Peers(Vec<Server>),
    /// The offer is on its way.
    Called(Called),
    /// The viewer's connection is being ended.
    Kicked(Kicked),
    /// The source is shown.
    Switched(Switched),
    /// The codes, the daemon's own first.
    Codes(Vec<Code>),
    /// The code can be used.
    CodeAdded(Code),
    /// The code can't be used any more.
    CodeRevoked(Revoked),
    /// Something has happened.
    Event(Happened),
    /// What was asked is not done.
    Error(Complaint),
}

/// Why a request is not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Complaint {
    /// What kind of reason it is, for programs.
    pub kind: Kind,
    /// What was asked, what was found and what to do; one line, for people.
    pub message: String,
}

/// The kinds of reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The line is no request.
    BadRequest,
    /// The line is of another version of the protocol.
    Version,
    /// There is no such viewer, peer or server.
    Unknown,
    /// Several fit.
    Ambiguous,
    /// It can't be done now.
    Busy,
    /// The daemon can't answer.
    Unavailable,
    /// A kind that a newer daemon has.
    #[serde(other)]
    Other,
}

/// How the daemon is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// laterna's version.
    pub version: String,
    /// The broadcast's name.
    pub name: String,
    /// Seconds since it was ready.
    pub uptime_s: u64,
    /// Where HTTP listens; none with `--listen off`.
    pub http: Vec<SocketAddr>,
    /// The port of media.
    pub udp: u16,
    /// The SHA-256 of the web page's certificate; absent where it is not encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_fingerprint: Option<String>,
    /// So many viewers at once, at most.
    pub max_viewers: usize,
    /// Where pictures come from.
    pub source: Maker,
    /// Where sound comes from; `null` where there is none.
    pub sound: Option<Maker>,
    /// The extent of the picture that is sent, as `--size` writes it.
    pub size: String,
    /// One for each video codec, the preferred one first.
    pub encoders: Vec<Encoder>,
    /// Viewers, by their numbers.
    pub viewers: Vec<Viewer>,
    /// The signaling servers, the daemon's own room first.
    pub signaling: Vec<Server>,
    /// STUN and TURN servers, as they were given; none where the daemon is older than this field.
    #[serde(default)]
    pub ice_servers: Vec<IceServer>,
    /// The config file in use; absent where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
    /// What is wrong; none where all is well, or the daemon is older than this field.
    #[serde(default)]
    pub problems: Vec<Problem>,
}

/// Something that is wrong, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What; one line, for people.
    pub what: String,
    /// Seconds since it is so, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_s: Option<u64>,
    /// What to do; one line, for people.
    pub advice: String,
}

/// A source of pictures or sound.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Maker {
    /// What it is, for people.
    pub what: String,
    /// Whether it works at the moment: it does while somebody takes what it makes.
    pub running: bool,
}

/// An encoder, and what it has made since the daemon's start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Encoder {
    /// As `--codec` writes it.
    pub codec: String,
    /// Whether it works at the moment.
    pub running: bool,
    /// Pictures made, keyframes included.
    pub units: u64,
    /// Keyframes made.
    pub keyframes: u64,
    /// Bytes of all pictures.
    pub bytes: u64,
    /// Of the pictures, those of a recorded lesson that were sent as they are.
    #[serde(default)]
    pub passed: u64,
    /// Captures that a newer one replaced before they were encoded.
    #[serde(default)]
    pub skipped: u64,
    /// Times that it failed and was made anew.
    #[serde(default)]
    pub restarts: u64,
    /// What a picture took lately, in microseconds.
    #[serde(default)]
    pub recent_us: u64,
}

/// A viewer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Viewer {
    /// Its number, which logs and `kick` know it by; never used again.
    pub viewer: u32,
    /// Where it asked: `whep`, `room`, or the label of a signaling server.
    pub at: String,
    /// Its name or address there; empty where it has none.
    pub name: String,
    /// How far it is.
    pub state: Stage,
    /// Seconds since it is so.
    pub since_s: u64,
    /// What it takes, as `--codec` writes it, and `opus`.
    pub codecs: Vec<String>,
    /// The round trip time in milliseconds, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_ms: Option<u64>,
    /// Packets of pictures that were lost lately, in percent, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_percent: Option<u32>,
    /// The way that its packets go, where it is connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub way: Option<Way>,
    /// How well it is served, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<Quality>,
    /// Why it is not served better; for people.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub because: Vec<String>,
}

/// The way that a viewer's packets go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// Datagrams.
    Udp,
    /// A connection, where its network lets no datagrams through.
    Tcp,
    /// A TURN server of the daemon's.
    Relayed,
    /// A way that a newer daemon has.
    #[serde(other)]
    Other,
}

/// How well a viewer is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Quality {
    /// As well as can be.
    Good,
    /// Pictures stutter, or come late.
    Fair,
    /// It can hardly be watched.
    Bad,
    /// A word that a newer daemon has.
    #[serde(other)]
    Other,
}

/// How far a viewer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// It was answered, or called, and is not connected yet.
    Joining,
    /// It is connected.
    Connected,
    /// A stage that a newer daemon has.
    #[serde(other)]
    Other,
}

/// A signaling server, and who is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// `room`, or the server's URL without its options.
    pub server: String,
    /// How the daemon stands with it.
    pub standing: Standing,
    /// The name under which the daemon is signed in; not there while it is not, and where there are no names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Why it is away, for people; not there otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Who is there, without the daemon itself, by their ids; where the stream is published, the server itself.
    pub peers: Vec<Peer>,
}

/// How the daemon stands with a signaling server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// It tries to sign in for the first time.
    Connecting,
    /// It is signed in.
    SignedIn,
    /// The server has the stream, for viewers of its own.
    Publishing,
    /// Neither, and it will try again.
    Away,
    /// The operator has ended what was published there; a call publishes it again.
    Dismissed,
    /// It can't be said: the one who knows does not answer.
    #[serde(other)]
    Unknown,
}

/// A STUN or TURN server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IceServer {
    /// Its URL as browsers take it (RFC 7064, RFC 7065), without credentials.
    pub url: String,
    /// How the daemon stands with it.
    pub standing: IceStanding,
    /// Why it is away; not there otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// How the daemon stands with a STUN or TURN server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IceStanding {
    /// It is tried for the first time.
    Connecting,
    /// It has told the daemon's address, or relays for it.
    Ready,
    /// It does not, and is tried again.
    Away,
    /// Viewers are told of it, and the daemon itself has no use for it.
    ForViewers,
    /// A standing that a newer daemon has.
    #[serde(other)]
    Other,
}

/// A peer of a signaling server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Its id there.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// The number of its viewer, where it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub viewer: Option<u32>,
}

/// Who is called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Called {
    /// The server's label.
    pub server: String,
    /// The peer's id there.
    pub id: u64,
    /// Its name.
    pub name: String,
}

/// Whose connection is ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kicked {
    /// The viewer's number.
    pub viewer: u32,
    /// Where it asked.
    pub at: String,
    /// Its name or address there.
    pub name: String,
}

/// What is shown now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switched {
    /// What it is, for people.
    pub source: String,
}

/// Why a line of the daemon's can't be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// It is none of this protocol.
    #[error("what answers there is no laterna daemon: {0}")]
    Strange(String),
    /// The daemon speaks another version.
    #[error(
        "the daemon speaks version {0} of the control protocol, this command version {VERSION}: use the `laterna` of the daemon's release"
    )]
    Version(u64),
}

impl Complaint {
    /// A reason of a kind; what the message repeats of a request can't break its line.
    pub fn new(kind: Kind, message: impl AsRef<str>) -> Self {
        Self { kind, message: one_line(message.as_ref()) }
    }
}

impl Request {
    /// How long the answer may take: a desktop that asks its user which screen to show waits a minute for that one.
    pub fn patience(&self) -> Duration {
        match self {
            Self::Switch { .. } => Duration::from_secs(90),
            _ => Duration::from_secs(5),
        }
    }

    /// Reads a request's line.
    ///
    /// # Errors
    /// What is to be said where it is none, or of another version.
    pub fn parse(line: &[u8]) -> Result<Self, Complaint> {
        let bad = |why: String| Complaint::new(Kind::BadRequest, why);
        let expected = r#"write {"laterna":1,"ask":"status"}, or "peers", "events", "call", "kick", "switch", "codes", "add-code" or "revoke-code", on one line"#;
        let value: Value =
            serde_json::from_slice(line).map_err(|error| bad(format!("no JSON: {error}; {expected}")))?;
        match value.get("laterna").map(Value::as_u64) {
            Some(Some(VERSION)) => {}
            Some(Some(version)) => {
                let message = format!(
                    "version {version} of the control protocol is asked for, this daemon (laterna {}) speaks version {VERSION}: use the `laterna` of its release",
                    env!("CARGO_PKG_VERSION")
                );
                return Err(Complaint::new(Kind::Version, message));
            }
            Some(None) => return Err(bad(format!("the version in \"laterna\" is no number; {expected}"))),
            None => return Err(bad(format!("there is no version; {expected}"))),
        }
        serde_json::from_value(value).map_err(|error| bad(format!("no request of this daemon: {error}; {expected}")))
    }

    /// Its line, with the end.
    pub fn line(&self) -> String {
        line(self)
    }
}

impl Reply {
    /// Reads a reply's line.
    ///
    /// # Errors
    /// Where it is none, or of another version.
    pub fn parse(line: &[u8]) -> Result<Self, ReplyError> {
        let strange = |why: serde_json::Error| ReplyError::Strange(why.to_string());
        let mut value: Value = serde_json::from_slice(line).map_err(strange)?;
        let version = value.as_object_mut().and_then(|object| object.remove("laterna"));
        match version.as_ref().and_then(Value::as_u64) {
            Some(VERSION) => serde_json::from_value(value).map_err(strange),
            Some(other) => Err(ReplyError::Version(other)),
            None => Err(ReplyError::Strange("it says no version".to_owned())),
        }
    }

    /// Its line, with the end.
    pub fn line(&self) -> String {
        line(self)
    }
}

fn line(body: &impl Serialize) -> String {
    #[derive(Serialize)]
    struct Line<'a, T> {
        laterna: u64,
        #[serde(flatten)]
        body: &'a T,
    }
    // Types of this module have no keys but text, and no way to fail.
    let mut line = serde_json::to_string(&Line { laterna: VERSION, body }).unwrap_or_default();
    line.push('\n');
    line
}

#[cfg(test)]
mod tests;
