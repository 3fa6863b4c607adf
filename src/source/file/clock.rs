//! The clock of a lesson: which moment of the machine's time its own time is at; a pure core.
//!
//! Owns the moment at which the lesson's time began, whether it runs, and which pictures are too many for the rate that is asked for. Time goes on exactly as
//! the machine's does, whatever each picture took; where the machine could not keep up for half a second, the lesson is late from then on instead of hurrying.

use std::time::{Duration, Instant};

/// So late a picture may be before what follows is late too.
const LATE: Duration = Duration::from_millis(500);
/// Containers round their times to a millisecond.
const ROUNDING: Duration = Duration::from_millis(1);

/// The clock of one lesson.
#[derive(Debug)]
pub(super) struct Clock {
    state: State,
    /// The least time between two pictures.
    interval: Duration,
    /// When the next picture may be shown, by the rate.
    slot: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It stands at this time of the lesson.
    Paused(Duration),
    /// It runs; time zero was at this moment, or would have been.
    Running(Instant),
}

impl Clock {
    /// Makes a clock that stands at the beginning, for so many pictures a second at most.
    pub(super) fn new(fps: u32) -> Self {
        let interval = Duration::from_secs(1) / fps.max(1);
        Self { state: State::Paused(Duration::ZERO), interval, slot: None }
    }

    /// Goes on.
    pub(super) fn start(&mut self, now: Instant) {
        if let State::Paused(at) = self.state {
            self.state = State::Running(now.checked_sub(at).unwrap_or(now));
            self.slot = None;
        }
    }

    /// Stands still.
    pub(super) fn pause(&mut self, now: Instant) {
        if let State::Running(zero) = self.state {
            self.state = State::Paused(now.saturating_duration_since(zero));
        }
    }

    /// When time zero was, while it runs.
    pub(super) fn zero(&self) -> Option<Instant> {
        match self.state {
            State::Running(zero) => Some(zero),
            State::Paused(_) => None,
        }
    }

    /// The time of the lesson at this moment.
    pub(super) fn position(&self, now: Instant) -> Duration {
        match self.state {
            State::Running(zero) => now.saturating_duration_since(zero),
            State::Paused(at) => at,
        }
    }

    /// When the picture of this time is to be shown, by its time and the rate; `None` while it stands.
    pub(super) fn due(&self, at: Duration) -> Option<Instant> {
        let due = self.zero()? + at;
        // A picture that comes a little early by the rate is shown in its own time.
        let slot = self.slot.and_then(|slot| slot.checked_sub(self.interval / 4)).filter(|slot| *slot > due);
        Some(if slot.is_some() { self.slot.unwrap_or(due) } else { due })
    }

    /// Whether a picture that would be shown at `shown` gives way to the next one, of time `next`.
    pub(super) fn gives_way(&self, next: Duration, shown: Instant) -> bool {
        self.zero().is_some_and(|zero| zero + next <= shown + ROUNDING)
    }

    /// Moves the lesson's time where the picture of time `at` is far too late to be shown now; whether it did.
    pub(super) fn handle_late(&mut self, at: Duration, now: Instant) -> bool {
        let State::Running(zero) = self.state else { return false };
        let late = now > zero + at + LATE;
        if late {
            self.state = State::Running(now.checked_sub(at).unwrap_or(now));
        }
        late
    }

    /// Notes that a picture was shown that was due then.
    pub(super) fn handle_shown(&mut self, due: Instant) {
        let next = self.slot.map_or(due, |slot| slot.max(due.checked_sub(self.interval / 2).unwrap_or(due)));
        self.slot = Some(next + self.interval);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// The pictures of a lesson of so many a second that are shown within `seconds`, by their numbers.
    fn shown(rate: u32, fps: u32, seconds: u32) -> Vec<u32> {
        let (start, mut clock) = (Instant::now() + SECOND, Clock::new(fps));
        clock.start(start);
        let mut shown = Vec::new();
        for number in 0..rate * seconds {
            let at = |number: u32| SECOND * number / rate;
            let Some(due) = clock.due(at(number)) else { continue };
            // It gives way to the next one that is due by then.
            if number + 1 < rate * seconds && clock.gives_way(at(number + 1), due) {
                continue;
            }
            clock.handle_shown(due);
            shown.push(number);
        }
        shown
    }

    #[test]
    fn all_pictures_are_shown_up_to_the_rate_that_is_asked_for() {
        for rate in [1, 24, 25, 29, 30] {
            assert_eq!(shown(rate, 30, 10).len() as u32, rate * 10, "{rate} a second");
        }
        for (rate, fps) in [(60, 30), (50, 25), (60, 15), (50, 30), (240, 30), (31, 30), (30, 7)] {
            let count = shown(rate, fps, 20).len() as u32;
            assert!(count <= fps * 20 * 101 / 100 + 1 && count >= fps * 20 * 9 / 10, "{rate} at {fps}: {count}");
        }
        assert_eq!(shown(60, 30, 1)[..4], [0, 2, 4, 6]);
    }

    #[test]
    fn the_last_picture_before_a_still_time_is_shown_though_it_came_early() {
        let (start, mut clock) = (Instant::now(), Clock::new(10));
        clock.start(start);
        clock.handle_shown(start);
        assert_eq!(clock.due(SECOND / 50), Some(start + SECOND / 10));
    }

    #[test]
    fn a_pause_takes_no_time_of_the_lesson() {
        let (start, mut clock) = (Instant::now(), Clock::new(30));
        assert_eq!((clock.due(SECOND), clock.zero()), (None, None));
        clock.start(start);
        assert_eq!(clock.due(SECOND * 2), Some(start + SECOND * 2));
        clock.pause(start + SECOND);
        assert_eq!((clock.due(SECOND * 2), clock.position(start + SECOND * 9)), (None, SECOND));
        clock.start(start + SECOND * 100);
        clock.start(start + SECOND * 200);
        assert_eq!(clock.due(SECOND * 2), Some(start + SECOND * 101));
        assert_eq!(clock.position(start + SECOND * 103), SECOND * 4);
    }

    #[test]
    fn a_lesson_never_hurries_after_a_stall_and_never_drifts_without_one() {
        let (start, mut clock) = (Instant::now(), Clock::new(30));
        clock.start(start);
        for second in 0..36_000 {
            assert!(!clock.handle_late(SECOND * second, start + SECOND * second + LATE));
        }
        assert_eq!(clock.due(SECOND * 36_000), Some(start + SECOND * 36_000));
        let woken = start + SECOND * 36_003;
        assert!(clock.handle_late(SECOND * 36_000, woken));
        assert_eq!(clock.due(SECOND * 36_000), Some(woken));
        assert_eq!(clock.due(SECOND * 36_001), Some(woken + SECOND));
    }
}
