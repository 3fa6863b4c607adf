//! Sources: where pictures come from. Each backend runs in a thread of its own and hands frames to a [`FrameSink`].

use std::fmt;
use std::sync::Arc;

use crate::frame::{Frame, Size};

pub mod pattern;
pub mod x11;

/// Takes each captured frame; must not block.
pub type FrameSink = Arc<dyn Fn(Frame) + Send + Sync>;

/// A source as it is written (`--source`), of those that this version opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceSpec {
    /// The screen if there is one, else the pattern.
    Auto,
    /// The X11 screen of `$DISPLAY`.
    Screen,
    /// The test card.
    Pattern,
}

/// How a source is opened.
#[derive(Debug, Clone, Copy)]
pub struct SourceOptions {
    /// At most so many frames a second.
    pub fps: u32,
    /// Whether the pointer is shown.
    pub pointer: bool,
    /// The size of a source that can choose one (the pattern); screens have their own.
    pub size: Option<Size>,
}

/// Why a source could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// There is no such display, or it refuses.
    #[error("source screen: {found}; {advice}")]
    Display {
        /// What was found.
        found: String,
        /// What to do.
        advice: String,
    },
    /// The operating system refuses something.
    #[error("source {spec}: {what}: {error}")]
    System {
        /// The source asked for.
        spec: &'static str,
        /// What was tried.
        what: &'static str,
        /// What the system said.
        error: std::io::Error,
    },
}

impl fmt::Display for SourceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Screen => "screen",
            Self::Pattern => "pattern",
        })
    }
}
