//! The names by which this daemon may be asked: what stands between its pages and DNS rebinding.
//!
//! Owns the check of the `Host` header (RFC 9110, section 7.2). A page of another site can make its own name point here; the browser then sends
//! that name, and only names that nobody else can claim are answered. It never resolves a name.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The names that are answered, besides IP addresses and `localhost`.
#[derive(Debug, Clone, Default)]
pub struct OwnNames {
    names: BTreeSet<String>,
}

impl OwnNames {
    /// Takes the machine's `hostname` (with and without its domain, and as `.local`) and further `names`.
    pub fn new<'a>(hostname: &str, names: impl IntoIterator<Item = &'a str>) -> Self {
        let hostname = plain(hostname);
        let short = hostname.split('.').next().unwrap_or_default().to_owned();
        let mut all: BTreeSet<String> = names.into_iter().map(plain).collect();
        if !short.is_empty() {
            all.insert(format!("{short}.local"));
            all.insert(short);
            all.insert(hostname);
        }
        all.remove("");
        Self { names: all }
    }

    /// Takes the hostname that the kernel knows, and further `names`.
    pub fn of_this_machine<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let uname = rustix::system::uname();
        Self::new(&uname.nodename().to_string_lossy(), names)
    }

    /// All names, `localhost` first.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        ["localhost"].into_iter().chain(self.names.iter().map(String::as_str))
    }

    /// Whether a host, as a URL has it, is this machine: one of its names, or one of `addresses`.
    pub fn is_here(&self, host: &str, addresses: &[IpAddr]) -> bool {
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        match bare.parse::<IpAddr>() {
            Ok(ip) => ip.is_loopback() || ip.is_unspecified() || addresses.contains(&ip),
            Err(_) => matches!(plain(host).as_str(), "localhost") || self.names.contains(&plain(host)),
        }
    }

    /// Whether a request with this `Host` (or `:authority`) is answered: `host`, `host:port` or `[v6]:port`.
    pub fn allows(&self, host: &str) -> bool {
        let Some(name) = without_port(host) else { return false };
        if let Some(v6) = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            return v6.parse::<Ipv6Addr>().is_ok();
        }
        let name = plain(name);
        // An address of IPv6 has brackets around it, so `:::` is not `::` with an empty port.
        name == "localhost" || name.parse::<Ipv4Addr>().is_ok() || self.names.contains(&name)
    }
}

/// The name in the form in which names are compared: lower case, without the root's dot.
fn plain(name: &str) -> String {
    let name = name.trim();
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// Takes a port off, where there is one; `None` where what follows the colon is no port.
fn without_port(host: &str) -> Option<&str> {
    let colon = match host.rfind(':') {
        Some(colon) if !host[colon..].contains(']') => colon,
        _ => return Some(host),
    };
    let port = &host[colon + 1..];
    (port.is_empty() || port.parse::<u16>().is_ok()).then_some(&host[..colon])
}
