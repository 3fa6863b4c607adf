//! TURN servers that an SFU names while the daemon runs (RFC 9725, section 4.6): used for as long as whoever was told of them keeps them.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use rtc_crypto::RTCCryptoProvider;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::server::{ServerConfig, Standing, run};
use super::table::Relays;
use crate::ice_server::{IceServer, Scheme};
use crate::signaling::client::tls;

/// Begins to use servers; clones share the table.
#[derive(Clone)]
pub struct RelayStarter {
    /// The table.
    pub relays: Arc<Relays>,
    /// Makes signatures.
    pub crypto: Arc<dyn RTCCryptoProvider>,
    /// Whether the media socket reaches IPv6.
    pub has_ipv6: bool,
    /// The URLs of the servers that are used for everybody.
    pub given: Arc<[String]>,
}

/// A server that is used until this is dropped.
pub struct ToldServer {
    standing: watch::Receiver<Standing>,
    url: String,
    task: AbortHandle,
}

impl fmt::Debug for RelayStarter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RelayStarter").finish_non_exhaustive()
    }
}

impl RelayStarter {
    /// What the task of a server needs; `only` the signaling server with this label is told of it, where there is one.
    pub fn config(
        &self,
        server: IceServer,
        tls: Option<Arc<rustls::ClientConfig>>,
        only: Option<Arc<str>>,
    ) -> ServerConfig {
        ServerConfig {
            server,
            relays: self.relays.clone(),
            crypto: self.crypto.clone(),
            tls,
            has_ipv6: self.has_ipv6,
            only,
            standing: watch::Sender::default(),
        }
    }

    /// Begins to use a server that the one with this `label` has named, to be called in a tokio runtime. With TLS its certificate is checked by the system's and those of `ca_file`.
    pub fn start(&self, server: IceServer, ca_file: Option<PathBuf>, label: Arc<str>) -> ToldServer {
        let (url, secure) = (server.url(), server.scheme == Scheme::Turns);
        let mut config = self.config(server, None, Some(label));
        let standing = config.standing.subscribe();
        let task = tokio::spawn(async move {
            if secure {
                // Reading certificates may take a while.
                match tokio::task::spawn_blocking(move || tls::client(ca_file.as_deref())).await {
                    Ok(Ok(tls)) => config.tls = Some(tls),
                    Ok(Err(error)) => return drop(config.standing.send_replace(Standing::Away(error.to_string()))),
                    Err(_) => return,
                }
            }
            run(config).await;
        });
        ToldServer { standing, url, task: task.abort_handle() }
    }
}

impl ToldServer {
    /// The server's URL, without the login.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Awaits that it begins to relay, after what was awaited last; for ever where it does not.
    pub async fn comes_up(&mut self) {
        while self.standing.changed().await.is_ok() {
            if *self.standing.borrow_and_update() == Standing::Ready {
                return;
            }
        }
        std::future::pending().await
    }

    /// Whether it relays now.
    pub fn is_ready(&self) -> bool {
        *self.standing.borrow() == Standing::Ready
    }
}

impl Drop for ToldServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}
