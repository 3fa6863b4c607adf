//! Offers and answers (RFC 8866, RFC 3264, RFC 8829, RFC 9143): what a viewer offers, what of it the daemon takes, the answer's words, and the
//! daemon's own offer for viewers that make none.
//!
//! A pure core. It never answers with anything the offer does not allow: payload types, extensions, directions and codecs are the offer's own.

use super::engine::RemoteTransport;
use crate::encoder::Codec;

mod answer;
mod attributes;
#[cfg(test)]
mod checker;
mod codecs;
#[cfg(test)]
mod corpus;
mod description;
mod negotiate;
mod offer;
#[cfg(test)]
mod tests;

pub use answer::answer;
pub use attributes::candidates;
pub use description::{Description, DescriptionError, Direction, Extension, Kind, Section};
pub use negotiate::{NegotiationError, negotiate, pause, sent, video_wanted};
pub use offer::{Party, accept, offer};

/// Header extension of transport-wide sequence numbers (draft-holmer-rmcat-transport-wide-cc-extensions-01).
pub const TRANSPORT_CC: &str = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
/// Header extension that bounds the receiver's playout delay.
pub const PLAYOUT_DELAY: &str = "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay";

/// What the daemon can send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    /// Video codecs in order of preference, those that are being encoded first.
    pub video: Vec<Codec>,
    /// Whether there is sound (Opus).
    pub audio: bool,
}

/// What is agreed for one transport.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agreement {
    /// Index of a section in the offer that the transport is of.
    pub section: usize,
    /// The video, where it goes this way.
    pub video: Option<VideoParameters>,
    /// The sound, where it goes this way.
    pub audio: Option<AudioParameters>,
    /// The viewer's side of the transport.
    pub remote: RemoteTransport,
}

/// What was agreed for the video of one viewer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VideoParameters {
    /// Its codec.
    pub codec: Codec,
    /// Index of its section in the offer.
    pub section: usize,
    /// Payload type of the codec.
    pub payload_type: u8,
    /// The answer's `a=fmtp` parameters; empty where there are none.
    pub format: String,
    /// Payload type of retransmissions (RFC 4588).
    pub rtx: Option<u8>,
    /// Id of the transport-wide sequence number extension.
    pub transport_cc: Option<u8>,
    /// Id of the playout delay extension.
    pub playout_delay: Option<u8>,
    /// Which of the daemon's feedback kinds the offer has for this payload type, in its own order.
    pub feedback: Vec<&'static str>,
}

/// What was agreed for the sound of one viewer: Opus, 48 kHz, stereo, packets of 20 ms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AudioParameters {
    /// Index of its section in the offer.
    pub section: usize,
    /// Payload type of Opus.
    pub payload_type: u8,
    /// The answer's `a=fmtp` parameters (RFC 7587, section 6.1).
    pub format: String,
}

/// Whether a viewer plays sound and picture together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// One MediaStream: the picture waits for its sound.
    Lip,
    /// Two MediaStreams: neither waits.
    LowLatency,
}

/// The daemon's streams as its descriptions name them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalStreams {
    /// SSRC of the video.
    pub video_ssrc: u32,
    /// SSRC of its retransmissions.
    pub rtx_ssrc: u32,
    /// SSRC of the sound.
    pub audio_ssrc: u32,
    /// The broadcast's name, which the page shows.
    pub name: String,
    /// Canonical name (RFC 3550, section 6.5.1).
    pub cname: String,
    /// Whether both are in one MediaStream.
    pub sync: Sync,
    /// Index of the section that the video was agreed for last, and whether it has retransmissions.
    pub video_section: Option<(usize, bool)>,
    /// Index of the section that the sound was agreed for last.
    pub audio_section: Option<usize>,
}

/// The `o=` line of the daemon's descriptions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// Session id: stays over renegotiations.
    pub id: u64,
    /// Version: grows with each description.
    pub version: u64,
}
