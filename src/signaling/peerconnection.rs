//! libwebrtc's `peerconnection` protocol: what its messages are.

pub mod message;
