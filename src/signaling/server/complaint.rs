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

/// A count that is complained of when it grows.
#[derive(Debug, Default)]
pub(in crate::signaling) struct Noted {
    count: u64,
    complaint: Complaint,
}

impl Noted {
    /// Takes the present count; returns it where it has grown and a warning is due.
    pub(in crate::signaling) fn grown(&mut self, count: u64, now: Instant) -> Option<u64> {
        let has_grown = std::mem::replace(&mut self.count, count) < count;
        has_grown.then(|| self.complaint.raise(now)).flatten().map(|_| count)
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
