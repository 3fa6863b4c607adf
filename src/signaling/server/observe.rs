//! `/readyz` and `/metrics`: what is said of the daemon itself.

use std::net::SocketAddr;
use std::time::Duration;

use hyper::header::{self, HeaderValue};
use hyper::{HeaderMap, StatusCode};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::reply::Reply;
use crate::control::wire::Status;
use crate::metrics;
use crate::signaling::access::Verdict;
use crate::signaling::whep;

/// Whether viewers can be served now; open to everybody.
const READY: &str = "/readyz";
/// Numbers for Prometheus; for this machine and for operators.
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
///
/// `is_operator` judges the token that a request for metrics carries which is not from this machine.
pub(super) async fn answer(
    path: &str,
    from: SocketAddr,
    headers: &HeaderMap,
    is_operator: impl FnOnce(Option<&str>) -> Verdict,
    observer: &Observer,
) -> Reply {
    if path == METRICS && !from.ip().is_loopback() {
        match is_operator(whep::bearer(headers)) {
            Verdict::Granted(_) => {}
            Verdict::Missing => {
                let sentence = "metrics are for this machine, and for operators: ask from it, at a loopback address, or with a token ([tokens] in the config file)";
                return Reply::sentence(StatusCode::FORBIDDEN, sentence);
            }
            Verdict::Wrong => {
                return Reply::sentence(StatusCode::UNAUTHORIZED, "the operator's token is wrong").closing();
            }
            Verdict::TooMany { retry_after } => {
                let sentence = "the operator's token is wrong, and so was too much before it; wait before the next try";
                return Reply::sentence(StatusCode::TOO_MANY_REQUESTS, sentence).retry_after(retry_after).closing();
            }
        }
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
