//! Sessions: one viewer's connection each, and the broadcast that owns them all.

pub mod engine;
pub mod history;
pub mod sdp;
pub mod stream;
pub mod udp;
pub mod viewer;

#[cfg(test)]
mod tests;
