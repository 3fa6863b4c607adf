//! Images that stand still.

use std::path::Path;

use super::{FrameSink, Source, SourceError};
use crate::alive::Watch;

/// Opens an image.
pub(super) fn open(path: &Path, _sink: FrameSink, _watch: &Watch) -> Result<Source, SourceError> {
    Err(SourceError::unavailable(format!("image:{}", path.display()), "not yet", "use another source"))
}
