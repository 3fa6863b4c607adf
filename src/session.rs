//! Sessions: one viewer's connection each, and the broadcast that owns them all.

pub mod allowance;
pub mod broadcast;
pub mod dialogue;
pub mod engine;
pub mod fault;
pub mod history;
pub mod inbox;
pub mod join;
pub mod media;
pub mod messages;
pub mod networks;
pub mod port;
pub mod reach;
pub mod relay;
pub mod sdp;
pub mod sink;
pub mod sound;
pub mod stream;
pub mod streams;
pub mod tcp;
pub mod timers;
pub mod turns;
pub mod udp;
pub mod viewer;
pub mod wake;

#[cfg(test)]
mod tests;
