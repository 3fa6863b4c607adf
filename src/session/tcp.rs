//! Media over TCP for viewers whose network lets no UDP through: connections that they open at the media socket's port number
//! (RFC 6544, passive candidates; RFC 4571 framing).
//!
//! A shell on tokio: it moves packets between connections and the media thread's queue, and holds whoever is silent, too fast or too many. Whose
//! a packet is and whether it is authentic is found out there, as for datagrams; a connection that is nobody's is closed from there, and until something
//! authentic came by it a connection gives way to newcomers.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;
use tracing::{debug, warn};

use super::engine::{Path, stun};
use super::inbox::Inbox;
use super::streams::{Stream, StreamPacket, Streams};
use crate::signaling::server::{Admission, Complaint, ConnectionId, ConnectionLimits, Connections, Stage};
use crate::trouble::{Exhausted, until};

pub mod frames;
#[cfg(test)]
mod tests;

use frames::{Frames, HEADER, LARGEST};

/// How many connections there are at most: a class behind one firewall has some for each viewer.
pub const LIMITS: ConnectionLimits = ConnectionLimits { total: 1024, per_address: 256 };
/// Connections that may wait to be accepted.
const BACKLOG: i32 = 256;
/// How long a port may be taken by a daemon that ends.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a connection may take to say whose it is.
const FIRST_WAIT: Duration = Duration::from_secs(10);
/// How long one may be silent: consent is asked for every few seconds, on spare ways twice a minute.
const IDLE_WAIT: Duration = Duration::from_secs(60);
/// How long the last words of a connection may take.
const LAST_WAIT: Duration = Duration::from_secs(2);
/// Packets of one connection that the media thread has not looked at yet.
const MOST_AHEAD: usize = 32;
/// Bytes that the kernel holds of what is sent: what waits there can't be given up any more.
const KERNEL_BUFFER: usize = 128 << 10;
/// The pause after the system had no resources for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The listening socket, bound and not yet served.
#[derive(Debug)]
pub struct MediaListener {
    listener: std::net::TcpListener,
    port: u16,
}

impl MediaListener {
    /// Binds `port` on all addresses of both families, or of IPv4 alone.
    ///
    /// # Errors
    /// Where the port is taken or not to be had.
    pub fn bind(port: u16, both_families: bool) -> io::Result<Self> {
        let (family, any): (_, IpAddr) = match both_families {
            true => (AddressFamily::INET6, Ipv6Addr::UNSPECIFIED.into()),
            false => (AddressFamily::INET, Ipv4Addr::UNSPECIFIED.into()),
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
        // A restarted daemon has its port back at once.
        sockopt::set_socket_reuseaddr(&socket, true)?;
        if both_families {
            sockopt::set_ipv6_v6only(&socket, false)?;
        }
        // Connections inherit it.
        sockopt::set_socket_send_buffer_size(&socket, KERNEL_BUFFER)?;
        rustix::net::bind(&socket, &SocketAddr::new(any, port))?;
        rustix::net::listen(&socket, BACKLOG)?;
        let listener = std::net::TcpListener::from(socket);
        let port = listener.local_addr()?.port();
        Ok(Self { listener, port })
    }

    /// As [`Self::bind`], where the daemon before this one may have to give the port up yet.
    ///
    /// # Errors
    /// As [`Self::bind`], after two seconds where the port is taken.
    pub fn bind_patiently(port: u16, both_families: bool) -> io::Result<Self> {
        let end = Instant::now() + PATIENCE;
        loop {
            match Self::bind(port, both_families) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < end => {
                    std::thread::park_timeout(PATIENCE / 40);
                }
                bound => return bound,
            }
        }
    }

    /// The port, the same on all addresses.
    pub fn local_port(&self) -> u16 {
        self.port
    }

    /// Takes connections for ever; their packets go to `inbox`, and what `streams` has for them is written.
    pub async fn serve(self, streams: Streams, inbox: Inbox<StreamPacket>, limits: ConnectionLimits) {
        let listener = match tokio::net::TcpListener::from_std(self.listener) {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(%error, "the TCP socket of media can't be served");
                return;
            }
        };
        let (connections, tasks, refused) = (Connections::new(limits), HashMap::new(), Complaint::default());
        let table = Table { connections, tasks, refused };
        let mut exhausted = Exhausted::new("viewers over TCP");
        let shared = Arc::new(Shared { streams, inbox, table: Mutex::new(table) });
        let mut tasks = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                Some(_) = tasks.join_next() => {}
                () = until(exhausted.poll_timeout()) => exhausted.look(),
                accepted = listener.accept() => match accepted {
                    Ok((stream, from)) => place(&mut tasks, &shared, stream, from, self.port),
                    Err(error) if is_of_the_system(&error) => {
                        exhausted.note(&error);
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                    Err(error) => debug!(%error, "a connection was gone before it was taken"),
                }
            }
        }
    }
}

/// What all connections share.
struct Shared {
    streams: Streams,
    inbox: Inbox<StreamPacket>,
    table: Mutex<Table>,
}

/// The connections and the tasks that serve them.
struct Table {
    connections: Connections,
    tasks: HashMap<ConnectionId, AbortHandle>,
    refused: Complaint,
}

impl Table {
    /// Counts a refusal, and warns of them once in a while.
    fn complain(&mut self) {
        if let Some(times) = self.refused.raise(Instant::now()) {
            warn!(times, open = self.connections.count(), "viewers' TCP connections are refused: all places are taken");
        }
    }
}

impl Shared {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives a newcomer its place, that of a connection which no session keeps where there is no other, or refuses it.
fn place(tasks: &mut JoinSet<()>, shared: &Arc<Shared>, stream: TcpStream, from: SocketAddr, port: u16) {
    let Ok(local) = stream.local_addr() else { return };
    let canonical = |address: SocketAddr, port| SocketAddr::new(address.ip().to_canonical(), port);
    let path = Path::tcp(canonical(local, port), canonical(from, from.port()));
    let mut table = shared.table();
    let (id, closed) = match table.connections.admit(path.remote.ip(), Instant::now()) {
        Admission::Admitted(id) => (id, None),
        Admission::InPlaceOf { admitted, closed } => (admitted, table.tasks.remove(&closed)),
        Admission::Refused => return table.complain(),
    };
    let place = Place { shared: shared.clone(), id, stream: None };
    table.tasks.insert(id, tasks.spawn(carry(stream, path, place)));
    drop(table);
    closed.into_iter().for_each(|closed| closed.abort());
}

/// Takes a connection out of the tables, however it ends.
struct Place {
    shared: Arc<Shared>,
    id: ConnectionId,
    stream: Option<Arc<Stream>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.stream.iter().for_each(|stream| self.shared.streams.remove(stream));
        let mut table = self.shared.table();
        table.connections.remove(self.id);
        table.tasks.remove(&self.id);
    }
}

/// Carries packets both ways until one side ends it.
async fn carry(mut connection: TcpStream, path: Path, mut place: Place) {
    if let Err(error) = connection.set_nodelay(true) {
        debug!(%error, "a connection keeps its delay");
    }
    let (mut reader, writer) = connection.split();
    let mut frames = Frames::default();
    let first = match timeout(FIRST_WAIT, packet(&mut reader, &mut frames)).await {
        Ok(Ok(first)) if stun::local_ufrag(&first).is_some() => first,
        _ => return debug!("a connection that did not say whose it is was closed"),
    };
    let stream = place.shared.streams.open(path);
    place.stream = Some(stream.clone());
    let ahead = Arc::new(Semaphore::new(MOST_AHEAD));
    let reads = async {
        let mut data = first;
        loop {
            // Whoever sends faster than it is looked at waits.
            let Ok(permit) = ahead.clone().acquire_owned().await else { return };
            // A full queue loses it, counted; whoever sent it repeats it.
            let _ = place.shared.inbox.push(StreamPacket { path, data, permit });
            data = match timeout(IDLE_WAIT, packet(&mut reader, &mut frames)).await {
                Ok(Ok(next)) => next,
                _ => return,
            };
        }
    };
    let keeps = async {
        stream.kept().await;
        place.shared.table().connections.enter(place.id, Stage::Answered, Instant::now());
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = reads => {}
        () = writes(writer, &stream) => {}
        () = keeps => {}
    }
}

/// The next packet.
async fn packet(reader: &mut ReadHalf<'_>, frames: &mut Frames) -> io::Result<bytes::BytesMut> {
    loop {
        if let Some(packet) = frames.poll_packet().map_err(|error| io::Error::other(error.to_string()))? {
            return Ok(packet);
        }
        let buffer = frames.buffer();
        buffer.reserve(HEADER + LARGEST);
        if reader.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Writes what the connection is to be sent, to its end.
async fn writes(mut writer: WriteHalf<'_>, stream: &Stream) {
    let mut written = Vec::new();
    while let Some(bytes) = stream.next(written).await {
        if !written_in_time(stream, writer.write_all(&bytes)).await {
            return;
        }
        written = bytes;
    }
    // Says that nothing more comes; how it ends makes no difference.
    let _ = timeout(LAST_WAIT, writer.shutdown()).await;
}

/// Waits for a write; once the connection is to end, not for long.
async fn written_in_time(stream: &Stream, write: impl Future<Output = io::Result<()>>) -> bool {
    let mut write = std::pin::pin!(write);
    loop {
        match timeout(LAST_WAIT, write.as_mut()).await {
            Ok(result) => return result.is_ok(),
            Err(_) if stream.is_closing() => return false,
            Err(_) => {}
        }
    }
}

fn is_of_the_system(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM))
}
