//! The shell of libwebrtc's `peerconnection` protocol (HTTP): one request per connection, one of them hanging.

use tokio::sync::{mpsc, watch};

use super::{ClientConfig, Operation};

/// Runs until `stop` says so.
pub(super) async fn run(config: ClientConfig, operations: mpsc::Receiver<Operation>, stop: watch::Receiver<bool>) {
    let _ = (config, operations, stop);
}
