//! libwebrtc's `peerconnection` protocol: what its messages are, and the daemon as a member of a server that speaks it.

pub mod client;
pub mod message;
