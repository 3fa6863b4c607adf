//! Sound: captured, cut to 20 ms, and encoded once for all viewers.

mod spec;

pub use spec::{AudioSpec, AudioSpecError};
