//! How viewers can reach the daemon: its addresses, those that a NAT gives it, relays, and TCP.
//!
//! Owns what is told in candidates; opens nothing and sends nothing. What has to be learnt from servers is put in by whoever learns it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::engine::Base;
use super::udp::{LocalAddress, address_towards, local_addresses};
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

    /// Whether viewers are told an address of an interface. Those of this machine alone (loopback) are, unless they are excluded by a rule.
    pub fn allows(&self, interface: &str, address: IpAddr) -> bool {
        let fits = |rule: &Rule| match &rule.what {
            Networks::Interface(name) => name.fits(interface),
            Networks::Block { address: block, prefix } => is_in(address, *block, *prefix),
        };
        let excluded = self.rules.iter().any(|rule| rule.excludes && fits(rule));
        let included = self.rules.iter().any(|rule| !rule.excludes && fits(rule));
        !excluded && (included || address.is_loopback() || self.rules.iter().all(|rule| rule.excludes))
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

/// What servers told, and the system when it was last asked.
#[derive(Debug, Default)]
struct Learnt {
    /// This machine's addresses.
    own: Vec<LocalAddress>,
    /// Addresses of this machine, each with what a STUN server saw of it.
    reflexive: Vec<(SocketAddr, SocketAddr)>,
    /// Addresses at TURN servers, and the server of a protocol that alone is told of one.
    relayed: Vec<(SocketAddr, Option<Arc<str>>)>,
}

/// What is known from the start.
#[derive(Debug, Clone, Default)]
pub struct ReachConfig {
    /// The media socket's port.
    pub port: u16,
    /// Whether TCP connections are taken at that port too.
    pub tcp: bool,
    /// Addresses that a NAT maps to this machine, port by port; one of a family at most.
    pub public_ips: Vec<IpAddr>,
    /// Which of this machine's addresses are told.
    pub networks: NetworkFilter,
}

/// The table of ways; shared by whoever learns of them and whoever tells them.
#[derive(Debug)]
pub struct Reach {
    config: ReachConfig,
    learnt: Mutex<Learnt>,
}

impl Reach {
    /// Nothing is learnt yet.
    pub fn new(config: ReachConfig) -> Self {
        Self { config, learnt: Mutex::default() }
    }

    /// Puts in what a STUN server saw of an address of this machine; `None` where it is seen no more.
    pub fn set_reflexive(&self, base: SocketAddr, seen: Option<SocketAddr>) {
        let mut learnt = self.learnt();
        learnt.reflexive.retain(|(known, _)| *known != base);
        learnt.reflexive.extend(seen.map(|seen| (base, seen)));
    }

    /// Puts in an address at a TURN server, of which `only` is told where there is one, by its label.
    pub fn add_relayed(&self, address: SocketAddr, only: Option<Arc<str>>) {
        self.remove_relayed(address);
        self.learnt().relayed.push((address, only));
    }

    /// Takes an address at a TURN server out.
    pub fn remove_relayed(&self, address: SocketAddr) {
        self.learnt().relayed.retain(|(known, _)| *known != address);
    }

    /// All ways that those are told who ask at the server with the label `at`, the preferred one first.
    ///
    /// # Errors
    /// Where the system can't list its addresses, as without descriptors: then they are those of the last time, or else loopback only, and what servers told.
    pub fn candidates(&self, at: &str) -> (Vec<LocalCandidate>, io::Result<()>) {
        let (addresses, result) = match local_addresses() {
            Ok(addresses) => {
                self.learnt().own.clone_from(&addresses);
                (addresses, Ok(()))
            }
            Err(error) => {
                let mut known = self.learnt().own.clone();
                if known.is_empty() {
                    known.push(LocalAddress { interface: "lo".to_owned(), ip: Ipv4Addr::LOCALHOST.into() });
                }
                (known, Err(error))
            }
        };
        let hosts = self.config.hosts(&addresses, address_towards);
        let all_by = |kind| {
            let at = |ip| SocketAddr::new(ip, self.config.port);
            hosts.iter().map(move |(told, base)| LocalCandidate { kind, address: at(*told), base: at(*base) })
        };
        let mut candidates: Vec<_> = all_by(CandidateKind::Host).collect();
        if self.config.tcp {
            candidates.extend(all_by(CandidateKind::TcpPassive));
        }
        let learnt = self.learnt();
        // Where nothing translates, a server sees what is known already.
        let is_own = |seen: &SocketAddr| candidates.iter().any(|own| own.address == *seen);
        let translated: Vec<_> = learnt.reflexive.iter().filter(|(_, seen)| !is_own(seen)).collect();
        candidates.extend(translated.into_iter().map(|(base, seen)| LocalCandidate {
            kind: CandidateKind::ServerReflexive,
            address: *seen,
            base: *base,
        }));
        let relayed = learnt.relayed.iter().filter(|(_, only)| only.as_deref().is_none_or(|only| only == at));
        candidates.extend(relayed.map(|(address, _)| LocalCandidate {
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

impl ReachConfig {
    /// The addresses to tell, each with the one of this machine that it stands for: public ones first, then this machine's own, `addresses`, that the filter lets through.
    ///
    /// `towards` tells which of this machine's addresses packets leave from, as the NAT sees them.
    fn hosts(&self, addresses: &[LocalAddress], towards: impl Fn(IpAddr) -> Option<IpAddr>) -> Vec<(IpAddr, IpAddr)> {
        let mut hosts = Vec::new();
        for public in &self.public_ips {
            let of_family = addresses.iter().map(|address| address.ip).find(|ip| ip.is_ipv4() == public.is_ipv4());
            hosts.extend(towards(*public).or(of_family).map(|base| (*public, base)));
        }
        let is_told = |address: &&LocalAddress| {
            self.networks.allows(&address.interface, address.ip) && !self.public_ips.contains(&address.ip)
        };
        hosts.extend(addresses.iter().filter(is_told).map(|address| (address.ip, address.ip)));
        hosts
    }
}

/// The bases of candidates, each once: what an engine's pairs begin at.
pub fn bases(candidates: &[LocalCandidate]) -> Vec<Base> {
    let mut bases = Vec::new();
    for candidate in candidates {
        let base = Base { address: candidate.base, is_relayed: candidate.kind == CandidateKind::Relayed };
        if !bases.contains(&base) {
            bases.push(base);
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
            (&["0.0.0.0/0"], "eth0", "2001:db8::1", false),
            (&["eth0"], "lo", "127.0.0.1", true),
            (&["!lo"], "lo", "::1", false),
            (&["!127.0.0.0/8"], "lo", "127.0.0.1", false),
        ] {
            assert_eq!(allows(rules, interface, address), expected, "{rules:?} {interface} {address}");
        }
        for bad in ["", "!", "10.0.0.0/33", "a b", "moon/8", "::/129"] {
            assert_eq!(NetworkFilter::default().add(bad), Err(NetworkFilterError), "{bad}");
        }
    }

    #[test]
    fn a_public_address_goes_before_the_private_ones_that_stay() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let address = |interface: &str, text| LocalAddress { interface: interface.to_owned(), ip: ip(text) };
        let addresses = [
            address("wlan0", "10.0.0.7"),
            address("eth0", "192.168.1.5"),
            address("eth0", "2001:db8::5"),
            address("lo", "127.0.0.1"),
        ];
        let hosts = |public: &[&str], rules: &[&str], towards: Option<&str>| {
            let mut networks = NetworkFilter::default();
            rules.iter().for_each(|rule| networks.add(rule).unwrap());
            let public_ips = public.iter().map(|public| ip(public)).collect();
            let config = ReachConfig { public_ips, networks, ..ReachConfig::default() };
            let hosts = config.hosts(&addresses, |_| towards.map(ip)).into_iter();
            hosts.map(|(told, base)| format!("{told} {base}")).collect::<Vec<_>>()
        };
        let own = ["10.0.0.7 10.0.0.7", "192.168.1.5 192.168.1.5", "2001:db8::5 2001:db8::5", "127.0.0.1 127.0.0.1"];
        assert_eq!(hosts(&[], &[], None), own);
        let with_public = hosts(&["203.0.113.9"], &[], Some("192.168.1.5"));
        assert_eq!(
            (with_public[0].as_str(), &with_public[1..]),
            ("203.0.113.9 192.168.1.5", &own.map(str::to_owned)[..])
        );
        // Without a route it is the first of its family.
        assert_eq!(hosts(&["203.0.113.9"], &["!10.0.0.0/8", "!eth0"], None), ["203.0.113.9 10.0.0.7", own[3]]);
        // One that this machine has itself stands for itself.
        assert_eq!(hosts(&["2001:db8::5"], &["lo"], Some("2001:db8::5")), [own[2], own[3]]);
    }

    #[test]
    fn tcp_is_told_of_at_each_address_where_it_is_taken() {
        let kinds = |tcp| {
            let reach = Reach::new(ReachConfig { port: 9, tcp, ..ReachConfig::default() });
            let candidates = reach.candidates("").0;
            let count = |kind| candidates.iter().filter(|candidate| candidate.kind == kind).count();
            (count(CandidateKind::Host), count(CandidateKind::TcpPassive))
        };
        let (hosts, none) = kinds(false);
        assert_eq!((kinds(true), none), ((hosts, hosts), 0));
    }
}
