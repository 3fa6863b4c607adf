//! What happens, as [`Request::Events`](super::Request::Events) has it told: a line each.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{IceStanding, Standing};

/// Something that has happened, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Map<String, Value>")]
pub struct Happened {
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// What.
    #[serde(flatten)]
    pub event: Event,
}

impl TryFrom<Map<String, Value>> for Happened {
    type Error = &'static str;

    fn try_from(mut fields: Map<String, Value>) -> Result<Self, Self::Error> {
        let at_ms = fields.remove("at_ms").as_ref().and_then(Value::as_u64).ok_or("an event without its time")?;
        // What can't be read is of a newer daemon.
        let event = serde_json::from_value(Value::Object(fields)).unwrap_or(Event::Other);
        Ok(Self { at_ms, event })
    }
}

/// What happens. Kinds may be added within a version of the protocol, and fields to a kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum Event {
    /// From here on everything is told: the first line for each who asks.
    Following {
        /// The broadcast's name.
        name: String,
    },
    /// Whoever reads was too slow: so many of the oldest that it had not read are gone.
    Lost {
        /// How many.
        events: u64,
    },
    /// A viewer is connected.
    ViewerConnected {
        /// Its number.
        viewer: u32,
        /// Where it asked.
        at: String,
        /// Its name or address there.
        name: String,
        /// From its offer to the connection, in milliseconds.
        took_ms: u64,
        /// Viewers connected now.
        watching: usize,
    },
    /// A viewer that was connected is gone.
    ViewerEnded {
        /// Its number.
        viewer: u32,
        /// Where it asked.
        at: String,
        /// Its name or address there.
        name: String,
        /// Why.
        why: String,
        /// How long it was connected, in milliseconds.
        after_ms: u64,
        /// Viewers connected now.
        watching: usize,
    },
    /// A viewer was answered, or called, and never connected.
    ViewerFailed {
        /// Its number.
        viewer: u32,
        /// Where it asked.
        at: String,
        /// Its name or address there.
        name: String,
        /// Why.
        why: String,
    },
    /// A viewer was not answered.
    ViewerRefused {
        /// Where it asked.
        at: String,
        /// Its name or address there.
        name: String,
        /// Why.
        why: String,
    },
    /// An encoder, or sound, has begun or ended its work, as somebody or nobody takes it.
    Encoder {
        /// As `--codec` writes it, or `opus`.
        codec: String,
        /// Whether it works now.
        running: bool,
    },
    /// Where pictures come from is gone; it is tried again.
    SourceLost {
        /// What it is.
        source: String,
        /// Why.
        why: String,
    },
    /// Pictures come again.
    SourceBack {
        /// Where from.
        source: String,
    },
    /// Something that stands over the source is gone; it is tried again, and all else is shown.
    OverlayLost {
        /// What, and why.
        why: String,
    },
    /// All that stands over the source is there again.
    OverlayBack {},
    /// Where sound comes from is gone; it is tried again.
    SoundLost {
        /// What it is.
        sound: String,
        /// Why.
        why: String,
    },
    /// Sound comes again.
    SoundBack {
        /// Where from.
        sound: String,
    },
    /// The daemon stands otherwise with a signaling server.
    Signaling {
        /// The server's label.
        server: String,
        /// How.
        standing: Standing,
        /// The name under which it is signed in, where it is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// Why it is away, where it is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<String>,
    },
    /// The daemon stands otherwise with a STUN or TURN server.
    IceServer {
        /// Its URL, without credentials.
        url: String,
        /// How.
        standing: IceStanding,
        /// Why it is away, where it is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<String>,
    },
    /// The configuration was read again and is taken over.
    Reloaded {
        /// The settings that have changed.
        changed: Vec<String>,
        /// Those that have changed and hold from the next start on.
        waiting: Vec<String>,
    },
    /// An operator has switched to another source.
    Switched {
        /// What is shown now, for people.
        source: String,
    },
    /// The configuration was read again, makes no sense, and is not taken over.
    ReloadRefused {
        /// Why.
        why: String,
    },
    /// The daemon ends.
    Stopping {
        /// Why: a signal's name, or what went wrong.
        why: String,
    },
    /// A kind that a newer daemon has.
    #[serde(skip_deserializing)]
    Other,
}
