//! A WebSocket to a server (RFC 6455): connected in bounded time, with messages of bounded size, and an end that is noticed.
//!
//! A shell: it owns the connection's bytes and its signs of life, and knows no protocol. Pings are answered, and sent where nothing else would show that
//! the server is there; who takes nothing for too long, or says nothing, is lost.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures_util::{Sink as _, Stream as _};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{sleep_until, timeout};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::client::ClientRequestBuilder;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Bytes, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};
use url::{Host, Url};

use super::tls::{self, TlsError};
use super::token::{self, TokenError};
use super::why;
use crate::signaling::server::notice_its_end;

/// The longest message that is taken.
const MESSAGE_BYTES: usize = 1 << 20;
/// What waits for a server that does not read; past it the connection is lost.
const UNSENT_BYTES: usize = 4 << 20;
/// A server's messages are few and small.
const BUFFER_BYTES: usize = 16 << 10;

/// How long a connection is waited for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// Until it stands, from the name's resolution on.
    pub(super) connecting: Duration,
    /// For each of the host's addresses.
    pub(super) each_address: Duration,
    /// Until what was sent is taken.
    pub(super) sending: Duration,
    /// Between two pings.
    pub(super) ping: Duration,
    /// Until something is heard, were it the answer to a ping.
    pub(super) silence: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connecting: Duration::from_secs(10),
            each_address: Duration::from_secs(4),
            sending: Duration::from_secs(10),
            ping: Duration::from_secs(20),
            silence: Duration::from_secs(45),
        }
    }
}

/// Where a WebSocket is, and what is shown there.
#[derive(Debug, Clone)]
pub(super) struct Address {
    /// The URL: `ws` and `http` mean the same, and so do `wss` and `https`.
    pub(super) url: Url,
    /// The subprotocol that is asked for, and then expected.
    pub(super) subprotocol: Option<&'static str>,
    /// Whether messages of bytes are taken as text.
    pub(super) takes_bytes: bool,
    /// The file of the bearer token.
    pub(super) token_file: Option<PathBuf>,
    /// The file of certificates that are trusted beside the system's.
    pub(super) ca_file: Option<PathBuf>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    /// The token can't be read.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The certificates can't be read.
    #[error(transparent)]
    Certificates(#[from] TlsError),
    /// The name has no address, or none of the addresses takes a connection.
    #[error("{}", why::unreachable(.0))]
    Tcp(io::Error),
    /// The server's certificate is none that is trusted, or it speaks no TLS.
    #[error("{}", why::no_tls(.scheme, .error))]
    Tls {
        /// The URL's scheme.
        scheme: String,
        /// What is wrong.
        error: io::Error,
    },
    /// The server answers, and refuses.
    #[error("{said}")]
    Refused {
        /// Its status (HTTP).
        status: u16,
        /// The same in words, with the beginning of what comes with it.
        said: String,
    },
    /// What answers there is no such WebSocket.
    #[error("no WebSocket there: {0}")]
    NoWebSocket(String),
    /// It takes too long.
    #[error("{}", why::unreachable_within(*.0))]
    Late(Duration),
}

/// Why a connection is over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Lost {
    /// The server closed it.
    #[error("the server closed the connection{0}")]
    Closed(String),
    /// It failed.
    #[error("the connection failed: {0}")]
    Failed(String),
    /// The server takes nothing.
    #[error("the server takes nothing any more")]
    Stuck,
    /// The server says nothing.
    #[error("the server has said nothing for {0:?}, not even an answer to a ping")]
    Silent(Duration),
}

impl From<tungstenite::Error> for Lost {
    fn from(error: tungstenite::Error) -> Self {
        use tungstenite::Error;
        use tungstenite::error::ProtocolError::ResetWithoutClosingHandshake;
        match error {
            Error::ConnectionClosed | Error::AlreadyClosed => Self::Closed(String::new()),
            Error::Protocol(ResetWithoutClosingHandshake) => Self::Closed(" without a word".to_owned()),
            Error::WriteBufferFull(_) => Self::Stuck,
            Error::Io(error) => Self::Failed(error.to_string()),
            error => Self::Failed(error.to_string()),
        }
    }
}

/// The bytes below: TCP, or TLS over it.
trait Transport: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Transport for T {}

/// A connection that stands.
pub(super) struct WebSocket {
    stream: WebSocketStream<Box<dyn Transport>>,
    takes_bytes: bool,
    patience: Patience,
    /// Since when something is not taken that was sent.
    unsent_since: Option<Instant>,
    heard_at: Instant,
    ping_at: Instant,
}

impl WebSocket {
    /// Connects.
    ///
    /// # Errors
    /// Where there is no connection in time.
    pub(super) async fn connect(address: Address, patience: Patience) -> Result<Self, ConnectError> {
        let takes_bytes = address.takes_bytes;
        let connected = timeout(patience.connecting, handshake(address, patience)).await;
        let stream = connected.map_err(|_| ConnectError::Late(patience.connecting))??;
        let now = Instant::now();
        Ok(Self { stream, takes_bytes, patience, unsent_since: None, heard_at: now, ping_at: now + patience.ping })
    }

    /// Sends a text message; [`Self::next`] sees to it that it goes.
    ///
    /// # Errors
    /// Where the connection is over, or too much waits already.
    pub(super) fn send(&mut self, text: String) -> Result<(), Lost> {
        self.put(Message::text(text))
    }

    /// The next text message. Dropped before it is there, nothing is lost.
    ///
    /// # Errors
    /// Where the connection is over.
    pub(super) async fn next(&mut self) -> Result<String, Lost> {
        loop {
            let stuck_at = self.unsent_since.map(|since| since + self.patience.sending);
            let silent_at = self.heard_at + self.patience.silence;
            let due = self.ping_at.min(silent_at).min(stuck_at.unwrap_or(silent_at));
            let message = tokio::select! {
                biased;
                message = poll_fn(|cx| self.poll_message(cx)) => message?,
                () = sleep_until(due.into()) => {
                    let now = Instant::now();
                    // It may have been taken meanwhile.
                    if self.unsent_since.is_some_and(|since| since + self.patience.sending <= now) {
                        return Err(Lost::Stuck);
                    }
                    if silent_at <= now {
                        return Err(Lost::Silent(self.patience.silence));
                    }
                    if self.ping_at <= now {
                        self.ping_at = now + self.patience.ping;
                        self.put(Message::Ping(Bytes::new()))?;
                    }
                    continue;
                }
            };
            self.heard_at = Instant::now();
            match message {
                Message::Text(text) => return Ok(text.as_str().to_owned()),
                // Relays that don't know text from bytes send it so.
                Message::Binary(bytes) if self.takes_bytes => match String::from_utf8(bytes.into()) {
                    Ok(text) => return Ok(text),
                    Err(_) => tracing::debug!("a message of the server's is no text"),
                },
                Message::Close(why) => return Err(Lost::Closed(why.map_or(String::new(), |why| closing(&why)))),
                Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
    }

    /// Closes in order: what was sent goes first, and the server's own closing is awaited, for as long as it takes.
    pub(super) async fn close(mut self) {
        if self.put(Message::Close(None)).is_err() {
            return;
        }
        while let Ok(message) = poll_fn(|cx| self.poll_message(cx)).await {
            tracing::trace!(is_text = message.is_text(), "a message comes after the end");
        }
    }

    fn put(&mut self, message: Message) -> Result<(), Lost> {
        Pin::new(&mut self.stream).start_send(message)?;
        self.unsent_since.get_or_insert_with(Instant::now);
        Ok(())
    }

    /// Writes what is to be written, and reads.
    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<Message, Lost>> {
        let mut stream = Pin::new(&mut self.stream);
        if self.unsent_since.is_some() && stream.as_mut().poll_flush(cx)?.is_ready() {
            self.unsent_since = None;
        }
        let message = ready!(stream.as_mut().poll_next(cx)).unwrap_or(Err(tungstenite::Error::ConnectionClosed))?;
        if message.is_close() {
            // The answer to it goes along where that takes no waiting: what follows is the end in any case.
            let _ = stream.poll_flush(cx)?;
        }
        Poll::Ready(Ok(message))
    }
}

/// What a server says with its closing.
fn closing(close: &tungstenite::protocol::CloseFrame) -> String {
    let reason = why::words(&close.reason);
    if reason.is_empty() {
        format!(": {}", u16::from(close.code))
    } else {
        format!(": {}, {reason}", u16::from(close.code))
    }
}

async fn handshake(address: Address, patience: Patience) -> Result<WebSocketStream<Box<dyn Transport>>, ConnectError> {
    let Address { mut url, subprotocol, token_file, ca_file, .. } = address;
    let scheme = url.scheme().to_owned();
    let is_secure = matches!(scheme.as_str(), "https" | "wss");
    // Both of a pair are special schemes: one becomes the other.
    let _ = url.set_scheme(if is_secure { "wss" } else { "ws" });
    // Files may have changed since the last time, and reading them blocks.
    let read = tokio::task::spawn_blocking(move || -> Result<_, ConnectError> {
        let token = token_file.as_deref().map(token::bearer).transpose()?;
        let tls = is_secure.then(|| tls::client(ca_file.as_deref())).transpose()?;
        Ok((token, tls))
    });
    let (token, tls) = read.await.map_err(|error| ConnectError::NoWebSocket(error.to_string()))??;

    let host = url.host_str().unwrap_or_default().to_owned();
    let tcp = connect_tcp(&url, patience.each_address).await?;
    let stream: Box<dyn Transport> = match tls {
        None => Box::new(tcp),
        Some(tls) => {
            let failed = |error| ConnectError::Tls { scheme: scheme.clone(), error };
            let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned());
            let name = name.map_err(|error| failed(io::Error::other(error)))?;
            Box::new(TlsConnector::from(tls).connect(name, tcp).await.map_err(failed)?)
        }
    };

    let uri = url.as_str().parse().map_err(|_| ConnectError::NoWebSocket("its URL can't be asked for".to_owned()))?;
    let mut request = ClientRequestBuilder::new(uri);
    if let Some(subprotocol) = subprotocol {
        request = request.with_sub_protocol(subprotocol);
    }
    // The value is ASCII.
    if let Some(value) = token.as_ref().and_then(|token| token.to_str().ok()) {
        request = request.with_header("Authorization", value);
    }
    let limits = WebSocketConfig::default()
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(BUFFER_BYTES)
        .max_write_buffer_size(UNSENT_BYTES)
        .max_message_size(Some(MESSAGE_BYTES))
        .max_frame_size(Some(MESSAGE_BYTES));
    match client_async_with_config(request, stream, Some(limits)).await {
        Ok((stream, _)) => Ok(stream),
        Err(tungstenite::Error::Http(response)) => {
            let (status, body) = (response.status(), response.body().as_deref().unwrap_or_default());
            Err(ConnectError::Refused { status: status.as_u16(), said: why::refusal(status, body) })
        }
        Err(error) => {
            let hint = if is_no_http(&error) { why::hint_at_tls(&scheme) } else { String::new() };
            Err(ConnectError::NoWebSocket(format!("{error}{hint}")))
        }
    }
}

/// Connects to the first of the host's addresses that takes it.
async fn connect_tcp(url: &Url, each: Duration) -> Result<TcpStream, ConnectError> {
    let port = url.port_or_known_default().unwrap_or_default();
    let addresses: Vec<SocketAddr> = match url.host() {
        Some(Host::Ipv4(ip)) => vec![(ip, port).into()],
        Some(Host::Ipv6(ip)) => vec![(ip, port).into()],
        Some(Host::Domain(name)) => lookup_host((name, port)).await.map_err(ConnectError::Tcp)?.collect(),
        None => Vec::new(),
    };
    let mut error = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        match timeout(each, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                if let Err(error) = stream.set_nodelay(true).and_then(|()| notice_its_end(&stream)) {
                    tracing::debug!(%error, "a connection keeps the system's settings");
                }
                return Ok(stream);
            }
            Ok(Err(found)) => error = found,
            Err(_) => error = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(ConnectError::Tcp(error))
}

/// Whether what answered spoke no HTTP, or closed instead.
fn is_no_http(error: &tungstenite::Error) -> bool {
    use tungstenite::Error;
    use tungstenite::error::ProtocolError::{HandshakeIncomplete, HttparseError};
    matches!(error, Error::Io(_) | Error::Protocol(HandshakeIncomplete | HttparseError(_)))
}
