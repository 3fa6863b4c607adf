//! The media socket: one UDP port for all viewers, IPv4 and IPv6 (rules 8 and 9).
//!
//! Owns the socket, the batches by which datagrams come and go (recvmmsg, sendmmsg, UDP GSO), and the local address of each
//! (RFC 3542, section 6). It never looks into a datagram and never blocks.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

mod addresses;
mod send;
mod sys;

pub use addresses::{LocalAddress, address_towards, connected_addresses, local_addresses};
pub use send::{BatchFull, DropCause, Dropped, SendBatch, SendReport};

use sys::{Arrival, Family};

/// Bytes of the largest datagram taken; media packets and handshakes stay below 1500.
const LARGEST_DATAGRAM: usize = 2048;
/// Most datagrams handed over by one [`MediaSocket::receive`].
const MOST_PER_CALL: usize = 256;
/// Bytes asked of the kernel for each direction: a picture for hundreds of viewers.
const KERNEL_BUFFER: usize = 4 << 20;

/// One datagram as it arrived.
#[derive(Debug)]
pub struct Datagram<'a> {
    /// Its payload; may be decrypted in place.
    pub data: &'a mut [u8],
    /// Who sent it; an IPv4 sender has an IPv4 address here.
    pub from: SocketAddr,
    /// The local address and port it was sent to: replies leave from there.
    pub to: SocketAddr,
}

/// What was received and not handed over, since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReceiveCounters {
    /// Datagrams that were longer than any that we take.
    pub oversized: u64,
    /// Errors that the socket reported, ICMP's among them.
    pub errors: u64,
}

/// Why there is no media socket.
#[derive(Debug, thiserror::Error)]
pub enum UdpError {
    /// Another process has the port.
    #[error("udp port {0} is taken; choose another with --udp-port, or any free one with --udp-port 0")]
    PortTaken(u16),
    /// The system reserves the port.
    #[error("udp port {0} may only be used by root; choose one above 1023 with --udp-port")]
    PortReserved(u16),
    /// The system refused.
    #[error("udp port {port} can't be opened: {error}")]
    System {
        /// The port asked for.
        port: u16,
        /// What it said.
        error: io::Error,
    },
}

/// The wildcard UDP socket that carries all sessions.
#[derive(Debug)]
pub struct MediaSocket {
    fd: OwnedFd,
    family: Family,
    port: u16,
    /// Whether the kernel splits one send into equal datagrams (UDP GSO).
    segmentation: bool,
    buffers: Vec<[u8; LARGEST_DATAGRAM]>,
    arrivals: Vec<Arrival>,
    counters: ReceiveCounters,
}

impl MediaSocket {
    /// Binds `port` (0: any free one) on all addresses of both families; of IPv4 alone where there is no IPv6.
    ///
    /// # Errors
    /// Where the port is taken or not to be had.
    pub fn bind(port: u16) -> Result<Self, UdpError> {
        match Self::bind_family(Family::Dual, port) {
            Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL | Errno::PROTONOSUPPORT | Errno::NOPROTOOPT) => {
                tracing::debug!("no IPv6 here: the media socket is IPv4 only");
                Self::bind_family(Family::V4, port)
            }
            result => result,
        }
        .map_err(|errno| match errno {
            Errno::ADDRINUSE => UdpError::PortTaken(port),
            Errno::ACCESS => UdpError::PortReserved(port),
            errno => UdpError::System { port, error: errno.into() },
        })
        .inspect(|socket| {
            if let Some(advice) = sockopt::socket_send_buffer_size(&socket.fd).ok().and_then(small_buffer) {
                tracing::warn!("{advice}");
            }
        })
    }

    fn bind_family(family: Family, port: u16) -> Result<Self, Errno> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (domain, wildcard): (_, IpAddr) = match family {
            Family::Dual => (AddressFamily::INET6, Ipv6Addr::UNSPECIFIED.into()),
            Family::V4 => (AddressFamily::INET, Ipv4Addr::UNSPECIFIED.into()),
        };
        let fd = rustix::net::socket_with(domain, SocketType::DGRAM, flags, None)?;
        if family == Family::Dual {
            sockopt::set_ipv6_v6only(&fd, false)?;
        }
        sys::report_local_addresses(fd.as_fd(), family)?;
        enlarge_buffers(&fd);
        rustix::net::bind(&fd, &SocketAddr::new(wildcard, port))?;
        let bound = SocketAddr::try_from(rustix::net::getsockname(&fd)?)?;
        let segmentation = sys::can_segment(fd.as_fd());
        if !segmentation {
            tracing::debug!("this kernel has no UDP segmentation: each packet is a message of its own");
        }
        Ok(Self {
            fd,
            family,
            port: bound.port(),
            segmentation,
            buffers: vec![[0; LARGEST_DATAGRAM]; sys::RECEIVE_CHUNK],
            arrivals: Vec::with_capacity(sys::RECEIVE_CHUNK),
            counters: ReceiveCounters::default(),
        })
    }

    /// Makes another handle on the same socket that only sends: each thread has its own.
    ///
    /// # Errors
    /// Where the process has no descriptors left.
    pub fn try_clone_sender(&self) -> io::Result<Self> {
        Ok(Self {
            fd: self.fd.try_clone()?,
            family: self.family,
            port: self.port,
            segmentation: self.segmentation,
            buffers: Vec::new(),
            arrivals: Vec::new(),
            counters: ReceiveCounters::default(),
        })
    }

    /// The port, the same on all addresses.
    pub fn local_port(&self) -> u16 {
        self.port
    }

    /// Whether viewers with IPv6 addresses can be reached.
    pub fn has_ipv6(&self) -> bool {
        self.family == Family::Dual
    }

    /// What was received and not handed over.
    pub fn counters(&self) -> ReceiveCounters {
        self.counters
    }

    /// Hands what has arrived to `handle`, at most 256 datagrams; returns how many.
    ///
    /// Oversized datagrams and errors of the socket (they concern one remote at most) are counted.
    pub fn receive(&mut self, mut handle: impl FnMut(Datagram<'_>)) -> usize {
        let (mut seen, mut handed) = (0, 0);
        while seen < MOST_PER_CALL {
            match sys::receive(self.fd.as_fd(), self.family, &mut self.buffers, &mut self.arrivals) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    tracing::trace!(%error, "the media socket reported an error");
                    self.counters.errors += 1;
                    seen += 1;
                    continue;
                }
            }
            let full = self.arrivals.len() == self.buffers.len();
            seen += self.arrivals.len();
            for (arrival, buffer) in self.arrivals.iter().zip(&mut self.buffers) {
                if arrival.truncated {
                    self.counters.oversized += 1;
                    continue;
                }
                let Some(from) = arrival.from else {
                    self.counters.errors += 1;
                    continue;
                };
                let mut to = arrival.to;
                to.set_port(self.port);
                handle(Datagram { data: &mut buffer[..arrival.length], from, to });
                handed += 1;
            }
            if !full {
                break;
            }
        }
        handed
    }
}

impl AsFd for MediaSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Asks for large kernel buffers: beyond the system's limit where we may, else up to it.
fn enlarge_buffers(fd: &OwnedFd) {
    let sent = sockopt::set_socket_send_buffer_size_force(fd, KERNEL_BUFFER)
        .or_else(|_| sockopt::set_socket_send_buffer_size(fd, KERNEL_BUFFER));
    let received = sockopt::set_socket_recv_buffer_size_force(fd, KERNEL_BUFFER)
        .or_else(|_| sockopt::set_socket_recv_buffer_size(fd, KERNEL_BUFFER));
    if let Err(error) = sent.and(received) {
        tracing::debug!(%error, "the media socket keeps the system's buffer sizes");
    }
}

/// What to do about a send buffer that is smaller than asked; the kernel reports twice the bytes that were granted.
fn small_buffer(reported: usize) -> Option<String> {
    let granted = reported / 2;
    (granted < KERNEL_BUFFER).then(|| {
        format!(
            "the kernel gives the media socket a send buffer of {granted} bytes, not {KERNEL_BUFFER}: pictures for many viewers \
             wait for it; raise it by sysctl -w net.core.wmem_max={KERNEL_BUFFER}"
        )
    })
}

#[cfg(test)]
mod tests;
