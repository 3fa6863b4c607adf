//! Wayland screens by the ScreenCast portal and PipeWire.

use super::list::Found;
use super::{FrameSink, Source, SourceError, SourceOptions};
use crate::alive::Watch;

/// Opens what the portal grants.
pub(super) fn open(
    _name: Option<&str>,
    _options: &SourceOptions,
    _sink: FrameSink,
    _watch: &Watch,
) -> Result<Source, SourceError> {
    Err(SourceError::unavailable("screen", "not yet", "use another source"))
}

/// Whether this is a session of Wayland.
pub(super) fn is_session() -> bool {
    false
}

/// The screens that the portal offers.
pub(super) fn list() -> Vec<Found> {
    Vec::new()
}
