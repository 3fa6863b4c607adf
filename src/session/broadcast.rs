//! The broadcast: all sessions and what they want.
//!
//! A pure core: it admits, counts and names viewers, knows which thread has a session, and says when pictures are wanted at all
//! (rule 1: a rung is encoded only while somebody watches).

use std::cmp::Reverse;
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::viewer::EndReason;
use crate::encoder::Codec;
use crate::id::SessionId;
use crate::signaling::access::PassId;
use crate::signaling::{Caller, Refusal, Trickle};

#[cfg(test)]
mod tests;

/// Who has a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The join thread: its handshake runs.
    Joining,
    /// The media thread: it is connected.
    Live,
}

/// Whoever asks for a place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Newcomer {
    /// Who it is.
    pub caller: Caller,
    /// The viewer's `ice-ufrag`s, one for each transport; none where the daemon offers.
    pub ufrags: Vec<String>,
    /// What it takes.
    pub codecs: Vec<Codec>,
    /// The session of the same viewer that ends once this one connects.
    pub replaces: Option<SessionId>,
}

#[derive(Debug)]
struct Entry {
    number: u32,
    place: Place,
    since: Instant,
    newcomer: Newcomer,
    /// The session that this one is the second transport of: it takes no place and is not spoken of.
    second_of: Option<SessionId>,
    /// Whether its viewer has said goodbye already.
    is_leaving: bool,
}

/// Pictures are made for an offer, so that the first is there when the viewer is; for one that does not connect, no longer than this.
const HEAD_START: Duration = Duration::from_secs(3);
/// A session that has not connected for so long gives way to a new one when all places are taken.
const MOST_PATIENCE: Duration = Duration::from_secs(2);

/// So many of those that the operator ended last are known, so that they are told why.
const MOST_KICKED: usize = 64;

/// What the broadcast wants done or known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Units of this codec are wanted, or no longer.
    Demand {
        /// The codec.
        codec: Codec,
        /// Whether they are.
        wanted: bool,
    },
    /// A session is to end.
    End {
        /// The session.
        session: SessionId,
        /// Why.
        why: EndReason,
    },
    /// A viewer is connected.
    Came {
        /// Its number.
        number: u32,
        /// Who it is.
        who: Caller,
        /// From its offer to the connection.
        took: Duration,
        /// Viewers connected now.
        watching: usize,
    },
    /// A viewer that was connected is gone.
    Left {
        /// Its number.
        number: u32,
        /// Who it was.
        who: Caller,
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
        /// Who it was.
        who: Caller,
        /// Why.
        why: EndReason,
    },
}

/// What the operator is told of all sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BroadcastState {
    /// The codecs whose units are being made.
    pub wanted: Vec<Codec>,
    /// Viewers, by their numbers.
    pub viewers: Vec<ViewerState>,
}

/// A viewer as the operator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewerState {
    /// Its number.
    pub number: u32,
    /// Its session.
    pub session: SessionId,
    /// Who it is.
    pub caller: Caller,
    /// How far it is.
    pub place: Place,
    /// Since when it is so far.
    pub since: Instant,
    /// What it takes.
    pub codecs: Vec<Codec>,
    /// How its packets fare; `None` where that is not known.
    pub link: Option<LinkState>,
    /// The way that its packets go; `None` while it has none.
    pub way: Option<Way>,
}

/// The way that a viewer's packets go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Datagrams, by no relay of the daemon's.
    Udp,
    /// A connection.
    Tcp,
    /// A TURN server of the daemon's.
    Relayed,
}

/// How a viewer's packets fare, by its own reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkState {
    /// The round trip time.
    pub round_trip: Duration,
    /// Of 256 packets of pictures so many were lost, as its last report says (RFC 3550, section 6.4.1).
    pub fraction_lost: u8,
}

/// All sessions.
#[derive(Debug)]
pub struct Broadcast {
    limit: usize,
    closing: bool,
    /// What was last said of demand.
    wanted: Vec<Codec>,
    entries: HashMap<SessionId, Entry>,
    numbers: u32,
    kicked: VecDeque<SessionId>,
    outputs: VecDeque<Output>,
}

impl Broadcast {
    /// Makes a broadcast of at most `limit` sessions.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            closing: false,
            wanted: Vec::new(),
            entries: HashMap::new(),
            numbers: 0,
            kicked: VecDeque::new(),
            outputs: VecDeque::new(),
        }
    }

    /// Takes an offer, or the wish for one: admits it, under a number for the log, or refuses.
    ///
    /// # Errors
    /// Where all places are taken or the daemon is ending.
    pub fn handle_offer(&mut self, now: Instant, session: SessionId, mut newcomer: Newcomer) -> Result<u32, Refusal> {
        if self.closing {
            return Err(Refusal::Closing);
        }
        if self.is_full(&newcomer) {
            return Err(Refusal::Full { limit: self.limit });
        }
        // One that has not connected is given up at once, and the newcomer replaces what that was to replace: nobody holds more than two places.
        let joining = newcomer.replaces.and_then(|old| Some((old, self.entries.get(&old)?)));
        if let Some((old, entry)) = joining.filter(|(_, entry)| entry.place == Place::Joining) {
            newcomer.replaces = entry.newcomer.replaces;
            self.outputs.push_back(Output::End { session: old, why: EndReason::Replaced });
        }
        self.numbers += 1;
        let number = self.numbers;
        self.entries.insert(
            session,
            Entry { number, place: Place::Joining, since: now, newcomer, second_of: None, is_leaving: false },
        );
        self.update_demand(now);
        Ok(number)
    }

    /// Takes the second transport of an admitted session: it ends with it.
    pub fn handle_second(&mut self, now: Instant, second: SessionId, of: SessionId, newcomer: Newcomer) {
        let Some(number) = self.entries.get(&of).map(|entry| entry.number) else { return };
        let entry =
            Entry { number, place: Place::Joining, since: now, newcomer, second_of: Some(of), is_leaving: false };
        self.entries.insert(second, entry);
        self.update_demand(now);
    }

    /// Takes what was agreed with a session anew.
    pub fn handle_change(&mut self, now: Instant, session: SessionId, ufrags: Vec<String>, codecs: Vec<Codec>) {
        if let Some(entry) = self.entries.get_mut(&session) {
            (entry.newcomer.ufrags, entry.newcomer.codecs) = (ufrags, codecs);
            self.update_demand(now);
        }
    }

    /// Whether units of a codec are being made.
    pub fn wants(&self, codec: Codec) -> bool {
        self.wanted.contains(&codec)
    }

    /// Takes word that an admitted offer could not be answered.
    pub fn handle_unanswered(&mut self, now: Instant, session: SessionId) {
        self.remove(now, session, &EndReason::Left);
    }

    /// The session that gives way to a new one where all places are taken: the oldest that has not connected for a while, of where the most are
    /// joining, so that nobody who floods one server takes the places of others.
    pub fn gives_way(&self, now: Instant, newcomer: &Newcomer) -> Option<SessionId> {
        if !self.is_full(newcomer) {
            return None;
        }
        let joining =
            || self.entries.iter().filter(|(_, entry)| entry.place == Place::Joining && entry.second_of.is_none());
        let mut held: HashMap<&str, usize> = HashMap::new();
        joining().for_each(|(_, entry)| *held.entry(&entry.newcomer.caller.at).or_default() += 1);
        let patient = joining().filter(|(_, entry)| now >= entry.since + MOST_PATIENCE);
        let of = |entry: &Entry| (Reverse(held.get(&*entry.newcomer.caller.at).copied()), entry.since);
        patient.min_by_key(|(_, entry)| of(entry)).map(|(session, _)| *session)
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.update_demand(now);
    }

    /// When [`Broadcast::handle_timeout`] wants to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let ends = self.wanted.iter().filter_map(|codec| {
            let takers = || self.entries.values().filter(|entry| entry.newcomer.codecs.contains(codec));
            let live = takers().any(|entry| entry.place == Place::Live);
            takers().map(|entry| entry.since + HEAD_START).max().filter(|_| !live)
        });
        ends.min()
    }

    fn update_demand(&mut self, now: Instant) {
        for codec in [Codec::H264, Codec::Vp8, Codec::Opus] {
            let wanted = self.entries.values().any(|entry| {
                entry.newcomer.codecs.contains(&codec) && (entry.place == Place::Live || now < entry.since + HEAD_START)
            });
            if wanted == self.wants(codec) {
                continue;
            }
            self.wanted.retain(|other| *other != codec);
            if wanted {
                self.wanted.push(codec);
            }
            self.outputs.push_back(Output::Demand { codec, wanted });
        }
    }

    /// Takes word that a session is connected.
    pub fn handle_connected(&mut self, now: Instant, session: SessionId) {
        let watching = self.watching() + 1;
        let Some(entry) = self.entries.get_mut(&session).filter(|entry| entry.place == Place::Joining) else { return };
        let took = now.saturating_duration_since(entry.since);
        entry.place = Place::Live;
        entry.since = now;
        if entry.second_of.is_none() {
            self.outputs.push_back(Output::Came {
                number: entry.number,
                who: entry.newcomer.caller.clone(),
                took,
                watching,
            });
        }
        if let Some(old) = entry.newcomer.replaces.filter(|old| *old != session) {
            self.outputs.push_back(Output::End { session: old, why: EndReason::Replaced });
        }
        self.update_demand(now);
    }

    /// Takes word that a session is over; a second word about one is passed over.
    pub fn handle_ended(&mut self, now: Instant, session: SessionId, why: EndReason) {
        let Some(entry) = self.remove(now, session, &why) else { return };
        if entry.second_of.is_some() {
            return;
        }
        let who = entry.newcomer.caller;
        self.outputs.push_back(match entry.place {
            Place::Joining => Output::Failed { number: entry.number, who, why },
            Place::Live => Output::Left {
                number: entry.number,
                who,
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
    /// Where there is no such session, or the fragment is of another ICE generation.
    pub fn handle_trickle(&self, session: SessionId, trickle: &Trickle) -> Result<Place, Refusal> {
        let entry = self.entries.get(&session).ok_or(Refusal::UnknownSession)?;
        match &trickle.ufrag {
            Some(ufrag) if !self.transports(session).any(|entry| entry.newcomer.ufrags.contains(ufrag)) => {
                Err(Refusal::Conflict(
                    "the fragment's ice-ufrag is not that of this session's offer; make a new session".to_owned(),
                ))
            }
            _ => Ok(entry.place),
        }
    }

    /// The second transport of a session, if it has one.
    pub fn second_of(&self, session: SessionId) -> Option<SessionId> {
        self.entries.iter().find(|(_, entry)| entry.second_of == Some(session)).map(|(second, _)| *second)
    }

    fn transports(&self, session: SessionId) -> impl Iterator<Item = &Entry> {
        self.entries
            .iter()
            .filter(move |(id, entry)| **id == session || entry.second_of == Some(session))
            .map(|(_, entry)| entry)
    }

    /// Whether there is no session at all.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Who has a session; `None` for one that is not.
    pub fn place(&self, session: SessionId) -> Option<Place> {
        self.entries.get(&session).map(|entry| entry.place)
    }

    /// Takes the goodbye of a session's viewer; returns whether there is such a session and this is its first one.
    pub fn handle_goodbye(&mut self, session: SessionId) -> bool {
        self.entries.get_mut(&session).is_some_and(|entry| !std::mem::replace(&mut entry.is_leaving, true))
    }

    /// Whose a session is.
    pub fn caller(&self, session: SessionId) -> Option<&Caller> {
        self.entries.get(&session).map(|entry| &entry.newcomer.caller)
    }

    /// The number of a session's viewer.
    pub fn number(&self, session: SessionId) -> Option<u32> {
        self.entries.get(&session).map(|entry| entry.number)
    }

    /// Ends the viewer with this number by an operator's word; gives who it was, or `None` where there is none.
    pub fn handle_kick(&mut self, number: u32) -> Option<Caller> {
        let mut firsts = self.entries.iter().filter(|(_, entry)| entry.second_of.is_none());
        let (session, entry) = firsts.find(|(_, entry)| entry.number == number)?;
        self.outputs.push_back(Output::End { session: *session, why: EndReason::Kicked });
        self.kicked.push_back(*session);
        if self.kicked.len() > MOST_KICKED {
            self.kicked.pop_front();
        }
        Some(entry.newcomer.caller.clone())
    }

    /// Ends all viewers whom this code let in.
    pub fn handle_revoked(&mut self, pass: PassId) {
        let let_in = |entry: &Entry| entry.second_of.is_none() && entry.newcomer.caller.pass == Some(pass);
        let ended: Vec<_> = self.entries.values().filter(|entry| let_in(entry)).map(|entry| entry.number).collect();
        for number in ended {
            self.handle_kick(number);
        }
    }

    /// Lets so many in at most from now on; who is there stays.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Whether an operator ended a session not long ago.
    pub fn was_kicked(&self, session: SessionId) -> bool {
        self.kicked.contains(&session)
    }

    /// All that the operator is told.
    pub fn state(&self) -> BroadcastState {
        let firsts = self.entries.iter().filter(|(_, entry)| entry.second_of.is_none());
        let viewers = firsts.map(|(session, entry)| ViewerState {
            number: entry.number,
            session: *session,
            caller: entry.newcomer.caller.clone(),
            place: entry.place,
            since: entry.since,
            codecs: self.transports(*session).flat_map(|entry| entry.newcomer.codecs.iter().copied()).collect(),
            link: None,
            way: None,
        });
        let mut viewers: Vec<_> = viewers.collect();
        viewers.sort_unstable_by_key(|viewer| viewer.number);
        for viewer in &mut viewers {
            viewer.codecs.sort_unstable_by_key(|codec| *codec == Codec::Opus);
            viewer.codecs.dedup();
        }
        BroadcastState { wanted: self.wanted.clone(), viewers }
    }

    /// Viewers connected now.
    pub fn watching(&self) -> usize {
        self.entries.values().filter(|entry| entry.place == Place::Live && entry.second_of.is_none()).count()
    }

    /// Whether there is no place for a newcomer; who replaces another will have its place, or that of the one which it was to replace.
    fn is_full(&self, newcomer: &Newcomer) -> bool {
        let replaced = newcomer.replaces.and_then(|old| self.entries.get(&old));
        let before = replaced.filter(|old| old.place == Place::Joining).and_then(|old| old.newcomer.replaces);
        let before = before.is_some_and(|before| self.entries.contains_key(&before));
        self.taken() >= self.limit + usize::from(replaced.is_some()) + usize::from(before)
    }

    /// Places taken, by viewers connected or not.
    fn taken(&self) -> usize {
        self.entries.values().filter(|entry| entry.second_of.is_none()).count()
    }

    /// The next thing to do or to know.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn remove(&mut self, now: Instant, session: SessionId, why: &EndReason) -> Option<Entry> {
        let entry = self.entries.remove(&session)?;
        if let Some(second) = self.second_of(session) {
            self.outputs.push_back(Output::End { session: second, why: why.clone() });
        }
        self.update_demand(now);
        Some(entry)
    }
}
