//! When a lost server is tried again: jittered exponential backoff from 0.5 s to 5 s, for ever.
//!
//! A pure core; the jitter's random bits are arguments.

use std::time::{Duration, Instant};

/// The first pause, before jitter.
const LEAST: Duration = Duration::from_millis(500);
/// The longest pause.
const MOST: Duration = Duration::from_secs(5);
/// Whoever was signed in for so long begins with the shortest pause again.
const STEADY: Duration = Duration::from_secs(30);

/// The pauses of one server.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
    since: Option<Instant>,
}

impl Backoff {
    /// Notes that the daemon is signed in.
    pub fn handle_signed_in(&mut self, now: Instant) {
        self.since = Some(now);
    }

    /// Notes that it is not, or no more; gives the pause before the next try: half of it is drawn by `random`, so that many daemons don't come back at once.
    pub fn handle_lost(&mut self, now: Instant, random: u32) -> Duration {
        if self.since.take().is_some_and(|since| now.saturating_duration_since(since) >= STEADY) {
            self.failures = 0;
        }
        let most = LEAST.saturating_mul(1 << self.failures.min(8)).min(MOST);
        self.failures = self.failures.saturating_add(1);
        most / 2 + (most / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_five_seconds_and_begin_anew_after_a_steady_time() {
        let (mut backoff, now) = (Backoff::default(), Instant::now());
        let most: Vec<_> = (0..6).map(|_| backoff.handle_lost(now, u32::MAX).as_millis()).collect();
        assert_eq!(most, [500, 1000, 2000, 4000, 5000, 5000]);
        assert_eq!(backoff.handle_lost(now, 0).as_millis(), 2500, "half of it is chance");
        backoff.handle_signed_in(now);
        assert_eq!(
            backoff.handle_lost(now + STEADY / 2, u32::MAX),
            MOST,
            "a server that accepts and drops is not hammered"
        );
        backoff.handle_signed_in(now);
        assert_eq!(backoff.handle_lost(now + STEADY, u32::MAX), LEAST);
    }
}
