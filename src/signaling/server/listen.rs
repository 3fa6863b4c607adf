//! Binds the listening sockets: one for both families where `[::]` is asked for, IPv4 alone where the machine has no IPv6.

use std::io;
use std::net::{SocketAddr, TcpListener};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use super::{ServerError, ipv4_instead_of};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// Binds each address; returns the sockets (not blocking) and their real addresses.
pub(super) fn bind_all(addresses: &[SocketAddr]) -> Result<Vec<(TcpListener, SocketAddr)>, ServerError> {
    addresses
        .iter()
        .map(|address| {
            // Asked for both families one by one, each socket takes its own.
            let both = !addresses.iter().any(|other| other.is_ipv4() && other.port() == address.port());
            bind(*address, both)
        })
        .collect()
}

/// Takes sockets that listen already; what can't be used is told and left out.
pub(super) fn take_all(listeners: Vec<TcpListener>) -> Vec<(TcpListener, SocketAddr)> {
    let take = |listener: TcpListener| {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok::<_, std::io::Error>((listener, address))
    };
    let taken = listeners.into_iter().filter_map(|listener| {
        take(listener).map_err(|error| tracing::warn!(%error, "a socket of the service manager's can't be used")).ok()
    });
    taken.collect()
}

/// IPv4 peers of a socket for both families appear as IPv4.
pub(super) fn canonical(from: SocketAddr) -> SocketAddr {
    SocketAddr::new(from.ip().to_canonical(), from.port())
}

/// Whether a connection that could not be taken had ended by itself.
pub(super) fn is_of_the_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

fn bind(address: SocketAddr, both_families: bool) -> Result<(TcpListener, SocketAddr), ServerError> {
    match listen(address, both_families) {
        Ok(bound) => Ok(bound),
        Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL) if ipv4_instead_of(address).is_some() => {
            let instead = ipv4_instead_of(address).unwrap_or(address);
            tracing::info!(%instead, "this machine has no IPv6: listening on IPv4 alone");
            listen(instead, false).map_err(|errno| refused(instead, errno))
        }
        Err(errno) => Err(refused(address, errno)),
    }
}

fn listen(address: SocketAddr, both_families: bool) -> Result<(TcpListener, SocketAddr), Errno> {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    // A restarted daemon has its port back at once.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, !both_families)?;
    }
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    let listener = TcpListener::from(socket);
    let bound = listener.local_addr().map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    Ok((listener, bound))
}

fn refused(address: SocketAddr, errno: Errno) -> ServerError {
    match errno {
        Errno::ADDRINUSE => ServerError::Taken { address },
        Errno::ACCESS | Errno::PERM => ServerError::NotPermitted { address },
        Errno::ADDRNOTAVAIL => ServerError::NoSuchAddress { address },
        errno => ServerError::System { address, error: errno.into() },
    }
}
