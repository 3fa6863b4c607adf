//! Recorded lessons.

use std::path::Path;
use std::time::Duration;

use super::{FrameSink, Source, SourceError, SourceOptions};
use crate::alive::Watch;

/// Opens a file, or a folder of them.
pub(super) fn open(
    path: &Path,
    _looped: bool,
    _start: Duration,
    _options: &SourceOptions,
    _sink: FrameSink,
    _watch: &Watch,
) -> Result<Source, SourceError> {
    Err(SourceError::unavailable(format!("file:{}", path.display()), "not yet", "use another source"))
}
