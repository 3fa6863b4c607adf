//! Pace: which pictures of a camera are shown, where it gives more than are wanted, and when one was taken.
//!
//! A pure core: it never reads the time.

use std::time::{Duration, Instant};

/// A picture that is older when it comes has a time that is no time.
const OLDEST: Duration = Duration::from_secs(1);

/// Lets at most so many pictures a second through, on average.
#[derive(Debug)]
pub(super) struct Pace {
    interval: Duration,
    due: Option<Instant>,
}

impl Pace {
    /// Makes one for so many pictures a second (at least 1).
    pub(super) fn new(fps: u32) -> Self {
        Self { interval: Duration::from_secs(1) / fps.max(1), due: None }
    }

    /// Whether a picture that was taken at `at` is to be shown: the one that is closest to when one is due, whatever the camera's jitter.
    pub(super) fn is_due(&self, at: Instant) -> bool {
        self.due.is_none_or(|due| at + self.interval / 2 >= due)
    }

    /// Notes that it is shown.
    pub(super) fn handle_shown(&mut self, at: Instant) {
        // What was missed is not made up for, but for one.
        let due = self.due.map_or(at, |due| due.max(at.checked_sub(self.interval).unwrap_or(at)));
        self.due = Some(due + self.interval);
    }
}

/// When a picture was taken whose driver says `stamp`, by the monotonic clock that says `monotonic` now.
pub(super) fn captured(stamp: Option<Duration>, monotonic: Duration, now: Instant) -> Instant {
    let age = stamp.and_then(|stamp| monotonic.checked_sub(stamp)).filter(|age| *age <= OLDEST);
    age.and_then(|age| now.checked_sub(age)).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of ten seconds' pictures are shown, where each comes `jitter` sooner or later.
    fn shown(camera: u32, fps: u32, jitter: Duration) -> usize {
        let (start, mut pace) = (Instant::now() + OLDEST, Pace::new(fps));
        let times = (0..camera * 10).map(|number| {
            let at = start + Duration::from_secs(1) * number / camera;
            if number % 2 == 0 { at + jitter } else { at - jitter }
        });
        let is_shown = |at: &Instant| {
            let is_due = pace.is_due(*at);
            if is_due {
                pace.handle_shown(*at);
            }
            is_due
        };
        times.filter(is_shown).count()
    }

    #[test]
    fn no_more_are_shown_than_wanted_and_no_fewer_than_there_are() {
        for jitter in [0, 1, 5, 8] {
            let jitter = Duration::from_millis(jitter);
            for (camera, fps, expected) in
                [(30, 30, 300), (15, 30, 150), (30, 15, 150), (60, 30, 300), (30, 20, 200), (25, 24, 240), (30, 1, 10)]
            {
                let found = shown(camera, fps, jitter);
                assert!(found.abs_diff(expected) <= 1, "{found} of {camera} a second at {fps}, {jitter:?}");
            }
        }
    }

    #[test]
    fn after_a_gap_nothing_is_made_up_for() {
        let (start, mut pace) = (Instant::now(), Pace::new(10));
        pace.handle_shown(start);
        let later = start + Duration::from_secs(60);
        assert!(pace.is_due(later));
        pace.handle_shown(later);
        pace.handle_shown(later);
        assert!(!pace.is_due(later + Duration::from_millis(20)));
    }

    #[test]
    fn the_drivers_time_is_taken_where_it_is_one() {
        let (now, monotonic) = (Instant::now() + OLDEST, Duration::from_secs(1_000));
        let age = Duration::from_millis(70);
        assert_eq!(captured(Some(monotonic - age), monotonic, now), now - age);
        for odd in [None, Some(Duration::ZERO), Some(monotonic + age), Some(monotonic - OLDEST * 2)] {
            assert_eq!(captured(odd, monotonic, now), now, "{odd:?}");
        }
    }
}
