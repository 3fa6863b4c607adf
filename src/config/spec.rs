//! Reads `--source` until `SourceSpec::parse` is there.

use crate::source::SourceSpec;

/// Why a source is refused.
#[derive(Debug)]
pub enum SpecError {
    /// The contract has it, this version does not.
    NotYet {
        /// What is missing.
        what: &'static str,
    },
    /// Nothing the contract has.
    Unknown {},
}

pub(super) fn parse(text: &str) -> Result<SourceSpec, SpecError> {
    let later = ["screen:", "window:", "region:", "camera", "file:", "image:", "off", "pattern + "];
    match text {
        "auto" => Ok(SourceSpec::Auto),
        "screen" => Ok(SourceSpec::Screen),
        "pattern" => Ok(SourceSpec::Pattern),
        text if later.iter().any(|kind| text.starts_with(kind)) => {
            Err(SpecError::NotYet { what: "another kind of source" })
        }
        _ => Err(SpecError::Unknown {}),
    }
}
