//! Reads `--source` until `SourceSpec::parse` is there.

use crate::source::SourceSpec;

/// Why a source is refused.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// The contract has it, this version does not.
    #[error("not yet: write auto, screen or pattern")]
    NotYet,
    /// Nothing the contract has.
    #[error("no such source; write auto, screen or pattern")]
    Unknown,
}

pub(super) fn parse(text: &str) -> Result<SourceSpec, SpecError> {
    let later = ["screen:", "window:", "region:", "camera", "file:", "image:", "off"];
    match text {
        "auto" => Ok(SourceSpec::Auto),
        "screen" => Ok(SourceSpec::Screen),
        "pattern" => Ok(SourceSpec::Pattern),
        text if later.iter().any(|kind| text.starts_with(kind)) => Err(SpecError::NotYet),
        _ => Err(SpecError::Unknown),
    }
}
