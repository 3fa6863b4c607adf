//! The broadcast: all sessions and what they want.
//!
//! A pure core: it admits, counts and names viewers, knows which thread has a session, and says when pictures are wanted at all
//! (rule 1: a rung is encoded only while somebody watches).

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::viewer::EndReason;
use crate::id::SessionId;
use crate::signaling::{Refusal, Trickle};

/// Who has a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The join thread: its handshake runs.
    Joining,
    /// The media thread: it is connected.
    Live,
}

#[derive(Debug)]
struct Entry {
    number: u32,
    place: Place,
    since: Instant,
    /// The viewer's `ice-ufrag`.
    ufrag: String,
}

/// Pictures are made for an offer, so that the first is there when the viewer is; for one that does not connect, no longer than this.
const HEAD_START: Duration = Duration::from_secs(3);
/// A session that has not connected for so long gives way to a new one when all places are taken.
const MOST_PATIENCE: Duration = Duration::from_secs(2);

/// What the broadcast wants done or known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Pictures are wanted, or no longer.
    Demand(bool),
    /// A viewer is connected.
    Came {
        /// Its number.
        number: u32,
        /// From its offer to the connection.
        took: Duration,
        /// Viewers connected now.
        watching: usize,
    },
    /// A viewer that was connected is gone.
    Left {
        /// Its number.
        number: u32,
        /// Why.
        why: EndReason,
        /// How long it was connected.
        after: Duration,
        /// Viewers connected now.
        watching: usize,
    },
    /// An offer was answered, but no connection came of it.
    Failed {
        /// Its number.
        number: u32,
        /// Why.
        why: EndReason,
    },
}

/// All sessions.
#[derive(Debug)]
pub struct Broadcast {
    limit: usize,
    closing: bool,
    /// What was last said of demand.
    wanted: bool,
    entries: HashMap<SessionId, Entry>,
    numbers: u32,
    outputs: VecDeque<Output>,
}

impl Broadcast {
    /// Makes a broadcast of at most `limit` sessions.
    pub fn new(limit: usize) -> Self {
        Self { limit, closing: false, wanted: false, entries: HashMap::new(), numbers: 0, outputs: VecDeque::new() }
    }

    /// Takes an offer of a viewer whose `ice-ufrag` is `ufrag`: admits it, under a number for the log, or refuses.
    ///
    /// # Errors
    /// Where all places are taken or the daemon is ending.
    pub fn handle_offer(&mut self, now: Instant, session: SessionId, ufrag: &str) -> Result<u32, Refusal> {
        if self.closing {
            return Err(Refusal::Closing);
        }
        if self.entries.len() >= self.limit {
            return Err(Refusal::Full { limit: self.limit });
        }
        self.numbers += 1;
        let entry = Entry { number: self.numbers, place: Place::Joining, since: now, ufrag: ufrag.to_owned() };
        self.entries.insert(session, entry);
        self.update_demand(now);
        Ok(self.numbers)
    }

    /// Takes word that an admitted offer could not be answered.
    pub fn handle_unanswered(&mut self, now: Instant, session: SessionId) {
        self.remove(now, session);
    }

    /// The session that gives way to a new one where all places are taken: the oldest that has not connected for a while.
    pub fn gives_way(&self, now: Instant) -> Option<SessionId> {
        let joining = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.place == Place::Joining && now >= entry.since + MOST_PATIENCE);
        joining
            .filter(|_| self.entries.len() >= self.limit)
            .min_by_key(|(_, entry)| entry.since)
            .map(|(session, _)| *session)
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.update_demand(now);
    }

    /// When [`Broadcast::handle_timeout`] wants to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let live = self.entries.values().any(|entry| entry.place == Place::Live);
        let last = self.entries.values().map(|entry| entry.since + HEAD_START).max();
        last.filter(|_| self.wanted && !live)
    }

    fn update_demand(&mut self, now: Instant) {
        let wanted = self.entries.values().any(|entry| entry.place == Place::Live || now < entry.since + HEAD_START);
        if wanted != self.wanted {
            self.wanted = wanted;
            self.outputs.push_back(Output::Demand(wanted));
        }
    }

    /// Takes word that a session is connected.
    pub fn handle_connected(&mut self, now: Instant, session: SessionId) {
        let watching = self.watching() + 1;
        if let Some(entry) = self.entries.get_mut(&session).filter(|entry| entry.place == Place::Joining) {
            let took = now.saturating_duration_since(entry.since);
            entry.place = Place::Live;
            entry.since = now;
            self.outputs.push_back(Output::Came { number: entry.number, took, watching });
            self.update_demand(now);
        }
    }

    /// Takes word that a session is over; a second word about one is passed over.
    pub fn handle_ended(&mut self, now: Instant, session: SessionId, why: EndReason) {
        let Some(entry) = self.remove(now, session) else { return };
        self.outputs.push_back(match entry.place {
            Place::Joining => Output::Failed { number: entry.number, why },
            Place::Live => Output::Left {
                number: entry.number,
                why,
                after: now.saturating_duration_since(entry.since),
                watching: self.watching(),
            },
        });
    }

    /// Takes no more offers.
    pub fn handle_shutdown(&mut self) {
        self.closing = true;
    }

    /// Takes a fragment of trickled ICE: tells who has its session.
    ///
    /// # Errors
    /// Where there is no such session, or the fragment is of another ICE generation (a restart, which is not done yet).
    pub fn handle_trickle(&self, session: SessionId, trickle: &Trickle) -> Result<Place, Refusal> {
        let entry = self.entries.get(&session).ok_or(Refusal::UnknownSession)?;
        match &trickle.ufrag {
            Some(ufrag) if *ufrag != entry.ufrag => Err(Refusal::Conflict(
                "the fragment's ice-ufrag is not that of this session's offer; make a new session".to_owned(),
            )),
            _ => Ok(entry.place),
        }
    }

    /// Whether there is no session at all.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Who has a session; `None` for one that is not.
    pub fn place(&self, session: SessionId) -> Option<Place> {
        self.entries.get(&session).map(|entry| entry.place)
    }

    /// Viewers connected now.
    pub fn watching(&self) -> usize {
        self.entries.values().filter(|entry| entry.place == Place::Live).count()
    }

    /// The next thing to do or to know.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn remove(&mut self, now: Instant, session: SessionId) -> Option<Entry> {
        let entry = self.entries.remove(&session)?;
        self.update_demand(now);
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn id(n: u8) -> SessionId {
        SessionId::from_bytes([n; 16])
    }

    #[test]
    fn pictures_are_wanted_from_the_first_offer_to_the_last_leaving() {
        let now = Instant::now();
        let mut broadcast = Broadcast::new(2);
        assert_eq!(broadcast.handle_offer(now, id(1), "ufrag"), Ok(1));
        assert_eq!(broadcast.handle_offer(now, id(2), "ufrag"), Ok(2));
        assert_eq!(broadcast.handle_offer(now, id(3), "ufrag"), Err(Refusal::Full { limit: 2 }));
        broadcast.handle_connected(now, id(1));
        broadcast.handle_ended(now, id(2), EndReason::Left);
        broadcast.handle_ended(now, id(1), EndReason::Left);
        broadcast.handle_ended(now, id(1), EndReason::Left);
        let outputs: Vec<_> = std::iter::from_fn(|| broadcast.poll_output()).collect();
        let zero = Duration::ZERO;
        assert_eq!(
            outputs,
            [
                Output::Demand(true),
                Output::Came { number: 1, took: zero, watching: 1 },
                Output::Failed { number: 2, why: EndReason::Left },
                Output::Demand(false),
                Output::Left { number: 1, why: EndReason::Left, after: zero, watching: 0 },
            ]
        );
        broadcast.handle_shutdown();
        assert_eq!(broadcast.handle_offer(now, id(4), "ufrag"), Err(Refusal::Closing));
    }

    #[test]
    fn fragments_of_another_generation_are_refused() {
        let now = Instant::now();
        let mut broadcast = Broadcast::new(2);
        assert_eq!(broadcast.handle_offer(now, id(1), "abcd"), Ok(1));
        let trickle =
            |ufrag: Option<&str>| Trickle { ufrag: ufrag.map(str::to_owned), end: true, ..Trickle::default() };
        for ufrag in [None, Some("abcd")] {
            assert_eq!(broadcast.handle_trickle(id(1), &trickle(ufrag)), Ok(Place::Joining));
        }
        assert!(matches!(broadcast.handle_trickle(id(1), &trickle(Some("efgh"))), Err(Refusal::Conflict(_))));
        assert_eq!(broadcast.handle_trickle(id(2), &trickle(None)), Err(Refusal::UnknownSession));
    }

    #[test]
    fn an_offer_that_does_not_connect_has_a_head_start_and_gives_way() {
        let now = Instant::now();
        let mut broadcast = Broadcast::new(1);
        assert_eq!(broadcast.handle_offer(now, id(1), "ufrag"), Ok(1));
        assert_eq!((broadcast.gives_way(now), broadcast.poll_timeout()), (None, Some(now + HEAD_START)));
        assert_eq!(broadcast.gives_way(now + MOST_PATIENCE), Some(id(1)));
        broadcast.handle_timeout(now + HEAD_START);
        assert_eq!(broadcast.poll_timeout(), None);
        broadcast.handle_connected(now + HEAD_START * 2, id(1));
        assert_eq!((broadcast.gives_way(now + HEAD_START * 3), broadcast.poll_timeout()), (None, None));
        let demands = std::iter::from_fn(|| broadcast.poll_output()).filter_map(|output| match output {
            Output::Demand(wanted) => Some(wanted),
            _ => None,
        });
        assert_eq!(demands.collect::<Vec<_>>(), [true, false, true]);
    }

    /// Random operations: demand alternates and is true exactly while there is a session; nobody leaves who didn't come.
    #[test]
    fn random_operations_keep_the_invariants() {
        let now = Instant::now();
        let mut broadcast = Broadcast::new(5);
        let (mut state, mut demand, mut watching) = (7u64, false, 0usize);
        for _ in 0..20_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let session = id((state >> 40) as u8 % 8);
            match (state >> 60) % 4 {
                0 if broadcast.place(session).is_none() => drop(broadcast.handle_offer(now, session, "ufrag")),
                1 => broadcast.handle_connected(now, session),
                2 => broadcast.handle_ended(now, session, EndReason::Left),
                _ => {
                    if broadcast.place(session) == Some(Place::Joining) {
                        broadcast.handle_unanswered(now, session);
                    }
                }
            }
            while let Some(output) = broadcast.poll_output() {
                match output {
                    Output::Demand(wanted) => {
                        assert_ne!(wanted, demand);
                        demand = wanted;
                    }
                    Output::Came { watching: now, .. } => {
                        watching += 1;
                        assert_eq!(now, watching);
                    }
                    Output::Left { watching: now, .. } => {
                        watching -= 1;
                        assert_eq!(now, watching);
                    }
                    Output::Failed { .. } => {}
                }
            }
            assert_eq!(demand, !broadcast.entries.is_empty(), "no time passes");
            assert!(broadcast.entries.len() <= 5);
        }
    }
}
