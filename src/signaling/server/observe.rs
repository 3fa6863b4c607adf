//! `/readyz` and `/metrics`: what is said of the daemon itself.

use std::net::SocketAddr;
use std::time::Duration;

use hyper::StatusCode;
use hyper::header::{self, HeaderValue};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::reply::Reply;
use crate::control::wire::Status;
use crate::metrics;

/// Whether viewers can be served now; open to everybody.
const READY: &str = "/readyz";
/// Numbers for Prometheus; for this machine only.
const METRICS: &str = "/metrics";
/// How long the daemon's parts may take to say how they are.
const PATIENCE: Duration = Duration::from_secs(2);

/// Questions how the daemon is.
pub type Looks = mpsc::Receiver<oneshot::Sender<Status>>;

/// What the answers are made of.
#[derive(Debug)]
pub(super) struct Observer {
    /// Asks the daemon how it is.
    pub(super) looks: mpsc::Sender<oneshot::Sender<Status>>,
    /// When it began, in seconds since the Unix epoch.
    pub(super) started: u64,
}

/// Whether a path is one of these.
pub(super) fn owns(path: &str) -> bool {
    matches!(path, READY | METRICS)
}

/// Answers a request for one of them.
pub(super) async fn answer(path: &str, from: SocketAddr, observer: &Observer) -> Reply {
    if path == METRICS && !from.ip().is_loopback() {
        let sentence = "metrics are for this machine only: ask from it, at a loopback address";
        return Reply::sentence(StatusCode::FORBIDDEN, sentence);
    }
    let Some(status) = look(observer).await else {
        let sentence = format!("not ready: the broadcast did not say within {PATIENCE:?} how it is; see the log");
        return Reply::sentence(StatusCode::SERVICE_UNAVAILABLE, sentence).retry_after(PATIENCE);
    };
    if path == READY {
        return Reply::sentence(StatusCode::OK, "ready");
    }
    let alive = Handle::current().metrics().num_alive_tasks();
    Reply::sentence(StatusCode::OK, "")
        .with(header::CONTENT_TYPE, HeaderValue::from_static(metrics::CONTENT_TYPE))
        .with_body(metrics::text(&status, observer.started) + &metrics::tasks(alive))
}

async fn look(observer: &Observer) -> Option<Status> {
    let (reply, status) = oneshot::channel();
    timeout(PATIENCE, async {
        observer.looks.send(reply).await.ok()?;
        status.await.ok()
    })
    .await
    .ok()?
}
