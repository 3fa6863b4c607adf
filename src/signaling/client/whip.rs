//! The shell of WHIP (RFC 9725): the daemon publishes to an SFU.

use tokio::sync::{mpsc, watch};

use super::{ClientConfig, Operation};

/// Runs until `stop` says so.
pub(super) async fn run(config: ClientConfig, operations: mpsc::Receiver<Operation>, stop: watch::Receiver<bool>) {
    let _ = (config, operations, stop);
}
