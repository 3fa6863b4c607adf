//! Cameras by V4L2.

use std::path::Path;

use super::list::Found;
use super::{FrameSink, Source, SourceError, SourceOptions};
use crate::alive::Watch;

/// Opens the camera of `device`, or the first one.
pub(super) fn open(
    device: Option<&Path>,
    _options: &SourceOptions,
    _sink: FrameSink,
    _watch: &Watch,
) -> Result<Source, SourceError> {
    let spec = device.map_or_else(|| "camera".to_owned(), |device| format!("camera:{}", device.display()));
    Err(SourceError::unavailable(spec, "not yet", "use another source"))
}

/// The cameras of this machine.
pub(super) fn list() -> Vec<Found> {
    Vec::new()
}
