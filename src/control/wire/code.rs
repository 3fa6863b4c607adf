//! Codes of viewers, as operators see them.

use serde::{Deserialize, Serialize};

/// A code of viewers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Code {
    /// Its name.
    pub name: String,
    /// Where it comes from.
    pub origin: CodeOrigin,
    /// Since when it may not be used any more, in seconds since the Unix epoch; not there where it does not expire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_s: Option<u64>,
    /// Whether that is over.
    pub expired: bool,
    /// How many viewers are there whom it let in.
    pub viewers: usize,
    /// The addresses to open, with the code in them; none where they were not asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub open: Vec<String>,
}

/// Where a code comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CodeOrigin {
    /// It is the daemon's own.
    Main,
    /// It is in the config file.
    Config,
    /// An operator added it.
    Added,
    /// An origin that a newer daemon has.
    #[serde(other)]
    Other,
}

/// What was revoked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoked {
    /// The code's name.
    pub name: String,
    /// How many viewers were there whom it had let in.
    pub viewers: usize,
    /// The code that replaces it, where it was the daemon's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instead: Option<Code>,
}
