//! What time does that clocks don't: the machine sleeps, the daemon is stopped, the wall clock is set; a pure core.
//!
//! The monotonic clock stands still while the machine sleeps, that of boot goes on, and wall time goes wherever it is set. Whatever lives by the
//! monotonic clock (all of the daemon but what other machines compare with their wall time) notices neither sleep nor setting.

use std::time::{Duration, Instant};

/// How much later than asked a look may come before the daemon counts as held up.
const MOST_LATE: Duration = Duration::from_secs(3);
/// Sleep shorter than this is none.
const LEAST_SLEEP: Duration = Duration::from_secs(1);
/// A wall clock that is off by less is being corrected, not set.
const LEAST_STEP: Duration = Duration::from_secs(2);

/// All clocks at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    /// The monotonic clock.
    pub now: Instant,
    /// Time since the machine was started, its sleep included.
    pub boot: Duration,
    /// Wall time since the Unix epoch.
    pub wall: Duration,
}

/// What happened between two looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Jump {
    /// The machine slept.
    Slept(Duration),
    /// The daemon could not run.
    HeldUp(Duration),
    /// The wall clock was set forward.
    Forward(Duration),
    /// The wall clock was set back.
    Back(Duration),
}

/// Compares each look at the clocks with the one before.
#[derive(Debug)]
pub struct Jumps {
    every: Duration,
    last: Reading,
}

impl Jumps {
    /// Begins with a first look; others are meant to follow each `every`.
    pub fn new(every: Duration, first: Reading) -> Self {
        Self { every, last: first }
    }

    /// Takes a look; gives what happened since the last one.
    pub fn handle_reading(&mut self, reading: Reading) -> impl Iterator<Item = Jump> + use<> {
        let last = std::mem::replace(&mut self.last, reading);
        let passed = reading.now.saturating_duration_since(last.now);
        let booted = reading.boot.saturating_sub(last.boot);
        let (slept, late) = (booted.saturating_sub(passed), passed.saturating_sub(self.every));
        let expected = last.wall + booted;
        let step = reading.wall.abs_diff(expected);
        let set = if reading.wall > expected { Jump::Forward(step) } else { Jump::Back(step) };
        let jumps = [
            (slept >= LEAST_SLEEP).then_some(Jump::Slept(slept)),
            (late >= MOST_LATE).then_some(Jump::HeldUp(late)),
            (step >= LEAST_STEP).then_some(set),
        ];
        jumps.into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_secs(2);
    const HOUR: Duration = Duration::from_secs(3600);

    struct Clocks {
        jumps: Jumps,
        last: Reading,
    }

    impl Clocks {
        fn new() -> Self {
            let (boot, wall) = (Duration::from_secs(50), Duration::from_secs(1_000_000));
            let last = Reading { now: Instant::now(), boot, wall };
            Self { jumps: Jumps::new(EVERY, last), last }
        }

        /// Looks after so long by each clock.
        fn look(&mut self, monotonic: Duration, boot: Duration, wall: impl Fn(Duration) -> Duration) -> Vec<Jump> {
            let Reading { now, boot: before, wall: then } = self.last;
            self.last = Reading { now: now + monotonic, boot: before + boot, wall: wall(then) };
            self.jumps.handle_reading(self.last).collect()
        }
    }

    #[test]
    fn time_that_passes_is_no_news() {
        let mut clocks = Clocks::new();
        for millis in [2000, 2001, 2500, 4900, 1999, 0] {
            let passed = Duration::from_millis(millis);
            assert_eq!(clocks.look(passed, passed, |wall| wall + passed), []);
            // A time server corrects it by a fraction.
            assert_eq!(clocks.look(passed, passed, |wall| wall + passed - passed / 10), []);
        }
    }

    #[test]
    fn sleep_a_stop_and_both_ways_of_setting_are_told_apart() {
        let mut clocks = Clocks::new();
        assert_eq!(clocks.look(EVERY, EVERY + HOUR, |wall| wall + EVERY + HOUR), [Jump::Slept(HOUR)]);
        assert_eq!(clocks.look(HOUR, HOUR, |wall| wall + HOUR), [Jump::HeldUp(HOUR - EVERY)]);
        assert_eq!(clocks.look(EVERY, EVERY, |wall| wall + EVERY + HOUR), [Jump::Forward(HOUR)]);
        assert_eq!(clocks.look(EVERY, EVERY, |wall| wall + EVERY - HOUR), [Jump::Back(HOUR)]);
        assert_eq!(clocks.look(EVERY, EVERY, |wall| wall + EVERY), [], "each is told once");
        // A machine whose wall time stood still in its sleep.
        assert_eq!(clocks.look(EVERY, EVERY + HOUR, |wall| wall + EVERY), [Jump::Slept(HOUR), Jump::Back(HOUR)]);
    }
}
