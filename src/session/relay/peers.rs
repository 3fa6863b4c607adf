//! Whom a relay may carry packets of, and by which channels (RFC 8656, sections 9, 10 and 12): the tables, all bounded, without the requests that fill them.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

/// A permission lasts five minutes.
const PERMISSION: Duration = Duration::from_secs(4 * 60);
/// A channel lasts ten minutes.
const CHANNEL: Duration = Duration::from_secs(9 * 60);
/// From the last time that it was bound on, a channel's number and peer stay together: its life, and five minutes more.
const RESERVED: Duration = Duration::from_secs(16 * 60);
/// How long what was refused is not asked again.
const REFUSED: Duration = Duration::from_secs(60);
/// The numbers of channels.
const NUMBERS: RangeInclusive<u16> = 0x4000..=0x4fff;
/// Addresses that may have permissions: those of the candidates of all viewers that are connecting.
const MOST_PERMISSIONS: usize = 2048;
/// A permission that was not used for so long gives way to another.
const IDLE: Duration = Duration::from_secs(30);

/// What is to be asked of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// A permission.
    Permission(IpAddr),
    /// A channel of this number.
    Channel(SocketAddr, u16),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The server is asked for it, and had not granted it before.
    Asked,
    /// It is there, and renewed at this time where it was used.
    Granted(Instant),
    /// The server is asked to renew it.
    Renewing,
    /// The server does not grant it; it may be asked again at this time.
    Refused(Instant),
    /// A channel that nobody used, until its number is free.
    Resting(Instant),
}

#[derive(Debug)]
struct Entry {
    state: State,
    used: Instant,
}

#[derive(Debug)]
struct Channel {
    number: u16,
    entry: Entry,
}

/// How a packet may be sent to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carriage {
    /// By a channel.
    Channel(u16),
    /// In an indication; the wish is to be asked for first, where there is one.
    Indication(Option<Wish>),
    /// Not at all: the server forbids it, or there are too many.
    Forbidden,
}

/// The tables of one allocation.
#[derive(Debug)]
pub struct Peers {
    permissions: HashMap<IpAddr, Entry>,
    channels: HashMap<SocketAddr, Channel>,
    numbers: HashMap<u16, SocketAddr>,
    next_number: u16,
}

impl Default for Peers {
    fn default() -> Self {
        let next_number = *NUMBERS.start();
        Self { permissions: HashMap::new(), channels: HashMap::new(), numbers: HashMap::new(), next_number }
    }
}

impl Peers {
    /// How a packet goes to a peer.
    pub fn carriage(&mut self, now: Instant, peer: SocketAddr) -> Carriage {
        if let Some(channel) = self.channels.get_mut(&peer) {
            channel.entry.used = now;
            if matches!(channel.entry.state, State::Granted(_) | State::Renewing) {
                return Carriage::Channel(channel.number);
            }
        }
        let ip = peer.ip();
        if !self.permissions.contains_key(&ip) && self.permissions.len() >= MOST_PERMISSIONS && !self.make_room(now) {
            return Carriage::Forbidden;
        }
        match self.permissions.get_mut(&ip) {
            Some(entry) if matches!(entry.state, State::Refused(until) if now < until) => Carriage::Forbidden,
            Some(entry) => {
                entry.used = now;
                let asks = matches!(entry.state, State::Refused(_));
                entry.state = if asks { State::Asked } else { entry.state };
                Carriage::Indication(asks.then_some(Wish::Permission(ip)))
            }
            None => {
                self.permissions.insert(ip, Entry { state: State::Asked, used: now });
                Carriage::Indication(Some(Wish::Permission(ip)))
            }
        }
    }

    /// Wants a channel to a peer that gets more than checks; what is to be asked for, where something is.
    pub fn want_channel(&mut self, now: Instant, peer: SocketAddr) -> Option<Wish> {
        if let Some(channel) = self.channels.get_mut(&peer) {
            channel.entry.used = now;
            let asks = match channel.entry.state {
                State::Resting(_) => true,
                State::Refused(until) => now >= until,
                State::Asked | State::Granted(_) | State::Renewing => false,
            };
            return asks.then(|| {
                channel.entry.state = State::Asked;
                Wish::Channel(peer, channel.number)
            });
        }
        let number = self.free_number()?;
        self.channels.insert(peer, Channel { number, entry: Entry { state: State::Asked, used: now } });
        self.numbers.insert(number, peer);
        Some(Wish::Channel(peer, number))
    }

    /// Whose channel a number is; noted as a use of it.
    pub fn peer_of(&mut self, now: Instant, number: u16) -> Option<SocketAddr> {
        let peer = *self.numbers.get(&number)?;
        self.channels.get_mut(&peer)?.entry.used = now;
        Some(peer)
    }

    /// Notes that the server granted something.
    pub fn handle_granted(&mut self, now: Instant, wish: Wish) {
        match wish {
            Wish::Permission(ip) => {
                if let Some(entry) = self.permissions.get_mut(&ip) {
                    entry.state = State::Granted(now + PERMISSION);
                }
            }
            Wish::Channel(peer, _) => {
                if let Some(channel) = self.channels.get_mut(&peer) {
                    channel.entry.state = State::Granted(now + CHANNEL);
                }
            }
        }
    }

    /// Notes that the server refused something.
    pub fn handle_refused(&mut self, now: Instant, wish: Wish) {
        if let Some(entry) = self.entry(wish) {
            entry.state = State::Refused(now + REFUSED);
        }
    }

    /// Notes that the server did not answer, or could not be asked: the next packet has it asked again.
    pub fn handle_unanswered(&mut self, now: Instant, wish: Wish) {
        if let Some(entry) = self.entry(wish) {
            entry.state = State::Refused(now);
        }
    }

    /// Renews what is used and forgets what is not; gives what is to be asked for.
    pub fn handle_timeout(&mut self, now: Instant) -> Vec<Wish> {
        let mut wishes = Vec::new();
        self.channels.retain(|peer, Channel { number, entry }| {
            match entry.state {
                State::Granted(due) if now >= due && entry.used + CHANNEL > now => {
                    entry.state = State::Renewing;
                    wishes.push(Wish::Channel(*peer, *number));
                }
                State::Granted(due) if now >= due => entry.state = State::Resting(now + (RESERVED - CHANNEL)),
                // It may have been bound for all that is known.
                State::Refused(until) if now >= until.max(entry.used + IDLE) => {
                    entry.state = State::Resting(now + RESERVED)
                }
                _ => {}
            }
            let keeps = !matches!(entry.state, State::Resting(until) if now >= until);
            if !keeps {
                self.numbers.remove(number);
            }
            keeps
        });
        let mut used_by_channel: HashMap<IpAddr, Instant> = HashMap::new();
        for (peer, channel) in &self.channels {
            let used = used_by_channel.entry(peer.ip()).or_insert(channel.entry.used);
            *used = channel.entry.used.max(*used);
        }
        self.permissions.retain(|ip, entry| match entry.state {
            State::Granted(due) if now >= due => {
                let since = due - PERMISSION;
                let used = entry.used > since || used_by_channel.get(ip).is_some_and(|used| *used > since);
                if used {
                    entry.state = State::Renewing;
                    wishes.push(Wish::Permission(*ip));
                }
                used
            }
            State::Refused(until) => now < until || entry.used + IDLE > now,
            _ => true,
        });
        wishes
    }

    /// When [`Self::handle_timeout`] wants to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let entries = self.channels.values().map(|channel| &channel.entry).chain(self.permissions.values());
        entries
            .filter_map(|entry| match entry.state {
                State::Granted(due) | State::Resting(due) => Some(due),
                // Nothing is done then but to forget it.
                State::Refused(until) => Some(until.max(entry.used + IDLE)),
                State::Asked | State::Renewing => None,
            })
            .min()
    }

    fn entry(&mut self, wish: Wish) -> Option<&mut Entry> {
        match wish {
            Wish::Permission(ip) => self.permissions.get_mut(&ip),
            Wish::Channel(peer, _) => self.channels.get_mut(&peer).map(|channel| &mut channel.entry),
        }
    }

    /// Forgets the permission that was not used for longest.
    fn make_room(&mut self, now: Instant) -> bool {
        let oldest = self.permissions.iter().min_by_key(|(_, entry)| entry.used);
        let oldest = oldest.filter(|(_, entry)| entry.used + IDLE <= now).map(|(ip, _)| *ip);
        oldest.is_some_and(|ip| self.permissions.remove(&ip).is_some())
    }

    fn free_number(&mut self) -> Option<u16> {
        for _ in NUMBERS {
            let number = self.next_number;
            self.next_number = if number == *NUMBERS.end() { *NUMBERS.start() } else { number + 1 };
            if !self.numbers.contains_key(&number) {
                return Some(number);
            }
        }
        None
    }

    #[cfg(test)]
    pub fn verify_invariants(&self) {
        assert!(self.permissions.len() <= MOST_PERMISSIONS);
        assert_eq!(self.numbers.len(), self.channels.len());
        for (peer, channel) in &self.channels {
            assert!(NUMBERS.contains(&channel.number));
            assert_eq!(self.numbers.get(&channel.number), Some(peer));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn peer(number: u32) -> SocketAddr {
        SocketAddr::new(IpAddr::from(std::net::Ipv4Addr::from_bits(0x0a00_0000 + number)), 9)
    }

    #[test]
    fn a_peer_in_use_keeps_permission_and_channel_and_an_idle_one_loses_both() {
        let (mut peers, start) = (Peers::default(), Instant::now());
        for number in [1, 2] {
            let wish = Wish::Permission(peer(number).ip());
            assert_eq!(peers.carriage(start, peer(number)), Carriage::Indication(Some(wish)));
            assert_eq!(peers.carriage(start, peer(number)), Carriage::Indication(None), "asked for once");
            peers.handle_granted(start, wish);
            let wish = peers.want_channel(start, peer(number)).unwrap();
            assert_eq!(peers.want_channel(start, peer(number)), None);
            peers.handle_granted(start, wish);
        }
        assert_eq!(peers.carriage(start, peer(2)), Carriage::Channel(0x4001));
        let (mut now, mut renewed) = (start, Vec::new());
        while now < start + Duration::from_secs(40 * 60) {
            now += Duration::from_secs(10);
            assert_eq!(peers.carriage(now, peer(1)), Carriage::Channel(0x4000));
            for wish in peers.handle_timeout(now) {
                peers.handle_granted(now, wish);
                renewed.push(wish);
            }
            peers.verify_invariants();
        }
        let count = |wish| renewed.iter().filter(|renewed| **renewed == wish).count();
        assert_eq!(count(Wish::Permission(peer(1).ip())), 10, "each four minutes: {renewed:?}");
        assert_eq!(count(Wish::Channel(peer(1), 0x4000)), 4, "each nine minutes");
        assert!(
            count(Wish::Permission(peer(2).ip())) <= 1 && peers.channels.len() == 1 && peers.permissions.len() == 1
        );
    }

    #[test]
    fn what_is_refused_is_not_asked_for_again_at_once() {
        let (mut peers, now) = (Peers::default(), Instant::now());
        let wish = Wish::Permission(peer(1).ip());
        peers.carriage(now, peer(1));
        peers.handle_refused(now, wish);
        assert_eq!(peers.carriage(now + REFUSED / 2, peer(1)), Carriage::Forbidden);
        assert_eq!(peers.carriage(now + REFUSED, peer(1)), Carriage::Indication(Some(wish)));
        peers.handle_unanswered(now + REFUSED, wish);
        assert_eq!(peers.carriage(now + REFUSED, peer(1)), Carriage::Indication(Some(wish)));
    }

    #[test]
    fn the_tables_are_bounded_and_numbers_never_change_hands_early() {
        let (mut peers, now) = (Peers::default(), Instant::now());
        for number in 0..10_000 {
            peers.carriage(now, peer(number));
            if let Some(wish) = peers.want_channel(now, peer(number)) {
                peers.handle_granted(now, wish);
            }
        }
        peers.verify_invariants();
        assert_eq!(peers.channels.len(), NUMBERS.count());
        assert_eq!(peers.carriage(now, peer(10_001)), Carriage::Forbidden, "those in use stay");
        let later = now + IDLE;
        assert!(matches!(peers.carriage(later, peer(10_001)), Carriage::Indication(Some(_))));
        assert_eq!(peers.want_channel(later, peer(10_001)), None, "all numbers are taken");
        peers.handle_timeout(now + CHANNEL + IDLE);
        assert_eq!(peers.want_channel(now + CHANNEL + IDLE, peer(10_001)), None, "they rest");
        assert_eq!(
            peers.want_channel(now + CHANNEL + IDLE, peer(7)),
            Some(Wish::Channel(peer(7), 0x4007)),
            "who comes back has the same one"
        );
        peers.handle_timeout(now + RESERVED + IDLE);
        assert!(peers.want_channel(now + RESERVED + IDLE, peer(10_001)).is_some());
    }
}
