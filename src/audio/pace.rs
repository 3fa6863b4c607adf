//! Whether a device delivers faster than its sound lasts; a pure core.
//!
//! A device may hand over in a burst what it held back, as after the machine or the server slept, and its clock may run a
//! little fast. One that goes on ahead of time records nothing: ALSA's `null` fills each buffer at once.

use std::time::{Duration, Instant};

use super::BLOCK;

/// So far ahead of time a device may be: more than any buffer that it fills before it is first read.
const AHEAD: Duration = Duration::from_millis(500);
/// A device may hand over so much in a burst after it gave nothing for as long: more than libpulse's largest buffer holds.
const HELD_BACK: Duration = Duration::from_secs(30);
/// A part of the time by which a clock may run fast.
const FAST: u32 = 10;

/// The pace of a device since it was opened.
#[derive(Debug)]
pub(super) struct Pace {
    last: Instant,
    /// By how much what came lasts longer than the time since.
    ahead: Duration,
    /// By how much it lasts less long.
    behind: Duration,
}

impl Pace {
    /// Begins where a device is opened.
    pub(super) fn new(now: Instant) -> Self {
        Self { last: now, ahead: Duration::ZERO, behind: Duration::ZERO }
    }

    /// Notes one block of 20 ms; whether it comes in time, and not ahead of it.
    pub(super) fn handle_block(&mut self, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.last);
        self.last = now;
        let ahead = self.ahead + BLOCK;
        let behind = self.behind + elapsed;
        let clock = (elapsed / FAST).min(ahead.saturating_sub(behind));
        self.ahead = ahead.saturating_sub(behind + clock);
        self.behind = behind.saturating_sub(ahead).min(HELD_BACK);
        self.ahead <= AHEAD
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blocks, each `each` after the one before, until one is ahead of time, 100,000 at most; how many were in time.
    fn in_time(pace: &mut Pace, now: &mut Instant, each: Duration) -> usize {
        let mut next = || {
            *now += each;
            pace.handle_block(*now)
        };
        (0..100_000).take_while(|_| next()).count()
    }

    #[test]
    fn a_device_that_gives_samples_without_end_is_ahead_of_time_after_half_a_second_of_them() {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        assert_eq!(in_time(&mut pace, &mut now, Duration::ZERO), 25);
        // The same where it was right for half an hour before.
        let mut pace = Pace::new(now);
        assert_eq!(in_time(&mut pace, &mut now, BLOCK), 100_000);
        assert_eq!(in_time(&mut pace, &mut now, Duration::ZERO), 25);
        // Twice as fast as time, as a device of 96 kHz that claims 48.
        let mut pace = Pace::new(now);
        assert!(in_time(&mut pace, &mut now, BLOCK / 2) < 75);
    }

    #[test]
    fn a_clock_that_runs_one_percent_off_is_in_time_for_ever() {
        for each in [19_800, 20_200] {
            let mut now = Instant::now();
            let mut pace = Pace::new(now);
            assert_eq!(in_time(&mut pace, &mut now, Duration::from_micros(each)), 100_000);
        }
    }

    #[test]
    fn what_was_held_back_may_come_in_a_burst() {
        let mut now = Instant::now();
        let mut pace = Pace::new(now);
        assert!(pace.handle_block(now + BLOCK));
        now += Duration::from_secs(20);
        assert_eq!(in_time(&mut pace, &mut now, Duration::ZERO), 1000 + 24);
    }
}
