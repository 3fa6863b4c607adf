//! What changes around the daemon that nobody tells it: its clocks, and the addresses of its machine. What is seen is said; nothing else follows from it.
//!
//! A shell: what is news is for [`Jumps`] and [`Networks`] to decide.

use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType};
use rustix::time::{ClockId, clock_gettime};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tracing::{debug, info, warn};

use crate::clock;
use crate::clock::jumps::{Jump, Jumps, Reading};
use crate::session::networks::{Networks, News};
use crate::session::reach::NetworkFilter;
use crate::session::udp::connected_addresses;
use crate::trouble::until;

/// Between two looks at the clocks.
const EVERY: Duration = Duration::from_secs(2);
/// How long addresses must stay as they are before they are looked at: a network that is configured anew loses them first.
const SETTLING: Duration = Duration::from_millis(500);
/// The kernel's groups of news (rtnetlink(7)): links, and addresses of both families.
const GROUPS: u32 = (libc::RTMGRP_LINK | libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR) as u32;

/// Says what the clocks do; for ever.
pub(super) async fn watch_clocks() {
    let mut jumps = Jumps::new(EVERY, reading());
    let mut looks = tokio::time::interval(EVERY);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // The first one is at once.
    looks.tick().await;
    loop {
        looks.tick().await;
        for jump in jumps.handle_reading(reading()) {
            match jump {
                Jump::Slept(time) => info!(slept_s = whole(time), "the machine slept and is awake"),
                Jump::HeldUp(time) => warn!(held_s = whole(time), "the daemon was stopped or held up, and goes on"),
                Jump::Forward(time) => warn!(by_s = whole(time), "the machine's clock was set forward"),
                Jump::Back(time) => warn!(by_s = whole(time), "the machine's clock was set back"),
            }
        }
    }
}

/// Seconds, to the nearest one.
fn whole(time: Duration) -> u64 {
    time.as_secs_f64().round() as u64
}

fn reading() -> Reading {
    let boot = clock_gettime(ClockId::Boottime);
    let boot = Duration::try_from(boot).unwrap_or_default();
    Reading { now: Instant::now(), boot, wall: clock::wall_now() }
}

/// Says which networks this machine loses and has again, of those that viewers are told; for ever.
pub(super) async fn watch_networks(filter: NetworkFilter) {
    let socket = match news() {
        Ok(socket) => socket,
        Err(error) => {
            debug!(%error, "the kernel tells nothing of networks that come and go");
            return std::future::pending().await;
        }
    };
    let addresses = || {
        let mut addresses = connected_addresses().unwrap_or_default();
        addresses.retain(|address| !address.ip.is_loopback() && filter.allows(&address.interface, address.ip));
        addresses
    };
    let mut networks = Networks::new(&addresses());
    let mut due = None;
    loop {
        tokio::select! {
            ready = socket.readable() => {
                let Ok(mut ready) = ready else { return std::future::pending().await };
                // What it says is not read: the addresses themselves are looked at.
                if ready.try_io(|socket| drain(socket.get_ref())).is_ok() {
                    due = Some(Instant::now() + SETTLING);
                }
            }
            () = until(due) => {
                due = None;
                for news in networks.handle_addresses(&addresses()) {
                    match news {
                        News::Lost(interface) => {
                            warn!(interface, "this machine has lost a network: viewers there see nothing until it is back");
                        }
                        News::Back(interface) => info!(interface, "a network is back"),
                        News::Other(interface) => {
                            info!(interface, "this machine has other addresses there: viewers are told them from now on");
                        }
                        News::Came(interface) => info!(interface, "this machine has a further network: viewers are told of it"),
                    }
                }
            }
        }
    }
}

/// A socket that hears of links and addresses.
#[expect(deprecated, reason = "its successor is unsafe for descriptors whose number changes; an OwnedFd's does not")]
fn news() -> io::Result<AsyncFd<OwnedFd>> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    // The first protocol of the family is rtnetlink.
    let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
    rustix::net::bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
    AsyncFd::with_interest(socket, Interest::READABLE)
}

/// Takes a message away; one that was lost for lack of room is as good.
fn drain(socket: &OwnedFd) -> io::Result<()> {
    match rustix::net::recv(socket, &mut [0_u8; 8192], RecvFlags::empty()) {
        Ok(_) | Err(rustix::io::Errno::NOBUFS) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
