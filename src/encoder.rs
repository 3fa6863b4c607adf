//! Encoders: frames in, access units out; one worker thread for each rung in use.

use std::time::Instant;

use bytes::Bytes;

pub mod h264;
pub mod keyframe;
pub mod novelty;
pub mod quantiser;
pub mod rate;
pub mod refine;
#[cfg(test)]
mod scenes;
pub mod schedule;
pub mod worker;

/// What a picture or a sound is encoded to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// H.264, constrained baseline (ITU-T H.264, RFC 6184).
    H264,
    /// VP8 (RFC 6386, RFC 7741).
    Vp8,
}

/// Bits per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bitrate(pub u32);

/// One encoded picture, shared by all viewers.
#[derive(Debug, Clone)]
pub struct AccessUnit {
    /// How it is encoded.
    pub codec: Codec,
    /// H.264: Annex B byte stream, parameter sets in band before each IDR (rule 7).
    pub data: Bytes,
    /// Whether decoding can start here.
    pub keyframe: bool,
    /// When its picture was captured.
    pub captured: Instant,
}
