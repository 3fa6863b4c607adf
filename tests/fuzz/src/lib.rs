//! What the fuzzer drives, one function for each target: bytes in, through the daemon's cores, and what must hold of what comes out.
//!
//! Nothing here knows the fuzzer: the integration tests run the same functions over the committed corpora. A target is deterministic but for what the
//! daemon draws at random, and asserts more than that nothing panics: answers are lawful, output is bounded, what is printed is read back.
#![allow(clippy::unwrap_used, reason = "test code: a failure is a panic")]

mod input;
mod talk;

pub mod config;
pub mod control;
pub mod engineio;
pub mod frames;
pub mod http;
pub mod media;
pub mod peerconnection;
pub mod relay;
pub mod room;
pub mod rtcp;
pub mod sdp;
pub mod url;
pub mod viewer;
pub mod whip;

/// A target: it panics where something does not hold.
pub type Target = fn(&[u8]);

/// All targets by their names, which are those of their corpora too.
pub const TARGETS: &[(&str, Target)] = &[
    ("config", config::run),
    ("control", control::run),
    ("sdp", sdp::run),
    ("media", media::run),
    ("rtcp", rtcp::run),
    ("relay", relay::run),
    ("room", room::run),
    ("peerconnection", peerconnection::run),
    ("frames", frames::run),
    ("engineio", engineio::run),
    ("url", url::run),
    ("http", http::run),
    ("viewer", viewer::run),
    ("whip", whip::run),
];
