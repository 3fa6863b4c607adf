//! To be written.

use crate::config::RunConfig;

/// Runs the daemon until it is told to end.
pub fn run(_config: RunConfig) -> anyhow::Result<()> {
    anyhow::bail!("the daemon is not written")
}
