//! Encoders: frames in, access units out; one worker thread for each rung in use.

use std::time::Instant;

use bytes::Bytes;

pub mod h264;
pub mod keyframe;
pub mod novelty;
pub mod passing;
pub mod picture;
pub mod quantiser;
pub mod rate;
pub mod refine;
#[cfg(test)]
mod scenes;
pub mod schedule;
pub mod video;
#[cfg(test)]
mod viewer;
#[cfg(feature = "vp8")]
pub mod vp8;
pub mod worker;

/// What a picture or a sound is encoded to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// H.264, constrained baseline (ITU-T H.264, RFC 6184).
    H264,
    /// VP8 (RFC 6386, RFC 7741).
    Vp8,
    /// Opus, 48 kHz, stereo, 20 ms (RFC 6716, RFC 7587).
    Opus,
}

impl std::fmt::Display for Codec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::H264 => "h264",
            Self::Vp8 => "vp8",
            Self::Opus => "opus",
        })
    }
}

/// Bits per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bitrate(pub u32);

/// One encoded picture or 20 ms of sound, shared by all viewers.
#[derive(Debug, Clone)]
pub struct AccessUnit {
    /// How it is encoded.
    pub codec: Codec,
    /// H.264: Annex B byte stream, parameter sets in band before each IDR (rule 7). VP8: one frame. Opus: one packet.
    pub data: Bytes,
    /// Whether decoding can start here; always with sound.
    pub keyframe: bool,
    /// When its picture, or the first of its samples, was captured.
    pub captured: Instant,
    /// Sound: the number of its first sample at 48 kHz; after a gap it has jumped by the gap. Pictures: 0.
    pub sample: u64,
}
