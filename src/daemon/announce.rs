//! What the daemon says of the ways to it: the lines of the contract once it is ready, a QR code on a terminal, and what viewers are told in the log.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tracing::{debug, info, warn};

use crate::control::print::listening;
use crate::session::reach::{CandidateKind, NetworkFilter, Reach};
use crate::session::udp::{LocalAddress, local_addresses};
use crate::signaling::access::Code;
use crate::signaling::server::Server;

/// Prints the ready lines of the contract, and a QR code on a terminal.
pub(super) fn announce(server: Option<&Server>, udp_port: u16, code: Option<&Code>, name: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    let addresses = server.map_or(&[][..], Server::local_addrs);
    writeln!(out, "listening http={} udp={udp_port}", listening(addresses))?;
    let scheme = if server.is_some_and(|server| server.tls().is_some()) { "https" } else { "http" };
    let urls = urls(scheme, addresses, code);
    for url in &urls {
        writeln!(out, "open {url}")?;
    }
    if rustix::termios::isatty(&out)
        && let Some(picture) = urls.first().and_then(|url| qr_code(url))
    {
        writeln!(out, "{picture}\n{name}: scan this with a phone, or open one of the addresses above")?;
    }
    out.flush()
}

/// Says how many ways viewers are told.
pub(super) fn report(reach: &Reach, networks: &NetworkFilter) {
    let (candidates, _) = reach.candidates("");
    let hosts = candidates.iter().filter(|candidate| candidate.kind == CandidateKind::Host);
    let addresses: Vec<_> = hosts.map(|candidate| candidate.address.ip()).collect();
    let tcp = candidates.iter().any(|candidate| candidate.kind == CandidateKind::TcpPassive);
    info!(addresses = addresses.len(), tcp, "viewers are told how to reach this machine");
    debug!(?addresses, "what viewers are told");
    if !addresses.iter().all(IpAddr::is_loopback) {
        return;
    }
    let is_excluded = |address: &LocalAddress| !networks.allows(&address.interface, address.ip);
    let mut excluded = local_addresses().unwrap_or_default();
    excluded.retain(|address| !address.ip.is_loopback() && is_excluded(address));
    let interfaces: BTreeSet<_> = excluded.iter().map(|address| address.interface.as_str()).collect();
    if interfaces.is_empty() {
        warn!(
            "this machine has no address but its own loopback to tell viewers, so none elsewhere finds it: connect it to a network"
        );
    } else {
        warn!(
            ?interfaces,
            "--network leaves no address but loopback to tell viewers, so none elsewhere finds this machine but by a relay: \
             include one of these interfaces, or leave a rule with ! out"
        );
    }
}

/// The addresses to open: those of all interfaces for a wildcard, loopback last and once.
pub(super) fn urls(scheme: &str, listening: &[SocketAddr], code: Option<&Code>) -> Vec<String> {
    let mut places: Vec<SocketAddr> = Vec::new();
    for bound in listening {
        if !bound.ip().is_unspecified() {
            places.push(*bound);
            continue;
        }
        let own = local_addresses().map(|own| own.into_iter().map(|address| address.ip).collect());
        let own: Vec<IpAddr> = own.unwrap_or_else(|_| vec![Ipv4Addr::LOCALHOST.into()]);
        let reached = own
            .into_iter()
            .filter(|ip| bound.is_ipv6() || ip.is_ipv4())
            .filter(|ip| !(ip.is_ipv6() && ip.is_loopback()));
        places.extend(reached.map(|ip| SocketAddr::new(ip, bound.port())));
    }
    places.dedup();
    let code = code.map_or(String::new(), |code| format!("#{}", code.reveal()));
    places.into_iter().map(|place| format!("{scheme}://{place}/{code}")).collect()
}

fn qr_code(url: &str) -> Option<String> {
    let code = qrcode::QrCode::new(url).ok()?;
    Some(code.render::<qrcode::render::unicode::Dense1x2>().quiet_zone(true).build())
}
