//! What this machine has to show: each with the spec to type. Needs no daemon.

use serde::Serialize;

/// Something that can be shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Found {
    /// What to type after `--source` or `laterna switch`.
    pub spec: String,
    /// What it is, for people: a monitor's size and place, a window's title, a camera's name.
    pub what: String,
    /// More of it, a line each: a camera's formats with their sizes and rates.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<String>,
}
