//! What was sent to one viewer, for as long as it may be asked for again (RFC 4585, RFC 4588, transport-cc).
//!
//! A pure core: it decides whether a packet may be repeated (the repeat guard: once a round trip; the budget: a share of the rung's rate)
//! and which packets before a silence nobody has acknowledged. It never makes packets itself.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::encoder::Bitrate;
use crate::fanout::Unit;

/// Packets kept: four seconds at 2.5 Mbit/s, and more than any keyframe.
const MOST_PACKETS: usize = 1024;
/// Older packets are of no use to a live picture.
const MOST_AGE: Duration = Duration::from_secs(2);
/// Transport-wide numbers remembered.
const MOST_NUMBERS: usize = 2 * MOST_PACKETS;
/// Times that one packet is repeated at most.
const MOST_REPEATS: u8 = 8;
/// The guard's least time between two repeats of one packet, where the round trip is shorter.
const LEAST_GUARD: Duration = Duration::from_millis(10);
/// The budget's bucket, in bytes: a lost keyframe can be repeated at once.
const BUDGET_BURST: f64 = 128_000.0;

/// One packet that was sent, so that it can be made again.
#[derive(Debug, Clone)]
pub struct SentPacket {
    /// Its RTP sequence number with the cycles above.
    pub sequence: u64,
    /// The unit that it belongs to.
    pub unit: Arc<Unit>,
    /// Which of the unit's payloads it carries.
    pub payload: usize,
    /// Its RTP timestamp.
    pub timestamp: u32,
    /// The viewer's id of its picture (15 bits).
    pub picture: u16,
    /// The packet as it went out, for viewers without RTX: they get the identical ciphertext again (rule 4).
    pub sealed: Option<Bytes>,
}

#[derive(Debug)]
struct Entry {
    packet: SentPacket,
    sent: Instant,
    repeated: Option<Instant>,
    repeats: u8,
    arrived: bool,
}

/// Figures of a history.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HistoryCounters {
    /// Packets asked for.
    pub asked: u64,
    /// Repeats allowed.
    pub repeated: u64,
    /// Refused by the repeat guard.
    pub guarded: u64,
    /// Refused for lack of budget.
    pub over_budget: u64,
    /// Asked for when it was gone already.
    pub gone: u64,
}

/// The packets sent to one viewer.
#[derive(Debug)]
pub struct History {
    entries: VecDeque<Entry>,
    /// Which media packet each transport-wide number carried; the front one is `first_number`.
    numbers: VecDeque<u64>,
    first_number: u64,
    budget: f64,
    budget_rate: f64,
    refilled: Instant,
    counters: HistoryCounters,
}

impl History {
    /// Makes an empty history whose repeats may take half of `rate`.
    pub fn new(now: Instant, rate: Bitrate) -> Self {
        Self {
            entries: VecDeque::new(),
            numbers: VecDeque::new(),
            first_number: 0,
            budget: BUDGET_BURST,
            budget_rate: f64::from(rate.0) / 8.0 / 2.0,
            refilled: now,
            counters: HistoryCounters::default(),
        }
    }

    /// Lets repeats take half of another rate from now on.
    pub fn set_rate(&mut self, now: Instant, rate: Bitrate) {
        self.refill(now);
        self.budget_rate = f64::from(rate.0) / 8.0 / 2.0;
    }

    /// Remembers a packet that is being sent; sequence numbers must be consecutive.
    pub fn record(&mut self, now: Instant, packet: SentPacket) {
        while self.entries.len() >= MOST_PACKETS
            || self.entries.front().is_some_and(|e| now.saturating_duration_since(e.sent) > MOST_AGE)
        {
            self.entries.pop_front();
        }
        self.entries.push_back(Entry { packet, sent: now, repeated: None, repeats: 0, arrived: false });
    }

    /// Remembers that the transport-wide number `number` carried the media packet `sequence` (or its repeat).
    pub fn record_number(&mut self, number: u64, sequence: u64) {
        if self.numbers.is_empty() {
            self.first_number = number;
        }
        self.numbers.push_back(sequence);
        if self.numbers.len() > MOST_NUMBERS {
            self.numbers.pop_front();
            self.first_number += 1;
        }
    }

    /// Takes a transport-wide number that arrived.
    pub fn handle_arrival(&mut self, number: u16) {
        let newest = self.first_number + self.numbers.len() as u64;
        let behind = (newest as u16).wrapping_sub(number);
        let Some(full) = newest.checked_sub(u64::from(behind)) else { return };
        let sequence = full.checked_sub(self.first_number).and_then(|at| self.numbers.get(at as usize).copied());
        if let Some(entry) = sequence.and_then(|sequence| self.find(sequence)) {
            entry.arrived = true;
        }
    }

    /// Takes a report that all up to `highest` (with cycles, 32 bits) was seen and nothing was lost on the way.
    pub fn handle_all_arrived_to(&mut self, highest: u32) {
        for entry in &mut self.entries {
            if (highest.wrapping_sub(entry.packet.sequence as u32) as i32) >= 0 {
                entry.arrived = true;
            }
        }
    }

    /// Decides whether the packet that a NACK names is repeated now.
    pub fn handle_missing(&mut self, now: Instant, sequence: u16, round_trip: Duration) -> Option<SentPacket> {
        self.counters.asked += 1;
        let front = self.entries.front().map(|e| e.packet.sequence);
        let Some(full) = front.map(|front| front + u64::from(sequence.wrapping_sub(front as u16))) else {
            self.counters.gone += 1;
            return None;
        };
        // A NACK is word that it did not arrive, whatever was reported before.
        if let Some(entry) = self.find(full) {
            entry.arrived = false;
        }
        self.repeat(now, full, round_trip)
    }

    /// The last packets before a silence that nobody has acknowledged, oldest first: at most `most`, none sent before `since`.
    pub fn unacknowledged_tail(&mut self, now: Instant, since: Instant, most: usize) -> Vec<SentPacket> {
        let mut sequences: Vec<_> = self
            .entries
            .iter()
            .rev()
            .take_while(|e| e.sent >= since)
            .filter(|e| !e.arrived)
            .map(|e| e.packet.sequence)
            .take(most)
            .collect();
        sequences.reverse();
        sequences.into_iter().filter_map(|sequence| self.repeat(now, sequence, Duration::ZERO)).collect()
    }

    /// The figures so far.
    pub fn counters(&self) -> HistoryCounters {
        self.counters
    }

    fn repeat(&mut self, now: Instant, sequence: u64, round_trip: Duration) -> Option<SentPacket> {
        self.refill(now);
        let budget = self.budget;
        let guard = round_trip.max(LEAST_GUARD);
        let Some(entry) = self.find(sequence) else {
            self.counters.gone += 1;
            return None;
        };
        // What was sent less than a round trip ago may be on its way; so may its repeat.
        if entry.repeats >= MOST_REPEATS || entry.repeated.is_some_and(|at| now.saturating_duration_since(at) < guard) {
            self.counters.guarded += 1;
            return None;
        }
        let size =
            entry.packet.unit.payloads.get(entry.packet.payload).map_or(0, |payload| payload.len()) as f64 + 40.0;
        if budget < size {
            self.counters.over_budget += 1;
            return None;
        }
        entry.repeated = Some(now);
        entry.repeats += 1;
        let packet = entry.packet.clone();
        self.budget -= size;
        self.counters.repeated += 1;
        Some(packet)
    }

    fn refill(&mut self, now: Instant) {
        let gained = now.saturating_duration_since(self.refilled).as_secs_f64() * self.budget_rate;
        self.budget = (self.budget + gained).min(BUDGET_BURST);
        self.refilled = now;
    }

    fn find(&mut self, sequence: u64) -> Option<&mut Entry> {
        let front = self.entries.front()?.packet.sequence;
        let at = usize::try_from(sequence.checked_sub(front)?).ok()?;
        self.entries.get_mut(at)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::encoder::{AccessUnit, Codec};

    const RATE: Bitrate = Bitrate(2_500_000);
    const RTT: Duration = Duration::from_millis(80);

    fn filled(now: Instant, from: u64, count: u64) -> History {
        let data = [&[0, 0, 0, 1, 0x41][..], &[9; 1000]].concat().into();
        let unit =
            Arc::new(Unit::new(AccessUnit { codec: Codec::H264, data, keyframe: false, captured: now, sample: 0 }));
        let mut history = History::new(now, RATE);
        for sequence in from..from + count {
            let packet =
                SentPacket { sequence, unit: unit.clone(), payload: 0, timestamp: 0, picture: 0, sealed: None };
            history.record(now, packet);
            history.record_number(sequence - from, sequence);
        }
        history
    }

    #[test]
    fn a_packet_is_repeated_once_a_round_trip() {
        let now = Instant::now();
        let mut history = filled(now, 65_530, 20);
        assert_eq!(history.handle_missing(now, 3, RTT).unwrap().sequence, 65_539);
        assert!(history.handle_missing(now + RTT / 2, 3, RTT).is_none());
        assert!(history.handle_missing(now + RTT, 3, RTT).is_some());
        assert!(history.handle_missing(now, 5_000, RTT).is_none(), "never sent");
        assert_eq!(history.counters(), HistoryCounters { asked: 4, repeated: 2, guarded: 1, over_budget: 0, gone: 1 });
    }

    #[test]
    fn repeats_stay_within_half_of_the_rate() {
        let now = Instant::now();
        let mut history = filled(now, 0, 1000);
        let mut bytes = 0;
        for millisecond in 0..1500 {
            let at = now + Duration::from_millis(millisecond);
            for sequence in 0..1000 {
                if let Some(packet) = history.handle_missing(at, sequence, Duration::ZERO) {
                    bytes += packet.unit.payloads[0].len() + 40;
                }
            }
        }
        assert!(bytes as f64 <= BUDGET_BURST + 1.5 * 2_500_000.0 / 16.0, "{bytes}");
        assert!(history.counters().over_budget > 0);
    }

    #[test]
    fn the_tail_is_what_nobody_acknowledged() {
        let now = Instant::now();
        let mut history = filled(now, 70_000, 40);
        for number in 0..38 {
            history.handle_arrival(number);
        }
        let tail: Vec<_> = history.unacknowledged_tail(now, now, 8).iter().map(|p| p.sequence).collect();
        assert_eq!(tail, [70_038, 70_039]);
        history.handle_all_arrived_to(70_039);
        assert!(history.unacknowledged_tail(now + RTT, now, 8).is_empty());
        history.handle_arrival(60_000); // Never given: no harm.
    }

    #[test]
    fn it_forgets_what_is_old_and_is_bounded() {
        let now = Instant::now();
        let mut history = filled(now, 0, 5_000);
        assert_eq!(history.entries.len(), MOST_PACKETS);
        let later = now + MOST_AGE + Duration::from_millis(1);
        let packet = history.entries.back().unwrap().packet.clone();
        history.record(later, SentPacket { sequence: 5_000, ..packet });
        assert_eq!(history.entries.len(), 1);
        assert!(history.numbers.len() <= MOST_NUMBERS);
    }
}
