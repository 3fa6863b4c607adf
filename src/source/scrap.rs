//! The portable way to capture a screen.

use super::{FrameSink, Source, SourceError, SourceOptions};
use crate::alive::Watch;

/// Opens a screen.
pub(super) fn open(
    _display: Option<&str>,
    _name: Option<&str>,
    _options: &SourceOptions,
    _sink: FrameSink,
    _watch: &Watch,
) -> Result<Source, SourceError> {
    Err(SourceError::unavailable("screen", "not yet", "use --capture x11"))
}
