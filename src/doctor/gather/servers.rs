//! Whether signaling servers, and STUN and TURN servers, answer: a connection, with TLS where it is configured, and a STUN request.

use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs as _, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};

use crate::config::RunConfig;
use crate::doctor::network::ServerFacts;
use crate::ice_server::{IceServer, Scheme, Transport};
use crate::id::random_bytes;
use crate::session::relay::asks::{Question, is_answer};
use crate::signaling::client::url::SignalingUrl;
use crate::signaling::client::{tls, why};

/// How long a server may take to take a connection, and to answer.
const ANSWER: Duration = Duration::from_secs(2);
/// How often it is asked by UDP, where datagrams may be lost.
const TRIES: u32 = 3;

type Look = Box<dyn FnOnce() -> ServerFacts + Send>;

/// A look at each server of a configuration.
pub(in crate::doctor) fn servers(config: &RunConfig) -> Vec<Look> {
    let mut urls: Vec<SignalingUrl> = Vec::new();
    for mut url in config.signaling.iter().cloned() {
        url.number_beside(urls.iter());
        urls.push(url);
    }
    let signaling = urls.into_iter().map(|url| -> Look {
        Box::new(move || ServerFacts {
            check: "signaling",
            label: url.label().to_string(),
            answer: timed(|| signaling(&url)),
        })
    });
    let ice = config.ice_servers.clone().into_iter().map(|server| -> Look {
        Box::new(move || ServerFacts { check: "ice server", label: server.url(), answer: timed(|| ice(&server)) })
    });
    signaling.chain(ice).collect()
}

fn timed(ask: impl FnOnce() -> Result<(), String>) -> Result<Duration, String> {
    let begun = Instant::now();
    ask().map(|()| begun.elapsed())
}

fn signaling(url: &SignalingUrl) -> Result<(), String> {
    let host = url.url.host_str().unwrap_or_default();
    let host = host.trim_matches(['[', ']']);
    let stream = connect(host, url.url.port_or_known_default().unwrap_or_default())?;
    if url.is_secure() {
        secure(stream, host, url.ca_file.as_deref(), url.url.scheme())?;
    }
    Ok(())
}

fn ice(server: &IceServer) -> Result<(), String> {
    let is_secure = matches!(server.scheme, Scheme::Stuns | Scheme::Turns);
    let question = Question::new(random_bytes());
    let silent = || "it does not answer: is it running, and open to this machine?".to_owned();
    let mut reply = [0; 1500];
    if server.transport == Transport::Udp {
        let remote = resolve(&server.host, server.port)?;
        let any: IpAddr = if remote.is_ipv4() {
            std::net::Ipv4Addr::UNSPECIFIED.into()
        } else {
            std::net::Ipv6Addr::UNSPECIFIED.into()
        };
        let system = |error: std::io::Error| why::unreachable(error);
        let socket = UdpSocket::bind(SocketAddr::new(any, 0)).map_err(system)?;
        socket.connect(remote).map_err(system)?;
        socket.set_read_timeout(Some(ANSWER / TRIES)).map_err(system)?;
        for _ in 0..TRIES {
            // A send fails where the last one was refused by ICMP; then another is due.
            let _ = socket.send(&question.bytes);
            if socket.recv(&mut reply).is_ok_and(|length| is_answer(&reply[..length], &question)) {
                return Ok(());
            }
        }
        return Err(silent());
    }
    let stream = connect(&server.host, server.port)?;
    let mut ask = |stream: &mut dyn ReadWrite| {
        stream.write_all(&question.bytes).map_err(why::unreachable)?;
        let length = stream.read(&mut reply).map_err(|_| silent())?;
        if is_answer(&reply[..length], &question) { Ok(()) } else { Err(silent()) }
    };
    if is_secure {
        let mut stream = secure(stream, &server.host, server.ca_file.as_deref(), "turns")?;
        ask(&mut stream)
    } else {
        let mut stream = stream;
        ask(&mut stream)
    }
}

trait ReadWrite: std::io::Read + std::io::Write {}
impl<T: std::io::Read + std::io::Write> ReadWrite for T {}

fn resolve(host: &str, port: u16) -> Result<SocketAddr, String> {
    let mut addresses = (host, port).to_socket_addrs().map_err(why::unreachable)?;
    addresses.next().ok_or_else(|| why::unreachable("its name has no address"))
}

fn connect(host: &str, port: u16) -> Result<TcpStream, String> {
    let addresses = (host, port).to_socket_addrs().map_err(why::unreachable)?;
    let mut last = why::unreachable("its name has no address");
    for address in addresses {
        match TcpStream::connect_timeout(&address, ANSWER) {
            Ok(stream) => {
                let timeouts =
                    stream.set_read_timeout(Some(ANSWER)).and_then(|()| stream.set_write_timeout(Some(ANSWER)));
                return timeouts.map(|()| stream).map_err(why::unreachable);
            }
            Err(error) => last = why::unreachable(error),
        }
    }
    Err(last)
}

type Secure = StreamOwned<ClientConnection, TcpStream>;

/// Does TLS's handshake, with the trust that the daemon has.
fn secure(stream: TcpStream, host: &str, ca_file: Option<&Path>, scheme: &str) -> Result<Secure, String> {
    let config = tls::client(ca_file).map_err(|error| error.to_string())?;
    let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
    let mut connection = ClientConnection::new(config, name).map_err(|error| why::no_tls(scheme, &error))?;
    let mut stream = stream;
    while connection.is_handshaking() {
        connection.complete_io(&mut stream).map_err(|error| why::no_tls(scheme, &error))?;
    }
    Ok(StreamOwned::new(connection, stream))
}
