//! One warning an interval about what happens again and again, with how often it did.

use std::time::{Duration, Instant};

/// Between two warnings of one kind.
const INTERVAL: Duration = Duration::from_secs(10);

/// Counts one kind of trouble.
#[derive(Debug, Default)]
pub struct Complaint {
    since: u64,
    last: Option<Instant>,
}

impl Complaint {
    /// Notes that it happened; returns how often since the last warning, where one is due.
    pub fn raise(&mut self, now: Instant) -> Option<u64> {
        self.since += 1;
        if self.last.is_some_and(|last| now.saturating_duration_since(last) < INTERVAL) {
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_raised_once_an_interval_with_its_count() {
        let start = Instant::now();
        let mut complaint = Complaint::default();
        assert_eq!(complaint.raise(start), Some(1));
        assert_eq!(complaint.raise(start), None);
        assert_eq!(complaint.raise(start + INTERVAL), Some(2));
    }
}
