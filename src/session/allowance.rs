//! How often something may happen: a few times at once, then at intervals (the leaky bucket of ITU-T I.371, as virtual scheduling).
//!
//! A pure core.

use std::time::{Duration, Instant};

/// What is left of an allowance.
#[derive(Debug)]
pub struct Allowance {
    /// Until when it is used up, were it used at its interval.
    used_until: Instant,
    interval: Duration,
    burst: Duration,
    refused: u64,
}

impl Allowance {
    /// Allows `at_once` times at once, and one more each `interval`.
    pub fn new(now: Instant, at_once: u32, interval: Duration) -> Self {
        Self { used_until: now, interval, burst: interval * at_once.saturating_sub(1), refused: 0 }
    }

    /// Uses it once; false where nothing is left, which is counted.
    pub fn take(&mut self, now: Instant) -> bool {
        let from = self.used_until.max(now);
        let allowed = from <= now + self.burst;
        if allowed {
            self.used_until = from + self.interval;
        } else {
            self.refused += 1;
        }
        allowed
    }

    /// How often nothing was left.
    pub fn refused(&self) -> u64 {
        self.refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_at_once_then_at_intervals() {
        let now = Instant::now();
        let mut allowance = Allowance::new(now, 3, Duration::from_secs(5));
        let mut take = |seconds| (0..10).filter(|_| allowance.take(now + Duration::from_secs(seconds))).count();
        assert_eq!([take(0), take(4), take(5), take(6), take(20), take(1000)], [3, 0, 1, 0, 3, 3]);
        assert_eq!(allowance.refused(), 50);
    }
}
