//! Which connections may be open: a core that counts them and chooses the one that makes room.
//!
//! A place is never refused for connections that say nothing: when places are out, the connection that has waited longest for a request (then the
//! one longest at sending one) is closed in favour of the newcomer. At the limit of an address it is one of its own; at the limit of all, one
//! of the address that holds the most. Only where all are being answered is the newcomer refused.
//!
//! A member's hanging wait takes no place here: it hangs for hours, a class behind one NAT has one of each pupil, and there is one for a member
//! at most, so the room's limits bound them. It never touches a socket.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Instant;

use crate::signaling::access::Network;

/// How many connections may be open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// In all.
    pub total: usize,
    /// Of one IPv4 address or IPv6 /64.
    pub per_address: usize,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self { total: 2048, per_address: 1024 }
    }
}

/// Names a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(u64);

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// It has sent no (further) request.
    Silent,
    /// It is sending the body of one.
    Sending,
    /// Its request is being answered.
    Answered,
    /// It hangs until a member of the room gets a message.
    Waiting,
}

/// The decision about a newcomer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// There was a place.
    Admitted(ConnectionId),
    /// There is a place once `closed` is closed.
    InPlaceOf {
        /// The newcomer.
        admitted: ConnectionId,
        /// Who makes room; it is no longer counted.
        closed: ConnectionId,
    },
    /// All places are taken by connections that are being answered.
    Refused,
}

/// The open connections.
#[derive(Debug)]
pub struct Connections {
    limits: ConnectionLimits,
    open: HashMap<ConnectionId, Open>,
    next: u64,
}

#[derive(Debug)]
struct Open {
    from: Network,
    stage: Stage,
    since: Instant,
}

impl Connections {
    /// Starts with none open.
    pub fn new(limits: ConnectionLimits) -> Self {
        Self { limits, open: HashMap::new(), next: 0 }
    }

    /// Lets so many in from now on; those that are open stay.
    pub fn set_limits(&mut self, limits: ConnectionLimits) {
        self.limits = limits;
    }

    /// How many are open.
    pub fn count(&self) -> usize {
        self.open.len()
    }

    /// Decides about a newcomer from `from`.
    pub fn admit(&mut self, from: IpAddr, now: Instant) -> Admission {
        let from = Network::from(from);
        let mut placed = self.open.values().filter(|open| open.stage != Stage::Waiting);
        let all = placed.clone().count();
        let own = placed.by_ref().filter(|open| open.from == from).count();
        let closed = if own >= self.limits.per_address {
            self.spare(|open| open.from == from)
        } else if all >= self.limits.total {
            self.spare(|_| true)
        } else {
            return Admission::Admitted(self.insert(from, now));
        };
        match closed {
            None => Admission::Refused,
            Some(closed) => {
                self.open.remove(&closed);
                Admission::InPlaceOf { admitted: self.insert(from, now), closed }
            }
        }
    }

    /// Notes what a connection is doing now.
    pub fn enter(&mut self, id: ConnectionId, stage: Stage, now: Instant) {
        if let Some(open) = self.open.get_mut(&id) {
            open.stage = stage;
            open.since = now;
        }
    }

    /// Notes that a connection is closed.
    pub fn remove(&mut self, id: ConnectionId) {
        self.open.remove(&id);
    }

    fn insert(&mut self, from: Network, now: Instant) -> ConnectionId {
        let id = ConnectionId(self.next);
        self.next += 1;
        self.open.insert(id, Open { from, stage: Stage::Silent, since: now });
        id
    }

    /// Chooses who makes room: silent before sending, of the address that holds the most, the oldest.
    fn spare(&self, eligible: impl Fn(&Open) -> bool) -> Option<ConnectionId> {
        let mut held: HashMap<Network, usize> = HashMap::new();
        for open in self.open.values().filter(|open| open.stage != Stage::Waiting) {
            *held.entry(open.from).or_default() += 1;
        }
        self.open
            .iter()
            .filter(|(_, open)| open.stage < Stage::Answered && eligible(open))
            .min_by_key(|(id, open)| (open.stage, Reverse(held.get(&open.from).copied()), open.since, **id))
            .map(|(id, _)| *id)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    fn connections(total: usize, per_address: usize) -> Connections {
        Connections::new(ConnectionLimits { total, per_address })
    }

    fn admitted(admission: Admission) -> ConnectionId {
        match admission {
            Admission::Admitted(id) | Admission::InPlaceOf { admitted: id, .. } => id,
            Admission::Refused => panic!("refused"),
        }
    }

    #[test]
    fn the_longest_silent_of_an_address_makes_room_for_its_next() {
        let mut now = Instant::now();
        let mut table = connections(10, 2);
        let first = admitted(table.admit(address(1), now));
        now += Duration::from_secs(1);
        let second = admitted(table.admit(address(1), now));
        now += Duration::from_secs(1);
        table.enter(first, Stage::Answered, now);
        table.enter(first, Stage::Silent, now);
        let third = table.admit(address(1), now);
        assert!(matches!(third, Admission::InPlaceOf { closed, .. } if closed == second), "{third:?}");
        assert_eq!(table.count(), 2);
    }

    #[test]
    fn silent_ones_go_before_sending_ones_and_answered_ones_never() {
        let now = Instant::now();
        let mut table = connections(10, 2);
        let sending = admitted(table.admit(address(1), now));
        let silent = admitted(table.admit(address(1), now + Duration::from_secs(1)));
        table.enter(sending, Stage::Sending, now);
        let third = table.admit(address(1), now + Duration::from_secs(2));
        assert!(matches!(third, Admission::InPlaceOf { closed, .. } if closed == silent));
        table.enter(admitted(third), Stage::Answered, now);
        let fourth = table.admit(address(1), now + Duration::from_secs(3));
        assert!(matches!(fourth, Admission::InPlaceOf { closed, .. } if closed == sending));
        table.enter(admitted(fourth), Stage::Answered, now);
        assert_eq!(table.admit(address(1), now), Admission::Refused);
        assert!(matches!(table.admit(address(2), now), Admission::Admitted(_)), "another address is not concerned");
    }

    #[test]
    fn hanging_waits_take_no_place_and_are_never_closed() {
        let now = Instant::now();
        let mut table = connections(4, 2);
        for _ in 0..100 {
            let waiting = admitted(table.admit(address(1), now));
            table.enter(waiting, Stage::Waiting, now);
        }
        assert_eq!(table.count(), 100);
        let silent = admitted(table.admit(address(1), now));
        assert!(matches!(table.admit(address(1), now), Admission::Admitted(_)));
        assert!(matches!(table.admit(address(1), now), Admission::InPlaceOf { closed, .. } if closed == silent));
    }

    #[test]
    fn when_all_places_are_out_the_address_with_most_gives_one_up() {
        let now = Instant::now();
        let mut table = connections(4, 3);
        let lone = admitted(table.admit(address(1), now));
        let greedy: Vec<_> = (1..=3).map(|n| admitted(table.admit(address(2), now + Duration::from_secs(n)))).collect();
        let newcomer = table.admit(address(3), now + Duration::from_secs(9));
        assert!(matches!(newcomer, Admission::InPlaceOf { closed, .. } if closed == greedy[0]));
        table.remove(lone);
        assert!(matches!(table.admit(address(4), now), Admission::Admitted(_)));
    }
}
