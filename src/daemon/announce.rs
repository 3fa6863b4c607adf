//! What the daemon prints once it is ready: the lines of the contract, and a QR code on a terminal.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::session::udp::local_addresses;
use crate::signaling::access::Code;
use crate::signaling::server::Server;

/// Prints the ready lines of the contract, and a QR code on a terminal.
pub(super) fn announce(server: Option<&Server>, udp_port: u16, code: Option<&Code>, name: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    let addresses = server.map_or(&[][..], Server::local_addrs);
    let listening: Vec<_> = addresses.iter().map(SocketAddr::to_string).collect();
    let http = if listening.is_empty() { "off".to_owned() } else { listening.join(",") };
    writeln!(out, "listening http={http} udp={udp_port}")?;
    let urls = urls(addresses, code);
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

/// The addresses to open: those of all interfaces for a wildcard, loopback last and once.
fn urls(listening: &[SocketAddr], code: Option<&Code>) -> Vec<String> {
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
    places.into_iter().map(|place| format!("http://{place}/{code}")).collect()
}

fn qr_code(url: &str) -> Option<String> {
    let code = qrcode::QrCode::new(url).ok()?;
    Some(code.render::<qrcode::render::unicode::Dense1x2>().quiet_zone(true).build())
}
