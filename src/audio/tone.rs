//! The test tone: a sine of [`FREQUENCY`] at [`LEVEL`] (peaks against full scale) in both channels, paced by the clock.
//!
//! Deterministic: the sample with a given number is always the same, and a whole number of periods makes a second.

use std::f64::consts::TAU;
use std::time::Instant;

use super::{BLOCK, BLOCK_SAMPLES, Block, CHANNELS, SAMPLE_RATE};

/// Hz.
pub const FREQUENCY: u32 = 1000;
/// Decibels against full scale.
pub const LEVEL: f64 = -20.0;

/// So many blocks late, as after a suspend, the tone skips what it missed.
const MOST_LATE: u32 = 10;

/// A tone that plays.
#[derive(Debug)]
pub(super) struct Tone {
    /// When the next block's first sample is due.
    next: Instant,
    phase: u32,
    anew: bool,
}

impl Tone {
    /// Begins to play at `now`.
    pub(super) fn new(now: Instant) -> Self {
        Self { next: now, phase: 0, anew: true }
    }

    /// When the next block is whole.
    pub(super) fn poll_timeout(&self) -> Instant {
        self.next + BLOCK
    }

    /// Plays the next block into `block`; whether it was whole by `now`.
    pub(super) fn poll(&mut self, now: Instant, block: &mut Block) -> bool {
        if now < self.poll_timeout() {
            return false;
        }
        if now.saturating_duration_since(self.next) > BLOCK * MOST_LATE {
            self.next = now.checked_sub(BLOCK).unwrap_or(now);
            self.anew = true;
        }
        for samples in block.samples.chunks_exact_mut(CHANNELS) {
            samples.fill(sample(self.phase));
            self.phase = (self.phase + 1) % SAMPLE_RATE;
        }
        debug_assert_eq!(block.samples.len(), BLOCK_SAMPLES * CHANNELS);
        block.captured = self.next;
        block.anew = std::mem::take(&mut self.anew);
        self.next += BLOCK;
        true
    }
}

/// The tone's sample with this number, below a second.
fn sample(number: u32) -> i16 {
    let peak = f64::from(i16::MAX) * 10_f64.powf(LEVEL / 20.0);
    let turns = f64::from(number) * f64::from(FREQUENCY) / f64::from(SAMPLE_RATE);
    (peak * (TAU * turns).sin()).round() as i16
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_hour_has_no_drift_however_late_the_thread_is() {
        let start = Instant::now();
        let (mut tone, mut block) = (Tone::new(start), Block::new(start));
        assert!(!tone.poll(start, &mut block), "nothing is there at the start");
        for number in 0..50 * 3600_u32 {
            let now = tone.poll_timeout() + Duration::from_millis(u64::from(number % 7) * 20);
            assert!(tone.poll(now, &mut block));
            assert_eq!((block.captured, block.anew), (start + BLOCK * number, number == 0));
        }
    }

    #[test]
    fn it_goes_on_where_it_was_from_block_to_block() {
        let start = Instant::now();
        let (mut tone, mut block) = (Tone::new(start), Block::new(start));
        for number in 0..100 {
            assert!(tone.poll(tone.poll_timeout(), &mut block));
            for (at, samples) in block.samples.chunks_exact(CHANNELS).enumerate() {
                let expected = sample((number * BLOCK_SAMPLES + at) as u32 % SAMPLE_RATE);
                assert_eq!(samples, [expected; CHANNELS]);
            }
        }
        let peak = block.samples.iter().max().copied().unwrap_or_default();
        assert!((3270..=3277).contains(&peak), "a peak of {peak} is not a tenth of full scale");
    }

    #[test]
    fn after_a_suspend_it_skips_what_was_missed() {
        let start = Instant::now();
        let (mut tone, mut block) = (Tone::new(start), Block::new(start));
        assert!(tone.poll(start + BLOCK, &mut block));
        let woken = start + Duration::from_secs(3600);
        assert!(tone.poll(woken, &mut block) && block.anew);
        assert_eq!(block.captured, woken - BLOCK);
        assert!(!tone.poll(woken, &mut block), "what was missed is not played in a burst");
    }
}
