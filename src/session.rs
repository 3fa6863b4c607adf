//! Sessions: one viewer's connection each, and the broadcast that owns them all.

pub mod engine;
pub mod sdp;
pub mod udp;
