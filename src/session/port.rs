//! The one port of media: UDP, and the same number for TCP.

use std::io;

use super::tcp::MediaListener;
use super::udp::{MediaSocket, UdpError};

/// So many ports are tried where any will do: one that is free for UDP may be some connection's over TCP.
const TRIES: u32 = 16;

/// Binds a UDP port, any where it is 0, and the same for TCP as far as it can be had.
///
/// # Errors
/// Where the port can't be had for UDP.
pub fn bind(port: u16) -> Result<(MediaSocket, io::Result<MediaListener>), UdpError> {
    let tcp = |socket: &MediaSocket| match port {
        0 => MediaListener::bind(socket.local_port(), socket.has_ipv6()),
        _ => MediaListener::bind_patiently(socket.local_port(), socket.has_ipv6()),
    };
    both(if port == 0 { TRIES } else { 1 }, || MediaSocket::bind(port), tcp)
}

fn both<U, T, E>(
    tries: u32,
    udp: impl Fn() -> Result<U, E>,
    mut tcp: impl FnMut(&U) -> io::Result<T>,
) -> Result<(U, io::Result<T>), E> {
    // Those that are taken are held until the end, so that no port is tried twice.
    let mut taken = Vec::new();
    loop {
        let socket = udp()?;
        match tcp(&socket) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && taken.len() + 1 < tries as usize => {
                taken.push(socket);
            }
            listener => return Ok((socket, listener)),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::cell::Cell;

    use super::*;

    #[test]
    fn another_port_is_tried_where_any_will_do_and_tcp_has_this_one() {
        let next = Cell::new(0);
        let udp = || Ok::<_, io::Error>(next.replace(next.get() + 1));
        let taken_until =
            |free: u32| move |port: &u32| if *port < free { Err(io::ErrorKind::AddrInUse.into()) } else { Ok(*port) };
        assert_eq!(both(16, udp, taken_until(3)).map(|(udp, tcp)| (udp, tcp.unwrap())).unwrap(), (3, 3));
        next.set(0);
        let (udp_port, tcp) = both(1, udp, taken_until(3)).unwrap();
        assert_eq!((udp_port, tcp.unwrap_err().kind()), (0, io::ErrorKind::AddrInUse), "this one was asked for");
        next.set(0);
        assert!(both(16, udp, taken_until(99)).unwrap().1.is_err() && next.get() == 16);
        next.set(0);
        let forbidden = |_: &u32| Err::<u32, _>(io::ErrorKind::PermissionDenied.into());
        assert!(both(16, udp, forbidden).unwrap().1.is_err() && next.get() == 1, "another would not do either");
    }

    #[test]
    fn udp_and_tcp_have_one_port() {
        let (socket, listener) = bind(0).unwrap();
        assert_eq!(listener.unwrap().local_port(), socket.local_port());
    }
}
