//! The embedded HTTP server: the viewer page, WHEP, the room, `/healthz`, `/readyz` and `/metrics` (HTTP/1.0 and 1.1, RFC 9112).
//!
//! Owns the listening sockets and the connections, their number and their time. It makes no decision about a viewer: [`super::whep`],
//! [`super::room`] and [`super::peers`] do, and the broadcast behind the channel. It never buffers more of a body than an offer may have,
//! and waits for nobody without a deadline but for members' next messages; a client that vanished without a word is found out by TCP keep-alive.
//! No reply has a `Date`: the room's must not, and nothing is cached by age.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Version};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinSet};

use super::SignalIn;
use super::access::{Access, OFFERS_PER_MINUTE, Origins, OwnNames};
use super::client::{Desk, Operation};
use super::room::RoomLimits;
use crate::clock;
use crate::control::wire::Status;
use crate::ice_server::IceServers;
use crate::trouble::{Exhausted, until};

pub(super) mod complaint;
mod connections;
mod exchange;
mod listen;
mod observe;
mod pages;
mod reply;
mod room;
#[cfg(test)]
mod room_tests;
mod stream;
#[cfg(test)]
mod tests;
pub mod tls;
mod version;
mod whole;

pub use complaint::Complaint;
pub use connections::{Admission, ConnectionId, ConnectionLimits, Connections, Stage};
pub use observe::Looks;
pub use reply::Reply;
pub use room::RoomConfig;

use exchange::{Exchange, HostCheck};
use listen::{canonical, is_of_the_peer};
use observe::Observer;
use room::RoomService;
use stream::{Afterwards, SharedStream, refuse};
use tls::Tls;
use version::AsOneOne;

/// Where the server listens unless told otherwise: both families.
pub const DEFAULT_PORT: u16 = 8888;
/// What the operator knows the room by.
const ROOM_LABEL: &str = "room";
/// The most that is read of a request's head.
const HEAD_BYTES: usize = 16 * 1024;
/// How long requests in flight may take once the server is told to stop.
const CLOSING_WAIT: Duration = Duration::from_secs(1);
/// A silent connection is probed after this time, then in this interval so often.
const PROBE_AFTER: Duration = Duration::from_secs(20);
const PROBE_INTERVAL: Duration = Duration::from_secs(5);
const PROBES: u32 = 4;
/// Questions how the daemon is that wait.
const MOST_LOOKS: usize = 16;
/// The pause after the system had no resources for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How the server is set up.
#[derive(Debug)]
pub struct ServerConfig {
    /// The addresses to listen on; port 0 is any. Empty: no HTTP.
    pub listen: Vec<SocketAddr>,
    /// Sockets that listen already, in the place of those addresses where there are any.
    pub inherited: Vec<TcpListener>,
    /// Who may watch; whoever has it may change it at any time.
    pub access: Arc<Mutex<Access>>,
    /// The names in `Host` that are answered.
    pub own_names: OwnNames,
    /// The room, where there is one.
    pub room: Option<RoomConfig>,
    /// The ICE servers that viewers are told of.
    pub ice: IceServers,
    /// The certificate; none where HTTP is not encrypted.
    pub tls: Option<Tls>,
    /// What a reload may change.
    pub terms: watch::Receiver<ServerTerms>,
}

/// What of the server may change while it runs; what is under way goes on as it began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerTerms {
    /// How many connections may be open.
    pub connections: ConnectionLimits,
    /// How many members the room may have.
    pub members: RoomLimits,
    /// How long is waited for anybody.
    pub deadlines: Deadlines,
    /// The sites whose pages may ask for the stream.
    pub origins: Origins,
    /// How often an address may offer in a minute.
    pub offers_per_minute: u32,
}

impl Default for ServerTerms {
    fn default() -> Self {
        Self {
            connections: ConnectionLimits::default(),
            members: RoomLimits::default(),
            deadlines: Deadlines::default(),
            origins: Origins::default(),
            offers_per_minute: OFFERS_PER_MINUTE,
        }
    }
}

/// How long the server waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// For a request's head; a connection is also kept open so long between requests.
    pub head: Duration,
    /// For a request's body.
    pub body: Duration,
    /// For the broadcast's answer.
    pub answer: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        let wait = Duration::from_secs(5);
        Self { head: wait, body: wait, answer: wait }
    }
}

/// Why the server can't listen.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Another program has the port.
    #[error(
        "listen on {address}: the port is taken, by another program or by another --listen; stop it, or choose another with --listen ADDR:PORT (0 for any)"
    )]
    Taken {
        /// The address asked for.
        address: SocketAddr,
    },
    /// The port is for privileged users.
    #[error("listen on {address}: not permitted; choose a port from 1024 on with --listen ADDR:PORT")]
    NotPermitted {
        /// The address asked for.
        address: SocketAddr,
    },
    /// The address belongs to no interface of this machine.
    #[error("listen on {address}: this machine has no such address; choose one of its own with --listen ADDR:PORT")]
    NoSuchAddress {
        /// The address asked for.
        address: SocketAddr,
    },
    /// The operating system refuses for another reason.
    #[error("listen on {address}: {error}; choose another with --listen ADDR:PORT")]
    System {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
}

/// The server, bound and not yet running: connections wait in the backlog until it does.
#[derive(Debug)]
pub struct Server {
    listeners: Vec<TcpListener>,
    addresses: Vec<SocketAddr>,
    access: Arc<Mutex<Access>>,
    own_names: OwnNames,
    room: Option<RoomConfig>,
    desk: (Desk, mpsc::Receiver<Operation>),
    looks: mpsc::Sender<oneshot::Sender<Status>>,
    ice: IceServers,
    tls: Option<Tls>,
    terms: watch::Receiver<ServerTerms>,
}

impl Server {
    /// Binds all addresses; gives the questions how the daemon is, too, which whoever knows answers.
    ///
    /// # Errors
    /// Where one of them can't be bound.
    pub fn bind(config: ServerConfig) -> Result<(Self, Looks), ServerError> {
        let (looks, asked) = mpsc::channel(MOST_LOOKS);
        let listeners = if config.inherited.is_empty() {
            listen::bind_all(&config.listen)?
        } else {
            listen::take_all(config.inherited)
        };
        let addresses = listeners.iter().map(|(_, address)| *address).collect();
        let server = Self {
            listeners: listeners.into_iter().map(|(listener, _)| listener).collect(),
            addresses,
            access: config.access,
            own_names: config.own_names,
            room: config.room,
            desk: Desk::new(ROOM_LABEL.into()),
            looks,
            ice: config.ice,
            tls: config.tls,
            terms: config.terms,
        };
        Ok((server, asked))
    }

    /// The addresses that are bound, with their real ports, in the order asked for.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The certificate; none where HTTP is not encrypted.
    pub fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    /// The operator's end of the room, where there is one; it answers once the server runs.
    pub fn desk(&self) -> Option<Desk> {
        self.room.as_ref().map(|_| self.desk.0.clone())
    }

    /// Serves until `shutdown` is done; then requests in flight have a second. What viewers ask goes through `signals`.
    pub async fn run(self, signals: mpsc::Sender<SignalIn>, shutdown: impl Future<Output = ()>) {
        let (desk, operations) = self.desk;
        let open = |config| RoomService::new(config, desk.label, signals.clone(), self.terms.clone());
        let room = self.room.map(open);
        let mut room_tasks = JoinSet::new();
        if let Some(room) = &room {
            room_tasks.spawn(Arc::clone(room).keep_time());
            room_tasks.spawn(Arc::clone(room).operate(operations));
        }
        let mut renewals = JoinSet::new();
        if let Some(tls) = &self.tls {
            renewals.spawn(tls.clone().keep_fresh());
        }
        let connections = self.terms.borrow().connections;
        let shared = Arc::new(Shared {
            exchange: Exchange::new(
                self.access,
                HostCheck { own_names: self.own_names, tls: self.tls.clone() },
                (signals, Observer { looks: self.looks, started: clock::wall_now().as_secs() }),
                room.clone(),
                self.ice,
                self.terms.clone(),
            ),
            tls: self.tls,
            table: Mutex::new(Table {
                connections: Connections::new(connections),
                tasks: HashMap::new(),
                refused: Complaint::default(),
                exhausted: Exhausted::new("http"),
            }),
            terms: self.terms,
        });
        let (close, closing) = watch::channel(());
        let mut loops = JoinSet::new();
        for (listener, address) in self.listeners.into_iter().zip(self.addresses) {
            match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => {
                    loops.spawn(accept(listener, Arc::clone(&shared), closing.clone()));
                }
                Err(error) => tracing::error!(%address, %error, "the listening socket can't be served"),
            }
        }
        drop(closing);
        shutdown.await;
        drop(close);
        if let Some(room) = room {
            room.close();
        }
        while loops.join_next().await.is_some() {}
    }
}

/// What all connections share.
#[derive(Debug)]
struct Shared {
    exchange: Exchange,
    tls: Option<Tls>,
    table: Mutex<Table>,
    terms: watch::Receiver<ServerTerms>,
}

/// The connections and the tasks that serve them.
#[derive(Debug)]
struct Table {
    connections: Connections,
    tasks: HashMap<ConnectionId, AbortHandle>,
    refused: Complaint,
    exhausted: Exhausted,
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long is waited for a request's head.
    fn head_wait(&self) -> Duration {
        self.terms.borrow().deadlines.head
    }

    fn enter(&self, id: ConnectionId, stage: Stage) {
        self.table().connections.enter(id, stage, Instant::now());
    }
}

/// Takes a connection out of the table, however it ends.
struct Place {
    shared: Arc<Shared>,
    id: ConnectionId,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut table = self.shared.table();
        table.connections.remove(self.id);
        table.tasks.remove(&self.id);
    }
}

/// Accepts until `closing`; then lets what is in flight end.
async fn accept(listener: tokio::net::TcpListener, shared: Arc<Shared>, mut closing: watch::Receiver<()>) {
    let mut tasks = JoinSet::new();
    loop {
        let looks = shared.table().exhausted.poll_timeout();
        tokio::select! {
            biased;
            _ = closing.changed() => break,
            Some(_) = tasks.join_next() => {}
            () = until(looks) => shared.table().exhausted.look(),
            accepted = listener.accept() => match accepted {
                Ok((stream, from)) => place(&mut tasks, &shared, stream, canonical(from), &closing),
                Err(error) if is_of_the_peer(&error) => tracing::debug!(%error, "a connection was gone before it was taken"),
                Err(error) => {
                    shared.table().exhausted.note(&error);
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
    drop(listener);
    let all = async { while tasks.join_next().await.is_some() {} };
    if tokio::time::timeout(CLOSING_WAIT, all).await.is_err() {
        tracing::debug!("requests in flight are cut off");
    }
}

/// Gives a newcomer its place, or refuses it.
fn place(
    tasks: &mut JoinSet<()>,
    shared: &Arc<Shared>,
    stream: TcpStream,
    from: SocketAddr,
    closing: &watch::Receiver<()>,
) {
    let now = Instant::now();
    let mut table = shared.table();
    table.connections.set_limits(shared.terms.borrow().connections);
    let (id, closed) = match table.connections.admit(from.ip(), now) {
        Admission::Admitted(id) => (id, None),
        Admission::InPlaceOf { admitted, closed } => (admitted, table.tasks.remove(&closed)),
        Admission::Refused => {
            if let Some(refused) = table.refused.raise(now) {
                let open = table.connections.count();
                tracing::warn!(open, refused, "connections are refused: all places are being answered");
            }
            drop(table);
            refuse(&stream);
            return;
        }
    };
    let place = Place { shared: Arc::clone(shared), id };
    let task = tasks.spawn(serve(stream, from, place, closing.clone()));
    table.tasks.insert(id, task);
    drop(table);
    if let Some(closed) = closed {
        tracing::debug!("a silent connection makes room for another");
        closed.abort();
    }
}

/// Serves one connection to its end.
async fn serve(stream: TcpStream, from: SocketAddr, place: Place, mut closing: watch::Receiver<()>) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection keeps its delay");
    }
    if let Err(error) = notice_its_end(&stream) {
        tracing::debug!(%error, "a connection that vanishes will not be noticed");
    }
    let stream = SharedStream::new(stream);
    let Some(tls) = &place.shared.tls else { return speak(stream.clone(), stream, from, &place, closing).await };
    let shaken = tokio::select! {
        shaken = tokio::time::timeout(place.shared.head_wait(), tls.accept(stream.clone())) => shaken,
        _ = closing.changed() => return,
    };
    match shaken {
        Ok(Ok(Some(encrypted))) => speak(encrypted, stream, from, &place, closing).await,
        Ok(Ok(None)) => tracing::debug!("a connection without TLS is told of it"),
        Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => tracing::debug!("a TLS handshake took too long"),
    }
}

/// Speaks HTTP on a connection, by `io`, to its end.
async fn speak<S: AsyncRead + AsyncWrite + Unpin>(
    io: S,
    stream: SharedStream,
    from: SocketAddr,
    place: &Place,
    mut closing: watch::Receiver<()>,
) {
    let is_old = Arc::new(AtomicBool::new(false));
    let waits = Notify::new();
    let service = service_fn(|request: Request<Incoming>| {
        let (shared, id, is_old, waits) = (&place.shared, place.id, &is_old, &waits);
        async move {
            let _silent_after = Afterwards(|| shared.enter(id, Stage::Silent));
            shared.enter(id, Stage::Sending);
            let version = request.version();
            let enter = |stage| {
                shared.enter(id, stage);
                if stage == Stage::Waiting {
                    waits.notify_one();
                }
            };
            let response = shared.exchange.answer(request, from, enter).await;
            is_old.store(version == Version::HTTP_10, Ordering::Relaxed);
            response
        }
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(place.shared.head_wait())
            .max_buf_size(HEAD_BYTES)
            .title_case_headers(true)
            .auto_date_header(false)
            .serve_connection(TokioIo::new(AsOneOne::new(io, Arc::clone(&is_old))), service)
    );
    // Whoever waits has nothing more to say: nothing is answered after it.
    let stirs_while_waiting = async {
        waits.notified().await;
        stream.stirs().await;
    };
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = stirs_while_waiting => return,
        _ = closing.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::trace!(%error, "a connection ended in the middle");
    }
}

/// Has the system probe a connection that says nothing, so that one whose other end vanished ends.
pub(super) fn notice_its_end(stream: &TcpStream) -> io::Result<()> {
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, PROBE_AFTER)?;
    sockopt::set_tcp_keepintvl(stream, PROBE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(stream, PROBES)?;
    Ok(())
}

/// The address to listen on by default: `[::]:8888`, which falls back to IPv4 alone.
pub fn default_listen() -> SocketAddr {
    SocketAddr::new(IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED), DEFAULT_PORT)
}

/// The IPv4 address that takes the place of `[::]` on a machine without IPv6.
pub(crate) fn ipv4_instead_of(address: SocketAddr) -> Option<SocketAddr> {
    (address.is_ipv6() && address.ip().is_unspecified())
        .then(|| SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), address.port()))
}
