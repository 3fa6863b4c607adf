//! This machine's addresses (RFC 8445, section 5.1.1: where host candidates come from).
#![expect(unsafe_code, reason = "getifaddrs gives a linked list of C structures")]

use std::ffi::CStr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::{io, ptr};

/// An address of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalAddress {
    /// The name of the interface that has it.
    pub interface: String,
    /// The address.
    pub ip: IpAddr,
}

/// The address that packets to `destination` would leave from; nothing is sent.
pub fn address_towards(destination: IpAddr) -> Option<IpAddr> {
    let any: IpAddr = if destination.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).ok()?;
    // Any port will do: connecting a UDP socket only looks for the route.
    socket.connect(SocketAddr::new(destination, 9)).ok()?;
    socket.local_addr().ok().map(|address| address.ip()).filter(|ip| !ip.is_unspecified())
}

/// All addresses of interfaces that are up, each once: IPv4, then IPv6, then loopback; link-local IPv6 is left out.
///
/// # Errors
/// Where the system can't list them.
pub fn local_addresses() -> io::Result<Vec<LocalAddress>> {
    list(libc::IFF_UP)
}

/// The same of those alone that are connected, as far as the kernel knows: it takes a second to say so.
///
/// # Errors
/// As [`local_addresses`].
pub fn connected_addresses() -> io::Result<Vec<LocalAddress>> {
    list(libc::IFF_UP | libc::IFF_RUNNING)
}

/// The addresses of interfaces that have all these flags.
fn list(flags: libc::c_int) -> io::Result<Vec<LocalAddress>> {
    let flags = flags as u32;
    let mut first = ptr::null_mut();
    // SAFETY: `first` is a place for the list's head.
    if unsafe { libc::getifaddrs(&raw mut first) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut addresses = Vec::new();
    let mut next = first;
    while !next.is_null() {
        // SAFETY: a non-null entry of the list is valid until freeifaddrs.
        let entry = unsafe { &*next };
        if entry.ifa_flags & flags == flags {
            // SAFETY: an entry has the name of its interface, which lives as long as the list.
            let interface = unsafe { CStr::from_ptr(entry.ifa_name) };
            let interface = interface.to_string_lossy();
            addresses
                .extend(address_of(entry).map(|ip| LocalAddress { interface: interface.clone().into_owned(), ip }));
        }
        next = entry.ifa_next;
    }
    // SAFETY: `first` is the head that getifaddrs gave; nothing refers to the list any more.
    unsafe { libc::freeifaddrs(first) };
    Ok(sorted(addresses))
}

fn address_of(entry: &libc::ifaddrs) -> Option<IpAddr> {
    if entry.ifa_addr.is_null() {
        return None;
    }
    // SAFETY: a non-null address has a family.
    match c_int_family(unsafe { (*entry.ifa_addr).sa_family }) {
        libc::AF_INET => {
            // SAFETY: an address of this family is a sockaddr_in.
            let address = unsafe { ptr::read_unaligned(entry.ifa_addr.cast::<libc::sockaddr_in>()) };
            Some(Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: an address of this family is a sockaddr_in6.
            let address = unsafe { ptr::read_unaligned(entry.ifa_addr.cast::<libc::sockaddr_in6>()) };
            Some(Ipv6Addr::from(address.sin6_addr.s6_addr).into())
        }
        _ => None,
    }
}

fn c_int_family(family: libc::sa_family_t) -> libc::c_int {
    family.into()
}

/// Drops what no viewer can use and brings the rest in order; inside a class the system's order stays.
fn sorted(mut addresses: Vec<LocalAddress>) -> Vec<LocalAddress> {
    addresses.retain(|address| match address.ip {
        IpAddr::V4(v4) => !v4.is_unspecified(),
        IpAddr::V6(v6) => !v6.is_unspecified() && !v6.is_unicast_link_local(),
    });
    addresses.sort_by_key(|address| (address.ip.is_loopback(), address.ip.is_ipv6()));
    let mut unique: Vec<LocalAddress> = Vec::with_capacity(addresses.len());
    for address in addresses {
        if !unique.iter().any(|known| known.ip == address.ip) {
            unique.push(address);
        }
    }
    unique
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn addresses_are_in_order_once_and_usable() {
        let given = ["::1", "127.0.0.1", "fe80::1", "2001:db8::1", "192.0.2.1", "192.0.2.1", "0.0.0.0", "fd00::1"];
        let address = |ip: &&str| LocalAddress { interface: "eth0".to_owned(), ip: ip.parse().unwrap() };
        let got = sorted(given.iter().map(address).collect());
        let got: Vec<_> = got.iter().map(|address| address.ip.to_string()).collect();
        assert_eq!(got, ["192.0.2.1", "2001:db8::1", "fd00::1", "127.0.0.1", "::1"]);
    }

    #[test]
    fn this_machine_has_a_loopback() {
        let loopback = local_addresses().unwrap().into_iter().find(|address| address.ip == Ipv4Addr::LOCALHOST);
        assert_eq!(loopback.unwrap().interface, "lo");
        assert_eq!(address_towards(Ipv4Addr::LOCALHOST.into()), Some(Ipv4Addr::LOCALHOST.into()));
    }
}
