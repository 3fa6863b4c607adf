//! Capture pacing (rule 2): when a changed screen is to be captured.
//!
//! Owns the decision only: the first change after quiet is captured at once, changes that go on at most `fps` times a
//! second, and the last change always. It never captures, sleeps or reads the time.

use std::time::{Duration, Instant};

/// Decides when to capture: a token bucket of two, refilled `fps` times a second.
///
/// The second token lets the second half of a two-step redraw (clear, then draw) out soon after the first.
#[derive(Debug, Clone)]
pub struct CapturePacer {
    interval: Duration,
    wish: Wish,
    spent: Option<Spent>,
}

/// Whether a capture is wanted.
#[derive(Debug, Clone, Copy)]
enum Wish {
    Nothing,
    /// Something changed at this time: as soon as the rate allows.
    Changed(Instant),
    /// Somebody needs a picture: at once.
    Forced(Instant),
}

/// The bucket's state after a capture.
#[derive(Debug, Clone, Copy)]
struct Spent {
    last: Instant,
    /// When the bucket is full again.
    full: Instant,
}

impl CapturePacer {
    /// Makes a pacer for at most `fps` captures a second (at least 1).
    pub fn new(fps: u32) -> Self {
        let interval = Duration::from_nanos(1_000_000_000_u64.div_ceil(u64::from(fps.max(1))));
        Self { interval, wish: Wish::Nothing, spent: None }
    }

    /// Notes that the screen or the pointer has changed.
    pub fn handle_change(&mut self, now: Instant) {
        if matches!(self.wish, Wish::Nothing) {
            self.wish = Wish::Changed(now);
        }
    }

    /// Asks for a capture at once, whatever the rate: for a source that has just started, or a viewer without a picture.
    pub fn force(&mut self, now: Instant) {
        if !matches!(self.wish, Wish::Forced(_)) {
            self.wish = Wish::Forced(now);
        }
    }

    /// Notes that a capture begins: it shows every change noted so far.
    pub fn handle_capture(&mut self, now: Instant) {
        let refilled = self.spent.map_or(now, |spent| spent.full.max(now));
        let full = (refilled + self.interval).min(now + 2 * self.interval);
        self.spent = Some(Spent { last: now, full });
        self.wish = Wish::Nothing;
    }

    /// When to capture (perhaps already past); `None` while nothing has changed.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match (self.wish, self.spent) {
            (Wish::Nothing, _) => None,
            (Wish::Forced(at), _) | (Wish::Changed(at), None) => Some(at),
            (Wish::Changed(at), Some(spent)) => Some(at.max(self.allowed(spent))),
        }
    }

    /// The earliest capture that leaves the bucket above zero and half an interval between two captures.
    fn allowed(&self, spent: Spent) -> Instant {
        let token = spent.full.checked_sub(self.interval).unwrap_or(spent.last);
        token.max(spent.last + self.interval / 2)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const FPS: u32 = 30;
    const INTERVAL: Duration = Duration::from_nanos(1_000_000_000_u64.div_ceil(FPS as u64));

    /// Captures as soon as it is due, up to `until`; returns the times.
    fn run(pacer: &mut CapturePacer, until: Instant) -> Vec<Instant> {
        let mut captures = Vec::new();
        while let Some(due) = pacer.poll_timeout().filter(|due| *due <= until) {
            pacer.handle_capture(due);
            captures.push(due);
        }
        captures
    }

    #[test]
    fn first_change_after_quiet_is_captured_at_once() {
        let start = Instant::now();
        let mut pacer = CapturePacer::new(FPS);
        assert_eq!(pacer.poll_timeout(), None);
        for second in 0..3 {
            let at = start + Duration::from_secs(second);
            pacer.handle_change(at);
            assert_eq!(run(&mut pacer, at), [at]);
            assert_eq!(pacer.poll_timeout(), None);
        }
    }

    #[test]
    fn second_half_of_a_redraw_follows_after_half_an_interval() {
        let start = Instant::now();
        let mut pacer = CapturePacer::new(FPS);
        pacer.handle_change(start);
        pacer.handle_capture(start);
        pacer.handle_change(start + Duration::from_millis(3));
        assert_eq!(pacer.poll_timeout(), Some(start + INTERVAL / 2));
        pacer.handle_capture(start + INTERVAL / 2);
        pacer.handle_change(start + INTERVAL / 2 + Duration::from_millis(1));
        assert_eq!(pacer.poll_timeout(), Some(start + INTERVAL), "the burst is one capture");
    }

    #[test]
    fn a_late_capture_does_not_lower_the_rate() {
        let start = Instant::now();
        let mut pacer = CapturePacer::new(FPS);
        let (mut now, mut count) = (start, 0);
        while now < start + Duration::from_secs(10) {
            pacer.handle_change(now);
            now = pacer.poll_timeout().unwrap().max(now) + Duration::from_millis(4);
            pacer.handle_capture(now);
            count += 1;
        }
        assert!((299..=302).contains(&count), "{count} captures in 10 s");
    }

    #[test]
    fn force_is_not_held_back() {
        let start = Instant::now();
        let mut pacer = CapturePacer::new(FPS);
        pacer.handle_change(start);
        pacer.handle_capture(start);
        pacer.handle_change(start);
        pacer.force(start + Duration::from_millis(1));
        assert_eq!(pacer.poll_timeout(), Some(start + Duration::from_millis(1)));
        for _ in 0..100 {
            pacer.handle_capture(start + Duration::from_millis(1));
            pacer.force(start + Duration::from_millis(1));
        }
        pacer.handle_capture(start + Duration::from_millis(1));
        pacer.handle_change(start + Duration::from_millis(2));
        assert!(
            pacer.poll_timeout().unwrap() <= start + Duration::from_millis(1) + INTERVAL,
            "no debt beyond the bucket"
        );
    }

    /// Numbers that only look random (xorshift), the same in each run.
    struct Dice(u64);

    impl Dice {
        fn roll(&mut self, below: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0 % below
        }
    }

    #[test]
    fn random_changes_keep_the_rate_and_lose_nothing() {
        for seed in 1..=50 {
            let mut dice = Dice(u64::wrapping_mul(seed, 0x9e37_79b9_7f4a_7c15));
            let fps = 1 + dice.roll(60) as u32;
            let mut pacer = CapturePacer::new(fps);
            let interval = pacer.interval;
            let mut now = Instant::now();
            let (mut captures, mut last_change) = (Vec::new(), now);
            for _ in 0..2_000 {
                let calm = if dice.roll(20) == 0 { 2_000_000 } else { 20_000 };
                now += Duration::from_micros(dice.roll(calm));
                captures.extend(run(&mut pacer, now));
                pacer.handle_change(now);
                last_change = now;
                assert!(pacer.poll_timeout().unwrap() <= now + interval, "a change waits at most one interval");
            }
            captures.extend(run(&mut pacer, now + Duration::from_secs(5)));
            assert!(*captures.last().unwrap() >= last_change, "the last change was lost");
            for (i, first) in captures.iter().enumerate() {
                let within = captures[i..].iter().take_while(|at| **at < *first + Duration::from_secs(1)).count();
                assert!(within <= fps as usize + 1, "{within} captures in one second at {fps} fps");
                if let Some(next) = captures.get(i + 1) {
                    assert!(*next - *first >= interval / 2);
                }
            }
        }
    }
}
