//! The daemon as a client of signaling servers that others wrote: one task for each `--signaling` URL.
//!
//! Shells: they keep a connection and the clock, carry what the protocols' cores put out to the server, to the broadcast and to the operator, and
//! decide nothing. A server that is lost or refuses is tried again for ever ([`backoff`]); what is connected meanwhile goes on.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::ask::Asker;
use super::channel::Channel;
use super::mdn::Mdn;
use super::peers::{CallError, CallPolicy, PeerState};
use super::socketio::SocketIo;
use crate::clock::Clock;
use crate::control::wire;
use crate::events::Events;
use crate::id::{PeerId, SessionId};
use crate::session::relay::told::RelayStarter;

pub mod backoff;
pub mod frames;
mod peerconnection;
pub mod tls;
mod token;
pub mod url;
mod websocket;
mod whip;
pub mod why;

use url::{Protocol, SignalingUrl};

/// How long signing out may take at the end.
pub const MOST_SIGNING_OUT: Duration = Duration::from_secs(2);
/// Requests of operators that wait for one client.
const MOST_OPERATIONS: usize = 16;

/// What every client is told at its start.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// The server.
    pub url: SignalingUrl,
    /// The name under which the daemon signs in.
    pub name: String,
    /// Whom the daemon calls where the URL says nothing.
    pub call: CallPolicy,
    /// The way to the broadcast.
    pub asker: Asker,
    /// Where a protocol wants the time of day.
    pub clock: Clock,
    /// Uses the relays that an SFU names.
    pub relays: RelayStarter,
    /// Is told whenever the daemon stands otherwise with the server.
    pub events: Events,
}

impl ClientConfig {
    /// Whom the daemon calls there.
    pub fn call(&self) -> CallPolicy {
        self.url.call.clone().unwrap_or_else(|| self.call.clone())
    }
}

/// How the daemon stands with a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It tries to sign in for the first time.
    Connecting,
    /// It is signed in, under this name.
    SignedIn(String),
    /// The server has the stream, for viewers of its own.
    Publishing,
    /// It is not, for this reason, and will try again.
    Away(String),
    /// The operator has ended what was published there: it is not tried again until the operator calls.
    Dismissed,
}

impl Standing {
    /// What operators are told: the standing, the daemon's name there, and why it is away.
    pub fn told(&self) -> (wire::Standing, Option<String>, Option<String>) {
        match self {
            Self::Connecting => (wire::Standing::Connecting, None, None),
            Self::SignedIn(name) => (wire::Standing::SignedIn, Some(name.clone()), None),
            Self::Publishing => (wire::Standing::Publishing, None, None),
            Self::Away(why) => (wire::Standing::Away, None, Some(why.clone())),
            Self::Dismissed => (wire::Standing::Dismissed, None, None),
        }
    }

    /// Tells that the daemon stands so with `server` now; not where it was away before too, for whatever reason.
    pub fn tell(&self, server: &str, before: &Self, events: &Events) {
        let is_news = match (self, before) {
            (Self::Away(_), Self::Away(_)) => false,
            (now, before) => now != before,
        };
        if is_news {
            let (standing, name, why) = self.told();
            events.tell(wire::Event::Signaling { server: server.to_owned(), standing, name, why });
        }
    }
}

/// A server and who is there, for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerState {
    /// The URL without its options, or `room`.
    pub label: String,
    /// How the daemon stands with it.
    pub standing: Standing,
    /// Who is there, without the daemon itself.
    pub peers: Vec<PeerState>,
}

/// What an operator wants of the daemon at one server.
#[derive(Debug)]
pub enum Operation {
    /// To know how it stands.
    Look(oneshot::Sender<ServerState>),
    /// To offer to a peer.
    Call(PeerId, oneshot::Sender<Result<(), CallError>>),
    /// To go on under this name, and to call whom this says unless the server's URL says otherwise. Nobody's connection is touched.
    Terms(String, CallPolicy),
}

/// The operator's end of one server: an external one, or the room.
#[derive(Debug, Clone)]
pub struct Desk {
    /// What [`ServerState::label`] says.
    pub label: Arc<str>,
    operations: mpsc::Sender<Operation>,
}

impl Desk {
    /// Makes both ends.
    pub fn new(label: Arc<str>) -> (Self, mpsc::Receiver<Operation>) {
        let (operations, wanted) = mpsc::channel(MOST_OPERATIONS);
        (Self { label, operations }, wanted)
    }

    /// How the daemon stands there; `None` where that can't be said.
    pub async fn look(&self) -> Option<ServerState> {
        let (reply, state) = oneshot::channel();
        self.operations.send(Operation::Look(reply)).await.ok()?;
        state.await.ok()
    }

    /// Goes on under a name and a policy, as soon as it can.
    pub async fn set_terms(&self, name: String, call: CallPolicy) {
        // One that has ended has no use for them.
        let _ = self.operations.send(Operation::Terms(name, call)).await;
    }

    /// Offers to a peer.
    ///
    /// # Errors
    /// Where it is not there, or is being called.
    pub async fn call(&self, peer: PeerId) -> Result<(), CallError> {
        let (reply, result) = oneshot::channel();
        let gone = |_| CallError::Unknown;
        self.operations.send(Operation::Call(peer, reply)).await.map_err(|_| CallError::Unknown)?;
        result.await.unwrap_or_else(|error| Err(gone(error)))
    }
}

/// A running client; it ends in order, within [`MOST_SIGNING_OUT`], once `stop` says so.
pub struct Client {
    /// The operator's end.
    pub desk: Desk,
    /// Its task.
    pub task: JoinHandle<()>,
}

/// Why a file that a URL names is of no use.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// That of the token.
    #[error(transparent)]
    Token(#[from] token::TokenError),
    /// That of the certificates.
    #[error(transparent)]
    Certificates(#[from] tls::TlsError),
}

/// Reads the files that a URL names, once: whatever is wrong with them at the daemon's start is a mistake. Later they are read anew at each connection.
///
/// # Errors
/// Where one of them can't be read, or is none.
pub fn check_files(url: &SignalingUrl) -> Result<(), FileError> {
    url.token_file.as_deref().map(token::bearer).transpose()?;
    url.ca_file.as_deref().map(|path| tls::client(Some(path))).transpose()?;
    Ok(())
}

/// Starts the client of a server; to be called in a tokio runtime. It ends after `stop` has become true.
pub fn start(config: ClientConfig, stop: watch::Receiver<bool>) -> Client {
    let (desk, operations) = Desk::new(config.url.label());
    let task = tokio::spawn(run(config, operations, stop));
    Client { desk, task }
}

async fn run(config: ClientConfig, operations: mpsc::Receiver<Operation>, stop: watch::Receiver<bool>) {
    let (name, call) = (config.name.clone(), config.call());
    match config.url.protocol {
        Protocol::PeerConnection => peerconnection::run(config, operations, stop).await,
        Protocol::Mdn => {
            let mdn = Mdn::new(&name, call, SessionId::random, config.clock);
            frames::run(config, mdn, operations, stop).await;
        }
        Protocol::SocketIo => {
            frames::run(config, SocketIo::new(&name, call, SessionId::random), operations, stop).await
        }
        Protocol::Channel => {
            frames::run(config, Channel::new(&name, call, SessionId::random), operations, stop).await;
        }
        Protocol::Whip => whip::run(config, operations, stop).await,
    }
}
