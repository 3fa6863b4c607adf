//! Sessions: one viewer's connection each, and the broadcast that owns them all.

pub mod udp;
pub mod wake;
