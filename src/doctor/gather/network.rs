//! Facts of ports, firewalls and addresses.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::config::RunConfig;
use crate::doctor::network::{AddressFacts, FirewallFacts, Holder, PortFacts, Purpose, drops_input, holders, ports_of};
use crate::session::reach::{CandidateKind, NetworkFilter, Reach, ReachConfig};
use crate::signaling::server::ipv4_instead_of;

pub(in crate::doctor) use super::servers::servers;

/// Whether the ports can be had, and who has those that can't; `own` are those of a daemon that answered.
pub(in crate::doctor) fn ports(config: &RunConfig, own: Vec<(Purpose, u16)>) -> Vec<PortFacts> {
    let look = |(purpose, address): (Purpose, SocketAddr)| {
        let is_own = own.contains(&(purpose, address.port()));
        let refusal = if is_own { None } else { bind(purpose, address).err().map(|error| error.kind()) };
        let is_taken = refusal == Some(io::ErrorKind::AddrInUse);
        let holder = is_taken.then(|| holder(purpose, address.port())).flatten();
        PortFacts { purpose, address, is_own, refusal, holder }
    };
    ports_of(config).into_iter().map(look).collect()
}

/// Binds a port for a moment; of IPv4 alone where there is no IPv6.
fn bind(purpose: Purpose, address: SocketAddr) -> io::Result<()> {
    let bound = |address: SocketAddr| match purpose {
        Purpose::Media => UdpSocket::bind(address).map(drop),
        Purpose::Page | Purpose::MediaTcp => TcpListener::bind(address).map(drop),
    };
    match (bound(address), ipv4_instead_of(address)) {
        (Err(error), Some(instead)) if error.kind() != io::ErrorKind::AddrInUse => bound(instead),
        (result, _) => result,
    }
}

fn holder(purpose: Purpose, port: u16) -> Option<Holder> {
    let (tables, is_tcp) = match purpose {
        Purpose::Media => (["/proc/net/udp6", "/proc/net/udp"], false),
        Purpose::Page | Purpose::MediaTcp => (["/proc/net/tcp6", "/proc/net/tcp"], true),
    };
    let tables = tables.iter().filter_map(|path| std::fs::read_to_string(path).ok());
    let (uid, inode) = tables.flat_map(|table| holders(&table, port, is_tcp)).next()?;
    Some(Holder { uid, process: process_of(inode) })
}

/// The process that has a socket, by its number; of other users' processes only root can tell.
fn process_of(inode: u64) -> Option<(String, u32)> {
    let wanted = format!("socket:[{inode}]");
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_string_lossy().parse::<u32>().ok());
    let has_it = |pid: &u32| {
        let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        descriptors.into_iter().any(|fd| std::fs::read_link(fd.path()).is_ok_and(|target| target == Path::new(&wanted)))
    };
    let pid = numbers.into_iter().find(has_it)?;
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some((name.trim().to_owned(), pid))
}

/// What is to be seen of firewalls without asking for rights.
pub(in crate::doctor) fn firewall() -> FirewallFacts {
    let is_active = |service: &str| {
        let asked = Command::new("systemctl")
            .args(["is-active", "--quiet", service])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .status();
        asked.is_ok_and(|status| status.success())
    };
    let ufw = std::fs::read_to_string("/etc/ufw/ufw.conf").unwrap_or_default();
    let rules = || {
        let told =
            Command::new("nft").args(["list", "ruleset"]).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
        told.status.success().then(|| drops_input(&String::from_utf8_lossy(&told.stdout)))
    };
    FirewallFacts {
        ufw: ufw.lines().any(|line| line.trim().eq_ignore_ascii_case("ENABLED=yes")),
        firewalld: is_active("firewalld.service"),
        nftables: is_active("nftables.service"),
        drops: rustix::process::geteuid().is_root().then(rules).flatten(),
    }
}

/// What viewers would be told.
pub(in crate::doctor) fn addresses(config: &RunConfig) -> AddressFacts {
    let reach = Reach::new(ReachConfig {
        port: config.udp_port,
        tcp: false,
        public_ips: config.public_ips.clone(),
        networks: config.networks.clone(),
    });
    let (candidates, _) = reach.candidates("");
    let hosts = candidates.iter().filter(|candidate| candidate.kind == CandidateKind::Host);
    AddressFacts {
        port: config.udp_port,
        told: hosts.map(|candidate| candidate.address.ip()).collect(),
        is_filtered: config.networks != NetworkFilter::default(),
        is_beyond: !config.public_ips.is_empty() || !config.ice_servers.is_empty(),
    }
}
