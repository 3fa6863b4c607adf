//! Which of the machine's networks are there: a pure core that compares the addresses of one look with those of the last.
//!
//! An interface that loses one address of several is no news: IPv6 has addresses that change by the day.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::udp::LocalAddress;

/// Something that has changed; each has the interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// It has no address any more.
    Lost(String),
    /// What was lost is there again with an address that it had.
    Back(String),
    /// None of its addresses is one that it had.
    Other(String),
    /// It has addresses for the first time.
    Came(String),
}

/// The networks of the last look.
#[derive(Debug, Default)]
pub struct Networks(BTreeMap<String, Known>);

#[derive(Debug, Default)]
struct Known {
    /// The last ones that there were.
    addresses: BTreeSet<IpAddr>,
    lost: bool,
}

/// Interfaces that are remembered: containers come and go under new names without end.
const MOST: usize = 256;

impl Networks {
    /// Begins with what there is.
    pub fn new(addresses: &[LocalAddress]) -> Self {
        let mut networks = Self::default();
        drop(networks.handle_addresses(addresses));
        networks
    }

    /// Takes a look; gives what has changed.
    pub fn handle_addresses(&mut self, addresses: &[LocalAddress]) -> Vec<News> {
        let mut now: BTreeMap<String, BTreeSet<IpAddr>> = BTreeMap::new();
        for LocalAddress { interface, ip } in addresses {
            now.entry(interface.clone()).or_default().insert(*ip);
        }
        let mut news = Vec::new();
        for (interface, known) in &mut self.0 {
            match now.remove(interface) {
                None if known.lost => {}
                None => {
                    known.lost = true;
                    news.push(News::Lost(interface.clone()));
                }
                Some(found) => {
                    if found.is_disjoint(&known.addresses) {
                        news.push(News::Other(interface.clone()));
                    } else if known.lost {
                        news.push(News::Back(interface.clone()));
                    }
                    *known = Known { addresses: found, lost: false };
                }
            }
        }
        if self.0.len() + now.len() > MOST {
            self.0.retain(|_, known| !known.lost);
        }
        for (interface, addresses) in now {
            news.push(News::Came(interface.clone()));
            self.0.insert(interface, Known { addresses, lost: false });
        }
        news
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn addresses(all: &[(&str, &str)]) -> Vec<LocalAddress> {
        let address = |(interface, ip): &(&str, &str)| LocalAddress {
            interface: (*interface).to_owned(),
            ip: ip.parse().unwrap(),
        };
        all.iter().map(address).collect()
    }

    #[test]
    fn what_is_lost_comes_back_or_changes_is_told_once() {
        let (lan, other) = (("eth0", "10.1.1.2"), ("eth0", "10.1.1.9"));
        let (global, passing) = (("eth0", "2001:db8::1"), ("eth0", "2001:db8::abcd"));
        let mut networks = Networks::new(&addresses(&[lan, global]));
        let mut look = |all: &[(&str, &str)]| networks.handle_addresses(&addresses(all));
        let eth0 = || "eth0".to_owned();
        assert_eq!(look(&[lan, global]), []);
        assert_eq!(look(&[lan, global, passing]), [], "a further address of the same network");
        assert_eq!(look(&[lan]), []);
        assert_eq!(look(&[]), [News::Lost(eth0())]);
        assert_eq!(look(&[]), []);
        assert_eq!(look(&[lan]), [News::Back(eth0())]);
        assert_eq!(look(&[other]), [News::Other(eth0())]);
        assert_eq!(look(&[]), [News::Lost(eth0())]);
        assert_eq!(look(&[lan]), [News::Other(eth0())]);
        assert_eq!(look(&[lan, ("wlan0", "10.2.2.2")]), [News::Came("wlan0".to_owned())]);
    }

    #[test]
    fn interfaces_without_end_are_not_remembered_without_end() {
        let mut networks = Networks::default();
        for number in 0..2000 {
            let name = format!("veth{number}");
            networks.handle_addresses(&addresses(&[(&name, "10.0.0.1")]));
            networks.handle_addresses(&[]);
            assert!(networks.0.len() <= MOST);
        }
    }
}
