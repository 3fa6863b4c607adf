//! UDP sockets as the light receiver and the floor need them: arrivals with the kernel's time and its count of losses, runs sent by sendmmsg.
//!
//! Layouts: socket(7) (SO_RXQ_OVFL, SO_TIMESTAMPNS), udp(7) (UDP_SEGMENT).
#![expect(unsafe_code, reason = "recvmmsg and sendmmsg with control messages have no safe wrapper")]

use std::io;
use std::mem::{self, size_of};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;
use std::time::Duration;

use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, sockopt};

/// Datagrams of one call.
const CHUNK: usize = 64;
/// Bytes of the largest datagram that is looked at.
const LARGEST: usize = 2048;
/// Bytes asked of the kernel for what has arrived: seconds of stream.
const KERNEL_BUFFER: usize = 4 << 20;
/// Room for SO_RXQ_OVFL (24 bytes), SO_TIMESTAMPNS (32) and UDP_SEGMENT (24), aligned as control messages must be.
type Control = [u64; 10];

/// A socket on loopback.
pub struct Socket {
    fd: OwnedFd,
    address: SocketAddr,
}

/// A datagram that has arrived.
pub struct Arrival<'a> {
    /// Its payload.
    pub data: &'a [u8],
    /// Its sender.
    pub from: SocketAddr,
    /// When the kernel took it: wall time since the Unix epoch.
    pub at: Duration,
}

/// Buffers to receive into; used again and again.
pub struct Buffers(Vec<[u8; LARGEST]>);

/// One message to send: datagrams of `segment` bytes each (the last may be shorter), or a single one.
pub struct Departure<'a> {
    /// Where it goes.
    pub to: SocketAddr,
    /// All bytes.
    pub payload: &'a [u8],
    /// Bytes of each datagram; `None` where the payload is one.
    pub segment: Option<u16>,
}

impl Socket {
    /// Opens a socket on a free port of this address of loopback.
    pub fn open(ip: Ipv4Addr) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None)?;
        for size in [sockopt::set_socket_recv_buffer_size_force, sockopt::set_socket_send_buffer_size_force] {
            // Without the right to go beyond the system's limit, the limit it is.
            let _ = size(fd.as_fd(), KERNEL_BUFFER);
        }
        for option in [libc::SO_RXQ_OVFL, libc::SO_TIMESTAMPNS] {
            set_option(fd.as_fd(), libc::SOL_SOCKET, option, 1)?;
        }
        rustix::net::bind(&fd, &SocketAddr::from((ip, 0)))?;
        let address = SocketAddr::try_from(rustix::net::getsockname(&fd)?)?;
        Ok(Self { fd, address })
    }

    /// Its own address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends one datagram; one that the kernel does not take is lost, as on any network.
    pub fn send(&self, to: SocketAddr, data: &[u8]) {
        let _ = rustix::net::sendto(&self.fd, data, SendFlags::empty(), &to);
    }

    /// Hands over what has arrived, at most 64 datagrams; returns how many, and how many the socket has lost so far, if it says so.
    pub fn receive(&self, buffers: &mut Buffers, mut handle: impl FnMut(&Arrival<'_>)) -> (usize, Option<u32>) {
        // SAFETY: all of these are plain structures for which zero is a valid value.
        let (mut names, mut vectors, mut headers) = unsafe {
            (
                mem::zeroed::<[libc::sockaddr_in; CHUNK]>(),
                mem::zeroed::<[libc::iovec; CHUNK]>(),
                mem::zeroed::<[libc::mmsghdr; CHUNK]>(),
            )
        };
        let mut controls: [Control; CHUNK] = [[0; 10]; CHUNK];
        for (i, buffer) in buffers.0.iter_mut().enumerate() {
            vectors[i] = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: LARGEST };
            let header = &mut headers[i].msg_hdr;
            header.msg_name = (&raw mut names[i]).cast();
            header.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
            header.msg_iov = &raw mut vectors[i];
            header.msg_iovlen = 1;
            header.msg_control = (&raw mut controls[i]).cast();
            header.msg_controllen = size_of::<Control>();
        }
        let (fd, count) = (self.fd.as_raw_fd(), CHUNK as u32);
        // SAFETY: `count` headers are filled in; the buffers and arrays that they point to outlive the call, are as long as the
        // headers say and are borrowed by nobody else.
        let received = unsafe { libc::recvmmsg(fd, headers.as_mut_ptr(), count, libc::MSG_DONTWAIT, ptr::null_mut()) };
        let received = usize::try_from(received).unwrap_or_default();
        let mut lost = None;
        for i in 0..received {
            let told = told(&headers[i].msg_hdr);
            lost = told.lost.or(lost);
            let length = (headers[i].msg_len as usize).min(LARGEST);
            let from = SocketAddrV4::new(
                Ipv4Addr::from(u32::from_be(names[i].sin_addr.s_addr)),
                u16::from_be(names[i].sin_port),
            );
            handle(&Arrival { data: &buffers.0[i][..length], from: from.into(), at: told.at });
        }
        (received, lost)
    }

    /// Sends up to 64 messages; returns how many the kernel took.
    pub fn send_runs(&self, messages: &[Departure<'_>]) -> usize {
        // SAFETY: all of these are plain structures for which zero is a valid value.
        let (mut names, mut vectors, mut headers) = unsafe {
            (
                mem::zeroed::<[libc::sockaddr_in; CHUNK]>(),
                mem::zeroed::<[libc::iovec; CHUNK]>(),
                mem::zeroed::<[libc::mmsghdr; CHUNK]>(),
            )
        };
        let mut controls: [Control; CHUNK] = [[0; 10]; CHUNK];
        let mut count = 0;
        for (i, message) in messages.iter().take(CHUNK).enumerate() {
            let SocketAddr::V4(to) = message.to else { break };
            names[i].sin_family = libc::AF_INET as libc::sa_family_t;
            names[i].sin_port = to.port().to_be();
            names[i].sin_addr.s_addr = u32::from(*to.ip()).to_be();
            vectors[i] =
                libc::iovec { iov_base: message.payload.as_ptr().cast_mut().cast(), iov_len: message.payload.len() };
            let header = &mut headers[i].msg_hdr;
            header.msg_name = (&raw mut names[i]).cast();
            header.msg_namelen = size_of::<libc::sockaddr_in>() as libc::socklen_t;
            header.msg_iov = &raw mut vectors[i];
            header.msg_iovlen = 1;
            if let Some(segment) = message.segment {
                header.msg_control = (&raw mut controls[i]).cast();
                write_segment(header, segment);
            }
            count += 1;
        }
        // SAFETY: `count` headers are filled in; what they point to (arrays above, payloads of `messages`) outlives the call and
        // is not written by it.
        let sent = unsafe { libc::sendmmsg(self.fd.as_raw_fd(), headers.as_mut_ptr(), count, libc::MSG_DONTWAIT) };
        usize::try_from(sent).unwrap_or_default()
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Buffers {
    /// Room for one call.
    pub fn new() -> Self {
        Self(vec![[0; LARGEST]; CHUNK])
    }
}

/// What the kernel told beside a datagram.
#[derive(Default)]
struct Told {
    at: Duration,
    lost: Option<u32>,
}

fn told(header: &libc::msghdr) -> Told {
    let mut told = Told::default();
    // SAFETY: `msg_control` points to a `Control` of which the kernel has filled in `msg_controllen` bytes.
    let mut message = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !message.is_null() {
        // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR give a whole, aligned header inside the control buffer.
        let (level, kind, data) = unsafe { ((*message).cmsg_level, (*message).cmsg_type, libc::CMSG_DATA(message)) };
        match (level, kind) {
            (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => {
                // SAFETY: the kernel has written a u32 as this message's content.
                told.lost = Some(unsafe { ptr::read_unaligned(data.cast::<u32>()) });
            }
            (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) => {
                // SAFETY: the kernel has written a timespec as this message's content.
                let time = unsafe { ptr::read_unaligned(data.cast::<libc::timespec>()) };
                told.at = Duration::new(time.tv_sec as u64, time.tv_nsec as u32);
            }
            _ => {}
        }
        // SAFETY: `message` is a header inside this header's control buffer.
        message = unsafe { libc::CMSG_NXTHDR(header, message) };
    }
    told
}

/// Writes the segment size into the header's control buffer, which is a zeroed [`Control`], and sets its length.
fn write_segment(header: &mut libc::msghdr, segment: u16) {
    let size = size_of::<u16>() as u32;
    // SAFETY: CMSG_SPACE and CMSG_LEN only compute; `msg_control` points to a zeroed `Control`, which is aligned for cmsghdr and
    // longer than CMSG_SPACE of two bytes; the content is written unaligned.
    unsafe {
        let message = header.msg_control.cast::<libc::cmsghdr>();
        (*message).cmsg_level = libc::SOL_UDP;
        (*message).cmsg_type = libc::UDP_SEGMENT;
        (*message).cmsg_len = libc::CMSG_LEN(size) as usize;
        ptr::write_unaligned(libc::CMSG_DATA(message).cast::<u16>(), segment);
        header.msg_controllen = libc::CMSG_SPACE(size) as usize;
    }
}

fn set_option(fd: BorrowedFd<'_>, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the pointer and the length are those of `value`, which outlives the call.
    let result = unsafe {
        let length = size_of::<libc::c_int>() as libc::socklen_t;
        libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const value).cast(), length)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
