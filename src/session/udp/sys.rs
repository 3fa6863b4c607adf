//! The system calls of the media socket that have no safe wrapper: recvmmsg and sendmmsg with control messages.
//!
//! Layouts: RFC 3542, section 6 (IPV6_PKTINFO); ip(7) (IP_PKTINFO); udp(7) (UDP_SEGMENT).
#![expect(unsafe_code, reason = "sendmmsg and recvmmsg with control messages have no safe wrapper")]

use std::io;
use std::mem::{self, MaybeUninit, size_of};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use libc::{c_int, c_void, cmsghdr, in_pktinfo, in6_pktinfo, iovec, mmsghdr, msghdr, sockaddr_in, sockaddr_in6};
use rustix::io::Errno;

/// Most messages of one sendmmsg.
pub(super) const SEND_CHUNK: usize = 64;
/// Most datagrams of one recvmmsg.
pub(super) const RECEIVE_CHUNK: usize = 32;
/// Room for IPV6_PKTINFO (40 bytes) and UDP_SEGMENT (24), aligned as control messages must be.
type Control = [u64; 8];

/// Which addresses a socket carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    /// IPv6, and IPv4 as mapped addresses (RFC 3493, section 3.7).
    Dual,
    /// IPv4 alone.
    V4,
}

/// One message to send: a datagram, or a run of them that the kernel splits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Departure<'a> {
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) payload: &'a [u8],
    /// Bytes of each datagram but the last; `None` where the payload is one datagram.
    pub(super) segment: Option<u16>,
}

/// What is known of one received datagram.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival {
    pub(super) length: usize,
    pub(super) truncated: bool,
    /// `None` where the kernel gave no address.
    pub(super) from: Option<SocketAddr>,
    /// Its port is 0; unspecified where the kernel did not tell.
    pub(super) to: SocketAddr,
}

/// A socket address as the kernel reads it.
#[derive(Clone, Copy)]
#[repr(C)]
union Name {
    v4: sockaddr_in,
    v6: sockaddr_in6,
}

/// Makes the kernel tell the local address of each datagram.
pub(super) fn report_local_addresses(fd: BorrowedFd<'_>, family: Family) -> Result<(), Errno> {
    match family {
        // Mapped IPv4 datagrams carry an IPV6_PKTINFO too.
        Family::Dual => set_option(fd, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1),
        Family::V4 => set_option(fd, libc::IPPROTO_IP, libc::IP_PKTINFO, 1),
    }
}

/// Whether the kernel knows UDP segmentation (Linux 4.18).
pub(super) fn can_segment(fd: BorrowedFd<'_>) -> bool {
    set_option(fd, libc::SOL_UDP, libc::UDP_SEGMENT, 0).is_ok()
}

fn set_option(fd: BorrowedFd<'_>, level: c_int, name: c_int, value: c_int) -> Result<(), Errno> {
    // SAFETY: the pointer and the length are those of `value`, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            (&raw const value).cast::<c_void>(),
            size_of::<c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}

fn last_errno() -> Errno {
    io::Error::last_os_error().raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error)
}

/// Sends up to 64 of `messages`; returns how many were taken, or the error of the first.
pub(super) fn send(fd: BorrowedFd<'_>, family: Family, messages: &[Departure<'_>]) -> io::Result<usize> {
    // SAFETY: all of these are plain structures for which zero is a valid value.
    let (mut names, mut vectors, mut headers) = unsafe {
        (
            mem::zeroed::<[Name; SEND_CHUNK]>(),
            mem::zeroed::<[iovec; SEND_CHUNK]>(),
            mem::zeroed::<[mmsghdr; SEND_CHUNK]>(),
        )
    };
    let mut controls: [Control; SEND_CHUNK] = [[0; 8]; SEND_CHUNK];
    let mut count = 0;
    for (i, message) in messages.iter().take(SEND_CHUNK).enumerate() {
        let Some((name, name_length)) = name_of(message.to, family) else { break };
        names[i] = name;
        vectors[i] = iovec { iov_base: message.payload.as_ptr().cast_mut().cast(), iov_len: message.payload.len() };
        let header = &mut headers[i].msg_hdr;
        header.msg_name = (&raw mut names[i]).cast();
        header.msg_namelen = name_length;
        header.msg_iov = &raw mut vectors[i];
        header.msg_iovlen = 1;
        header.msg_control = (&raw mut controls[i]).cast();
        header.msg_controllen = size_of::<Control>();
        write_control(header, message, family);
        count += 1;
    }
    if count == 0 {
        return Err(io::Error::from(io::ErrorKind::Unsupported));
    }
    // SAFETY: `count` headers are filled in; what they point to (arrays above, payloads of `messages`) outlives the call and
    // is not written by it.
    let sent =
        unsafe { libc::sendmmsg(fd.as_raw_fd(), headers.as_mut_ptr(), count, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Writes the source address and the segment size into the header's control buffer, and sets its length.
fn write_control(header: &mut msghdr, message: &Departure<'_>, family: Family) {
    let mut used = 0;
    let zone = match message.from {
        SocketAddr::V6(v6) => v6.scope_id(),
        SocketAddr::V4(_) => 0,
    };
    match (family, message.from.ip()) {
        (_, ip) if ip.is_unspecified() => {}
        (Family::Dual, ip) => {
            let info = in6_pktinfo { ipi6_addr: libc::in6_addr { s6_addr: mapped(ip).octets() }, ipi6_ifindex: zone };
            used = push_control(header, used, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info);
        }
        (Family::V4, IpAddr::V4(ip)) => {
            let none = libc::in_addr { s_addr: 0 };
            let info = in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: in_addr(ip), ipi_addr: none };
            used = push_control(header, used, libc::IPPROTO_IP, libc::IP_PKTINFO, info);
        }
        (Family::V4, IpAddr::V6(_)) => {}
    }
    if let Some(segment) = message.segment {
        used = push_control(header, used, libc::SOL_UDP, libc::UDP_SEGMENT, segment);
    }
    header.msg_controllen = used;
    if used == 0 {
        header.msg_control = ptr::null_mut();
    }
}

/// Appends one control message after `used` bytes; returns the bytes used then.
fn push_control<T: Copy>(header: &mut msghdr, used: usize, level: c_int, kind: c_int, content: T) -> usize {
    let size = size_of::<T>() as u32;
    // SAFETY: CMSG_SPACE and CMSG_LEN only compute.
    let (space, length) = unsafe { (libc::CMSG_SPACE(size) as usize, libc::CMSG_LEN(size) as usize) };
    debug_assert!(used + space <= size_of::<Control>(), "a Control has room for both messages that we send");
    // SAFETY: `msg_control` points to a zeroed `Control`, aligned for cmsghdr, with `space` bytes free after `used`, which is
    // zero or a CMSG_SPACE and so keeps the alignment; the content is written unaligned.
    unsafe {
        let message = header.msg_control.cast::<u8>().add(used).cast::<cmsghdr>();
        (*message).cmsg_level = level;
        (*message).cmsg_type = kind;
        (*message).cmsg_len = length;
        ptr::write_unaligned(libc::CMSG_DATA(message).cast::<T>(), content);
    }
    used + space
}

/// Receives as many datagrams as have arrived, at most one for each buffer (and 32), and describes them in `arrivals`.
///
/// # Errors
/// `WouldBlock` where nothing has arrived; else what the socket reports.
pub(super) fn receive<const N: usize>(
    fd: BorrowedFd<'_>,
    family: Family,
    buffers: &mut [[u8; N]],
    arrivals: &mut Vec<Arrival>,
) -> io::Result<()> {
    arrivals.clear();
    // SAFETY: all of these are plain structures for which zero is a valid value.
    let (mut names, mut vectors, mut headers) = unsafe {
        (
            mem::zeroed::<[Name; RECEIVE_CHUNK]>(),
            mem::zeroed::<[iovec; RECEIVE_CHUNK]>(),
            mem::zeroed::<[mmsghdr; RECEIVE_CHUNK]>(),
        )
    };
    let mut controls: [Control; RECEIVE_CHUNK] = [[0; 8]; RECEIVE_CHUNK];
    let mut count = 0;
    for (i, buffer) in buffers.iter_mut().take(RECEIVE_CHUNK).enumerate() {
        vectors[i] = iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: N };
        let header = &mut headers[i].msg_hdr;
        header.msg_name = (&raw mut names[i]).cast();
        header.msg_namelen = size_of::<Name>() as libc::socklen_t;
        header.msg_iov = &raw mut vectors[i];
        header.msg_iovlen = 1;
        header.msg_control = (&raw mut controls[i]).cast();
        header.msg_controllen = size_of::<Control>();
        count += 1;
    }
    // SAFETY: `count` headers are filled in; the buffers and arrays that they point to outlive the call, are as long as the
    // headers say and are borrowed by nobody else.
    let received =
        unsafe { libc::recvmmsg(fd.as_raw_fd(), headers.as_mut_ptr(), count, libc::MSG_DONTWAIT, ptr::null_mut()) };
    let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
    for header in headers.iter().take(received) {
        arrivals.push(Arrival {
            length: (header.msg_len as usize).min(N),
            truncated: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
            from: address_of(&header.msg_hdr, family),
            to: local_address_of(&header.msg_hdr),
        });
    }
    Ok(())
}

/// The sender, from the name that the kernel wrote.
fn address_of(header: &msghdr, family: Family) -> Option<SocketAddr> {
    let length = header.msg_namelen as usize;
    match family {
        Family::Dual if length >= size_of::<sockaddr_in6>() => {
            // SAFETY: `msg_name` points to a `Name`, of which the kernel has filled in a sockaddr_in6.
            let name = unsafe { (*header.msg_name.cast::<Name>()).v6 };
            let (ip, port) = (Ipv6Addr::from(name.sin6_addr.s6_addr), u16::from_be(name.sin6_port));
            Some(match ip.to_ipv4_mapped() {
                Some(v4) => SocketAddrV4::new(v4, port).into(),
                None => SocketAddrV6::new(ip, port, 0, name.sin6_scope_id).into(),
            })
        }
        Family::V4 if length >= size_of::<sockaddr_in>() => {
            // SAFETY: `msg_name` points to a `Name`, of which the kernel has filled in a sockaddr_in.
            let name = unsafe { (*header.msg_name.cast::<Name>()).v4 };
            let ip = Ipv4Addr::from(u32::from_be(name.sin_addr.s_addr));
            Some(SocketAddrV4::new(ip, u16::from_be(name.sin_port)).into())
        }
        _ => None,
    }
}

/// The local address, from the control messages that the kernel wrote; its port is 0.
fn local_address_of(header: &msghdr) -> SocketAddr {
    // SAFETY: `msg_control` points to a `Control` of which the kernel has filled in `msg_controllen` bytes.
    let mut message = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !message.is_null() {
        // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR give a whole, aligned header inside the control buffer.
        let (level, kind, data) = unsafe { ((*message).cmsg_level, (*message).cmsg_type, libc::CMSG_DATA(message)) };
        match (level, kind) {
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                // SAFETY: the kernel has written an in6_pktinfo as this message's content.
                let info = unsafe { ptr::read_unaligned(data.cast::<in6_pktinfo>()) };
                let ip = Ipv6Addr::from(info.ipi6_addr.s6_addr);
                return match ip.to_ipv4_mapped() {
                    Some(v4) => SocketAddrV4::new(v4, 0).into(),
                    None if ip.is_unicast_link_local() => SocketAddrV6::new(ip, 0, 0, info.ipi6_ifindex).into(),
                    None => SocketAddrV6::new(ip, 0, 0, 0).into(),
                };
            }
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                // SAFETY: the kernel has written an in_pktinfo as this message's content.
                let info = unsafe { ptr::read_unaligned(data.cast::<in_pktinfo>()) };
                return SocketAddrV4::new(Ipv4Addr::from(u32::from_be(info.ipi_spec_dst.s_addr)), 0).into();
            }
            // SAFETY: `message` is a header inside this header's control buffer.
            _ => message = unsafe { libc::CMSG_NXTHDR(header, message) },
        }
    }
    SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0)
}

/// The kernel's form of an address and its length; `None` for IPv6 on a socket of IPv4 alone.
fn name_of(address: SocketAddr, family: Family) -> Option<(Name, libc::socklen_t)> {
    // SAFETY: zero is a valid value of both structures.
    let mut name = unsafe { MaybeUninit::<Name>::zeroed().assume_init() };
    match (family, address) {
        (Family::Dual, address) => {
            let scope = match address {
                SocketAddr::V6(v6) => v6.scope_id(),
                SocketAddr::V4(_) => 0,
            };
            name.v6 = sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: address.port().to_be(),
                sin6_flowinfo: 0,
                sin6_addr: libc::in6_addr { s6_addr: mapped(address.ip()).octets() },
                sin6_scope_id: scope,
            };
            Some((name, size_of::<sockaddr_in6>() as libc::socklen_t))
        }
        (Family::V4, SocketAddr::V4(address)) => {
            name.v4 = sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: address.port().to_be(),
                sin_addr: in_addr(*address.ip()),
                sin_zero: [0; 8],
            };
            Some((name, size_of::<sockaddr_in>() as libc::socklen_t))
        }
        (Family::V4, SocketAddr::V6(_)) => None,
    }
}

fn mapped(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

fn in_addr(ip: Ipv4Addr) -> libc::in_addr {
    libc::in_addr { s_addr: u32::from(ip).to_be() }
}
