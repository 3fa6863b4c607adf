//! Sound that a source brings with its pictures: from the source's thread to the thread `audio`.

/// A bounded queue of sound, 48 kHz, stereo.
#[derive(Debug, Default)]
pub struct Feed {}
