//! The timeline of sound: which sample a block begins with, and when that was captured.
//!
//! A pure core. Owns the sample count, which advances by exactly one block a block and jumps by real gaps only, and the
//! time of capture, which advances by exactly 20 ms a block but for a slow correction.
//!
//! A block's arrival tells when it was captured, late by however long its delivery took and never early. So what is followed
//! is the least late of the last second's blocks: within [`TOLERANCE`] nothing is corrected, past it 1/200 of the excess
//! with each block, 1 ms at most. A sound card that runs 100 ppm off the clock is followed within 4 ms that way, in steps
//! of microseconds.
//! Blocks that come late and are whole (a busy machine) change nothing; blocks that all stay late are those behind a loss.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::{BLOCK, SAMPLE_RATE};

/// Blocks of which the least late one counts: a second.
const WINDOW: usize = 50;
/// So far the timeline may be off before it is corrected.
const TOLERANCE: i64 = 2_000_000;
/// The most that is corrected with one block, in nanoseconds.
const LARGEST_STEP: i64 = 1_000_000;
/// A part of the excess that is corrected with one block.
const SHARE: i64 = 200;
/// So late must blocks be, and so many of them one after the other, before samples count as lost (nanoseconds).
const LOSS: i64 = 60_000_000;
const LOSS_BLOCKS: usize = 10;

/// Where a block is on the timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// When its first sample was captured.
    pub captured: Instant,
    /// The number of its first sample.
    pub sample: u64,
}

/// The timeline of one capture, over all devices that it opens.
#[derive(Debug, Default)]
pub struct Timeline {
    /// Where the next block is if nothing is lost, corrections left out.
    next: Option<Stamp>,
    /// Nanoseconds that corrections have added to the times of capture.
    correction: i64,
    /// How much later than `next` said the last blocks seemed captured, in nanoseconds.
    lateness: VecDeque<i64>,
}

impl Timeline {
    /// Makes a timeline that begins with its first block, at sample 0.
    pub fn new() -> Self {
        Self::default()
    }

    /// Places a block of 20 ms whose first sample seems to have been captured at `seemed`, judged by its arrival.
    ///
    /// `anew` says that samples were lost right before it, as where the device was opened anew.
    pub fn handle_block(&mut self, seemed: Instant, anew: bool) -> Stamp {
        let next = match self.next {
            Some(next) if anew => self.after_gap(next, seemed),
            Some(next) => self.after_block(next, seemed),
            None => Stamp { captured: seemed, sample: 0 },
        };
        self.next = Some(Stamp { captured: next.captured + BLOCK, sample: next.sample + samples(BLOCK) });
        Stamp { captured: moved(next.captured, self.correction), ..next }
    }

    /// Jumps by what the device was away; time never goes back.
    fn after_gap(&mut self, next: Stamp, seemed: Instant) -> Stamp {
        self.lateness.clear();
        let gap = seemed.saturating_duration_since(moved(next.captured, self.correction));
        Stamp { captured: next.captured + gap, sample: next.sample + samples(gap) }
    }

    fn after_block(&mut self, next: Stamp, seemed: Instant) -> Stamp {
        if self.lateness.len() == WINDOW {
            self.lateness.pop_front();
        }
        self.lateness.push_back(nanos_between(next.captured, seemed));
        let least = |blocks: usize| {
            let newest = self.lateness.iter().rev().take(blocks).min().copied();
            newest.filter(|_| self.lateness.len() >= blocks).map(|late| late - self.correction)
        };
        if let Some(lost) = least(LOSS_BLOCKS).filter(|late| *late > LOSS) {
            return self.after_gap(next, moved(next.captured, self.correction + lost));
        }
        if let Some(late) = least(WINDOW) {
            let excess = late - late.clamp(-TOLERANCE, TOLERANCE);
            self.correction += (excess / SHARE).clamp(-LARGEST_STEP, LARGEST_STEP);
        }
        next
    }
}

/// Samples of a channel within `time`, to the nearest.
fn samples(time: Duration) -> u64 {
    ((time.as_nanos() * u128::from(SAMPLE_RATE) + 500_000_000) / 1_000_000_000) as u64
}

fn moved(at: Instant, nanos: i64) -> Instant {
    let by = Duration::from_nanos(nanos.unsigned_abs());
    if nanos < 0 { at.checked_sub(by).unwrap_or(at) } else { at + by }
}

fn nanos_between(from: Instant, to: Instant) -> i64 {
    let forth = to.saturating_duration_since(from).as_nanos() as i64;
    forth - from.saturating_duration_since(to).as_nanos() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sound card in virtual time: it loses nothing unless told to, and its blocks come late.
    struct Card {
        start: Instant,
        /// Nanoseconds by which a block of the card differs from 20 ms of the clock.
        drift: i64,
        /// When the next block's first sample is captured, since `start`.
        at: i64,
        random: u64,
    }

    impl Card {
        fn new(parts_per_million: i64) -> Self {
            Self { start: Instant::now() + Duration::from_secs(100), drift: parts_per_million * 20, at: 0, random: 7 }
        }

        /// The next block: when it was captured, and when it seems to have been with up to `jitter` ms on either side.
        fn block(&mut self, jitter: i64) -> (Instant, Instant) {
            self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let spread = (self.random >> 33) as i64 % (2 * jitter * 1_000_000 + 1) - jitter * 1_000_000;
            let captured = moved(self.start, self.at);
            self.at += 20_000_000 + self.drift;
            (captured, moved(captured, spread))
        }
    }

    #[test]
    fn jitter_is_smoothed_and_drift_followed() {
        for drift in [-100, 0, 100] {
            let (mut card, mut timeline) = (Card::new(drift), Timeline::new());
            let mut last: Option<Stamp> = None;
            for number in 0..50 * 600 {
                let (captured, seemed) = card.block(15);
                let stamp = timeline.handle_block(seemed, false);
                assert_eq!(stamp.sample, number * 960, "{drift} ppm");
                if let Some(last) = last {
                    let step = nanos_between(last.captured + BLOCK, stamp.captured);
                    let most = if number < 1500 { LARGEST_STEP } else { 20_000 };
                    assert!(step.abs() <= most, "block {number}, {drift} ppm: a step of {step} ns");
                }
                let off = nanos_between(captured, stamp.captured);
                let range = if number < 1500 { -30_000_000..=30_000_000 } else { -20_000_000..=-8_000_000 };
                assert!(range.contains(&off), "block {number}, {drift} ppm: off by {off} ns");
                last = Some(stamp);
            }
        }
    }

    #[test]
    fn without_jitter_blocks_are_exactly_20_ms_apart() {
        let (mut card, mut timeline) = (Card::new(0), Timeline::new());
        for _ in 0..1000 {
            let (captured, seemed) = card.block(0);
            assert_eq!(timeline.handle_block(seemed, false).captured, captured);
        }
    }

    #[test]
    fn a_gap_is_jumped_at_once_where_the_device_was_opened_anew() {
        let (mut card, mut timeline) = (Card::new(0), Timeline::new());
        let before = (0..100).map(|_| timeline.handle_block(card.block(0).1, false)).last();
        card.at += 3_000_000_000;
        let after = timeline.handle_block(card.block(0).1, true);
        assert_eq!(before.map(|before| after.sample - before.sample), Some(3 * 48_000 + 960));
        assert_eq!(before.map(|before| after.captured - before.captured), Some(Duration::from_millis(3020)));
        let next = timeline.handle_block(card.block(0).1, false);
        assert_eq!((next.sample - after.sample, next.captured - after.captured), (960, BLOCK));
    }

    #[test]
    fn a_gap_that_nobody_tells_of_is_seen_within_a_fifth_of_a_second() {
        let (mut card, mut timeline) = (Card::new(0), Timeline::new());
        for _ in 0..100 {
            timeline.handle_block(card.block(15).1, false);
        }
        card.at += 3_000_000_000;
        let stamps: Vec<(Instant, Stamp)> = (0..200)
            .map(|_| {
                let (captured, seemed) = card.block(15);
                (captured, timeline.handle_block(seemed, false))
            })
            .collect();
        let jumps: Vec<_> = (1..200).filter(|at| stamps[*at].1.sample != stamps[at - 1].1.sample + 960).collect();
        assert_eq!(jumps, [LOSS_BLOCKS - 1]);
        let off = nanos_between(stamps[199].0, stamps[199].1.captured);
        assert!(off.abs() < 20_000_000, "off by {off} ns");
    }

    #[test]
    fn blocks_that_come_late_in_a_burst_and_are_whole_make_no_gap() {
        let (mut card, mut timeline) = (Card::new(0), Timeline::new());
        for number in 0..1000 {
            let (captured, _) = card.block(0);
            // From 2 s on, nothing comes for 180 ms.
            let late = if (100..109).contains(&number) { 180 - (number - 100) * 20 } else { 0 };
            let stamp = timeline.handle_block(captured + Duration::from_millis(late), false);
            assert_eq!(stamp, Stamp { captured, sample: number * 960 });
        }
    }

    #[test]
    fn time_never_goes_back() {
        let (mut card, mut timeline) = (Card::new(0), Timeline::new());
        let first = timeline.handle_block(card.block(0).1, false);
        let again = timeline.handle_block(first.captured, true);
        assert_eq!((again.sample, again.captured), (960, first.captured + BLOCK));
    }
}
