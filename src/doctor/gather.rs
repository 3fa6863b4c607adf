//! The doctor's shell: asks the system and the daemon for facts, and judges none of them.

use std::path::Path;

use crate::control::client::{self, ClientError};
use crate::control::wire::Status;

pub(super) mod clock;
pub(super) mod machine;
pub(super) mod media;
pub(super) mod network;
pub(super) mod screen;
mod servers;

/// How the daemon at `control`, or at a default place, is.
pub(super) fn daemon(control: Option<&Path>) -> Result<Status, ClientError> {
    client::status(control)
}
