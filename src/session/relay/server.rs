//! The task of one STUN or TURN server: it reads the secret, resolves the name, opens the stream where there is one, and begins anew where that was lost.
//!
//! A shell: what is said with the server is the cores' matter, and the media socket's datagrams are the media thread's.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rtc_crypto::RTCCryptoProvider;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tracing::{debug, info, warn};

use super::allocation::Allocation;
use super::credentials;
use super::probe::Probe;
use super::stream::carry;
use super::table::{Contact, Departing, News, Relays, ServerId, Way};
use crate::clock;
use crate::ice_server::{IceServer, Scheme, Transport};
use crate::id::random_bytes;
use crate::signaling::client::backoff::Backoff;
use crate::signaling::client::why;

/// How long a name's lookup, a connection and its handshake may take together.
const MOST_OPENING: Duration = Duration::from_secs(10);
/// Messages that wait for a stream: 5 MB, of which what waits too long is dropped.
const MOST_WAITING: usize = 4096;
/// News that wait for the task.
const MOST_NEWS: usize = 8;
/// Bytes that the kernel may hold for a stream: what is there is not dropped any more.
const KERNEL_BUFFER: usize = 256 << 10;

/// What the task of a server needs.
pub struct ServerConfig {
    /// The server.
    pub server: IceServer,
    /// The table that it is in.
    pub relays: Arc<Relays>,
    /// Makes signatures.
    pub crypto: Arc<dyn RTCCryptoProvider>,
    /// How the server's certificate is checked, where TLS protects the way to it.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// Whether the media socket reaches IPv6.
    pub has_ipv6: bool,
    /// The label of the signaling server that has named it; none where it was given for everybody.
    pub only: Option<Arc<str>>,
    /// Is told how the daemon stands with the server.
    pub standing: watch::Sender<Standing>,
}

/// How the daemon stands with a STUN or TURN server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Standing {
    /// It is tried for the first time.
    #[default]
    Connecting,
    /// It does what it is for.
    Ready,
    /// It does not, for this reason, and is tried again.
    Away(String),
    /// The daemon has no use for it: it is for viewers only.
    ForViewers,
}

/// Starts the task of a server, to be called in a tokio runtime; it never ends by itself. `None` where the daemon has no use for the server: what is seen of a stream's
/// address is nothing that a viewer could send to.
pub fn start(config: ServerConfig) -> Option<JoinHandle<()>> {
    if config.server.scheme == Scheme::Stuns {
        debug!(server = config.server.url(), "a STUN server by TLS is for viewers only");
        config.standing.send_replace(Standing::ForViewers);
        return None;
    }
    Some(tokio::spawn(run(config)))
}

pub(super) async fn run(config: ServerConfig) {
    let (sender, mut news) = mpsc::channel(MOST_NEWS);
    let place = Place { relays: &config.relays, id: config.relays.add(sender, config.only.clone()) };
    let id = place.id;
    let (mut backoff, teller) = (Backoff::default(), Teller::new(&config));
    for attempt in 0_usize.. {
        // What was said of the former attempt is no news.
        while news.try_recv().is_ok() {}
        let mut ready = || {
            teller.ready();
            backoff.handle_signed_in(Instant::now());
        };
        let why = use_server(&config, id, attempt, &mut news, &mut ready).await;
        config.relays.close(id);
        teller.away(why);
        let pause = backoff.handle_lost(Instant::now(), u32::from_ne_bytes(random_bytes()));
        tokio::time::sleep(pause).await;
    }
}

/// Takes the server out of the table, however its task ends.
struct Place<'a> {
    relays: &'a Relays,
    id: ServerId,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.relays.remove(Instant::now(), self.id);
    }
}

/// Tells how the daemon stands with a server; the log has a line for each change.
struct Teller<'a> {
    server: String,
    relays: bool,
    is_told: bool,
    standing: &'a watch::Sender<Standing>,
}

impl<'a> Teller<'a> {
    fn new(config: &'a ServerConfig) -> Self {
        let server = &config.server;
        Self {
            server: server.url(),
            relays: server.scheme != Scheme::Stun,
            is_told: config.only.is_some(),
            standing: &config.standing,
        }
    }

    fn ready(&self) {
        if self.standing.send_replace(Standing::Ready) != Standing::Ready {
            let server = &self.server;
            if self.relays { info!(server, "relay is ready") } else { info!(server, "STUN server has answered") }
        }
    }

    fn away(&self, why: String) {
        let server = &self.server;
        let before = self.standing.send_replace(Standing::Away(why.clone()));
        if matches!(before, Standing::Away(_)) {
            debug!(server, why, "an ICE server is still away");
        } else if self.is_told {
            info!(server, why, "a relay that an SFU names is away; it is tried again");
        } else if self.relays {
            warn!(server, why, "relay is away: viewers that need it can't come; it is tried again");
        } else {
            warn!(
                server,
                why, "STUN server is away: viewers outside this network may not find the daemon; it is tried again"
            );
        }
    }
}

/// Uses a server until it is lost; returns why it is.
async fn use_server(
    config: &ServerConfig,
    id: ServerId,
    attempt: usize,
    news: &mut mpsc::Receiver<News>,
    ready: &mut impl FnMut(),
) -> String {
    match tokio::time::timeout(MOST_OPENING, open(config, attempt)).await {
        Ok(Ok(Opened::Datagrams(address))) => match contact(config, false) {
            Ok(contact) => match config.relays.open(id, Way::Datagrams(address), contact) {
                Ok(()) => lost(news, ready).await,
                Err(same) => same.to_string(),
            },
            Err(why) => why,
        },
        Ok(Ok(Opened::Stream(stream))) => match contact(config, true) {
            Ok(contact) => {
                let (sender, mut queue) = mpsc::channel::<Departing>(MOST_WAITING);
                if let Err(same) = config.relays.open(id, Way::Stream(sender), contact) {
                    return same.to_string();
                }
                let deliver = |data: &[u8]| config.relays.push_message(id, data);
                let late = |viewer| config.relays.note_late(viewer);
                tokio::select! {
                    // Who gives it up has the queue closed, and knows why.
                    biased;
                    why = lost(news, ready) => why,
                    why = carry(stream, &mut queue, deliver, late) => why,
                }
            }
            Err(why) => why,
        },
        Ok(Err(why)) => why,
        Err(_) => why::unreachable_within(MOST_OPENING),
    }
}

/// Awaits that the cores give it up.
async fn lost(news: &mut mpsc::Receiver<News>, ready: &mut impl FnMut()) -> String {
    loop {
        match news.recv().await {
            Some(News::Ready) => ready(),
            Some(News::Lost(lost)) => return lost.to_string(),
            None => return "the table of relays is gone".to_owned(),
        }
    }
}

/// Begins what the server is for.
fn contact(config: &ServerConfig, on_stream: bool) -> Result<Contact, String> {
    let now = Instant::now();
    if config.server.scheme == Scheme::Stun {
        return Ok(Contact::Probe(Probe::new(now, on_stream, random_bytes)));
    }
    // The server's clock judges them, which went on while this machine slept.
    let login = credentials::read(&config.server.credentials, clock::wall_now()).map_err(|error| error.to_string())?;
    let login = login.ok_or("the server has no credentials")?;
    Ok(Contact::Allocation(Box::new(Allocation::new(now, config.crypto.clone(), login, on_stream, random_bytes))))
}

enum Opened {
    Datagrams(SocketAddr),
    Stream(Box<dyn Both>),
}

trait Both: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Both for T {}

/// Finds the server's address, another one at each attempt, and connects where that is to be done.
async fn open(config: &ServerConfig, attempt: usize) -> Result<Opened, String> {
    let IceServer { host, port, transport, .. } = &config.server;
    let found = tokio::net::lookup_host((host.as_str(), *port)).await;
    let mut addresses: Vec<_> = found.map_err(why::unreachable)?.collect();
    if *transport == Transport::Udp {
        addresses.retain(|address| address.is_ipv4() || config.has_ipv6);
    }
    // It is IPv4 that networks translate.
    addresses.sort_by_key(SocketAddr::is_ipv6);
    addresses.dedup();
    let count = addresses.len().max(1);
    let address = *addresses.get(attempt % count).ok_or("its name has no address that this machine can reach")?;
    if *transport == Transport::Udp {
        return Ok(Opened::Datagrams(address));
    }
    let stream = TcpStream::connect(address).await.map_err(why::unreachable)?;
    // Neither is worth more than a word in the log.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "a relay's stream delays small packets");
    }
    if let Err(error) = rustix::net::sockopt::set_socket_send_buffer_size(&stream, KERNEL_BUFFER) {
        debug!(%error, "a relay's stream keeps the system's buffer size");
    }
    let Some(tls) = &config.tls else { return Ok(Opened::Stream(Box::new(stream))) };
    let name = ServerName::try_from(host.clone()).map_err(|_| "its name can't be in a certificate".to_owned())?;
    let stream = TlsConnector::from(tls.clone()).connect(name, stream).await;
    Ok(Opened::Stream(Box::new(stream.map_err(|error| why::no_tls("turns", &error))?)))
}
