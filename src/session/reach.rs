//! How viewers can reach the daemon: its addresses, those that a NAT gives it, relays, and TCP.
//!
//! Owns what is told in candidates; opens nothing and sends nothing. What has to be learnt from servers is put in by whoever learns it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::udp::local_addresses;
use crate::signaling::peers::Glob;

/// Which of this machine's addresses viewers are told: none that is excluded, and where something is included, nothing else.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkFilter {
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    excludes: bool,
    what: Networks,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Networks {
    Interface(Glob),
    Block { address: IpAddr, prefix: u8 },
}

/// Why a text is no rule of a [`NetworkFilter`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("neither an interface nor a block of addresses")]
pub struct NetworkFilterError;

impl NetworkFilter {
    /// Adds a rule: an interface's name (`*` and `?` stand for others) or a block of addresses, with `!` before it to exclude.
    ///
    /// # Errors
    /// Where it is neither.
    pub fn add(&mut self, text: &str) -> Result<(), NetworkFilterError> {
        let (excludes, text) = text.strip_prefix('!').map_or((false, text), |rest| (true, rest));
        let what = match text.split_once('/') {
            Some((address, prefix)) => {
                let address: IpAddr = address.parse().map_err(|_| NetworkFilterError)?;
                let most = if address.is_ipv4() { 32 } else { 128 };
                let prefix = prefix.parse().ok().filter(|prefix| *prefix <= most).ok_or(NetworkFilterError)?;
                Networks::Block { address, prefix }
            }
            None => match text.parse::<IpAddr>() {
                Ok(address) => Networks::Block { address, prefix: if address.is_ipv4() { 32 } else { 128 } },
                // Linux's names are at most 15 bytes, and have no colon but in old aliases.
                Err(_) if text.contains(|c: char| c.is_whitespace() || c.is_control()) || text.len() > 64 => {
                    return Err(NetworkFilterError);
                }
                Err(_) => Networks::Interface(Glob::parse(text).ok_or(NetworkFilterError)?),
            },
        };
        self.rules.push(Rule { excludes, what });
        Ok(())
    }

    /// Whether viewers are told an address of an interface.
    pub fn allows(&self, interface: &str, address: IpAddr) -> bool {
        let fits = |rule: &Rule| match &rule.what {
            Networks::Interface(name) => name.fits(interface),
            Networks::Block { address: block, prefix } => is_in(address, *block, *prefix),
        };
        let excluded = self.rules.iter().any(|rule| rule.excludes && fits(rule));
        let included = self.rules.iter().any(|rule| !rule.excludes && fits(rule));
        !excluded && (included || self.rules.iter().all(|rule| rule.excludes))
    }
}

/// Whether the first `prefix` bits of both are the same.
fn is_in(address: IpAddr, block: IpAddr, prefix: u8) -> bool {
    let (address, block, width) = match (address, block) {
        (IpAddr::V4(address), IpAddr::V4(block)) => (u128::from(address.to_bits()), u128::from(block.to_bits()), 32),
        (IpAddr::V6(address), IpAddr::V6(block)) => (address.to_bits(), block.to_bits(), 128),
        _ => return false,
    };
    prefix == 0 || (address ^ block) >> (width - u32::from(prefix)) == 0
}

/// How a candidate came about (RFC 8445, section 5.1.1, and RFC 6544 for TCP).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CandidateKind {
    /// An address of this machine, or the public one that stands for it (1:1 NAT).
    Host,
    /// An address of this machine where TCP connections are taken.
    TcpPassive,
    /// What a STUN server saw of an address of this machine.
    ServerReflexive,
    /// An address at a TURN server.
    Relayed,
}

/// One way to reach the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LocalCandidate {
    /// What it is.
    pub kind: CandidateKind,
    /// What viewers are told.
    pub address: SocketAddr,
    /// What the local address of packets that come this way is: of the engine's pairs, and of [`super::engine::Path::local`].
    pub base: SocketAddr,
}

/// What servers told.
#[derive(Debug, Default)]
struct Learnt {
    /// Addresses of this machine, each with what a STUN server saw of it.
    reflexive: Vec<(SocketAddr, SocketAddr)>,
    /// Addresses at TURN servers.
    relayed: Vec<SocketAddr>,
}

/// The table of ways; shared by whoever learns of them and whoever tells them.
#[derive(Debug)]
pub struct Reach {
    port: u16,
    learnt: Mutex<Learnt>,
}

impl Reach {
    /// All addresses of this machine at the media socket's port.
    pub fn new(port: u16) -> Self {
        Self { port, learnt: Mutex::default() }
    }

    /// Puts in what a STUN server saw of an address of this machine; `None` where it is seen no more.
    pub fn set_reflexive(&self, base: SocketAddr, seen: Option<SocketAddr>) {
        let mut learnt = self.learnt();
        learnt.reflexive.retain(|(known, _)| *known != base);
        learnt.reflexive.extend(seen.map(|seen| (base, seen)));
    }

    /// Puts in an address at a TURN server, or takes it out.
    pub fn set_relayed(&self, address: SocketAddr, is_there: bool) {
        let mut learnt = self.learnt();
        learnt.relayed.retain(|known| *known != address);
        learnt.relayed.extend(is_there.then_some(address));
    }

    /// All ways, the preferred one first.
    ///
    /// # Errors
    /// Where the system can't list its addresses: then there is loopback only, and what servers told.
    pub fn candidates(&self) -> (Vec<LocalCandidate>, io::Result<()>) {
        let (addresses, result) = match local_addresses() {
            Ok(addresses) => (addresses, Ok(())),
            Err(error) => (vec![IpAddr::from([127, 0, 0, 1])], Err(error)),
        };
        let host = |ip| {
            let address = SocketAddr::new(ip, self.port);
            LocalCandidate { kind: CandidateKind::Host, address, base: address }
        };
        let mut candidates: Vec<_> = addresses.into_iter().map(host).collect();
        let learnt = self.learnt();
        // Where nothing translates, a server sees what is known already.
        let is_own = |seen: &SocketAddr| candidates.iter().any(|own| own.address == *seen);
        let translated: Vec<_> = learnt.reflexive.iter().filter(|(_, seen)| !is_own(seen)).collect();
        candidates.extend(translated.into_iter().map(|(base, seen)| LocalCandidate {
            kind: CandidateKind::ServerReflexive,
            address: *seen,
            base: *base,
        }));
        candidates.extend(learnt.relayed.iter().map(|address| LocalCandidate {
            kind: CandidateKind::Relayed,
            address: *address,
            base: *address,
        }));
        (candidates, result)
    }

    fn learnt(&self) -> MutexGuard<'_, Learnt> {
        self.learnt.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The bases of candidates, each once: what an engine's pairs begin at.
pub fn bases(candidates: &[LocalCandidate]) -> Vec<SocketAddr> {
    let mut bases = Vec::new();
    for candidate in candidates {
        if !bases.contains(&candidate.base) {
            bases.push(candidate.base);
        }
    }
    bases
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn networks_are_included_and_excluded() {
        let allows = |rules: &[&str], interface, address: &str| {
            let mut filter = NetworkFilter::default();
            rules.iter().for_each(|rule| filter.add(rule).unwrap());
            filter.allows(interface, address.parse().unwrap())
        };
        for (rules, interface, address, expected) in [
            (&[][..], "eth0", "192.0.2.1", true),
            (&["eth0"], "eth0", "192.0.2.1", true),
            (&["eth*"], "wlan0", "192.0.2.1", false),
            (&["!docker*"], "docker0", "172.17.0.1", false),
            (&["!docker*"], "eth0", "192.0.2.1", true),
            (&["eth*", "!10.0.0.0/8"], "eth0", "10.1.2.3", false),
            (&["10.0.0.0/8", "fd00::/8"], "eth0", "fd01::1", true),
            (&["10.0.0.0/8"], "eth0", "11.0.0.1", false),
            (&["192.0.2.7"], "eth0", "192.0.2.8", false),
            (&["0.0.0.0/0"], "eth0", "::1", false),
        ] {
            assert_eq!(allows(rules, interface, address), expected, "{rules:?} {interface} {address}");
        }
        for bad in ["", "!", "10.0.0.0/33", "a b", "moon/8", "::/129"] {
            assert_eq!(NetworkFilter::default().add(bad), Err(NetworkFilterError), "{bad}");
        }
    }
}
