//! The debt of a rung (rule 3): what was sent beyond its rate, and what the next unit may therefore cost.
//!
//! Owns bits and time only, never pixels or quantisers. The debt of a keyframe or a refinement is patient: it never holds
//! back the next change; other debt does so past two frame budgets. Both are paid back by smaller units, within about a
//! second. Keyframes of the rung's own wish and new pages are made only while little is owed in all, so that in the long run
//! the rate is kept. A pause earns nothing: the account is never above zero, so no gap, however long, makes a large unit.

use std::time::{Duration, Instant};

use super::Bitrate;

/// How many frame budgets may be owed before the next picture has to wait.
const BUDGETS_OWED: f64 = 2.0;
/// An allowance is this part of what is missing to so many budgets: one budget at the full frame rate, one and a half
/// after a pause, and no swing between large and small units.
const GAIN: f64 = 0.6;
const BUDGETS_AIMED: f64 = 2.5;
/// Past this many frame budgets a unit that is no keyframe is a fault.
const BUDGETS_FAULT: f64 = 4.0;
/// The most of the rate that pays back patient debt.
const MOST_FOR_PATIENT: f64 = 0.75;
/// With more debt in all than the rate gives in this many seconds, no keyframe is made that nobody asked for; a new page
/// that is no keyframe may still be patient debt up to the second figure, and past it pictures wait until the third is reached:
/// then the page is patient again, and what is scrolled after it flows.
const SECONDS_FOR_KEYFRAME: f64 = 0.5;
const SECONDS_FOR_PAGE: f64 = 2.0;
const SECONDS_CAUGHT_UP: f64 = 1.0;
/// The least that a unit may cost, in frame budgets: below it text can't be read at any frame rate.
const LEAST_BUDGETS: f64 = 0.25;

/// An amount of encoded data.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Bits(pub f64);

impl Bits {
    /// The bits of `bytes` bytes.
    pub fn from_bytes(bytes: usize) -> Self {
        Self(bytes as f64 * 8.0)
    }
}

/// What a rung owes to its rate.
#[derive(Debug)]
pub struct RateDebt {
    rate: f64,
    fps: f64,
    ordinary: f64,
    /// Ordinary debt as if the patient debt's repayment were taken from the rate: what allowances are planned with.
    planned: f64,
    patient: f64,
    /// All that was sent beyond the rate, patient or not: what bounds the rate in the long run.
    total: f64,
    /// The last unit was a fault: the next picture waits until little is owed in all.
    catching_up: bool,
    /// The share of the rate that pays the patient debt back.
    patient_share: f64,
    at: Instant,
}

impl RateDebt {
    /// Opens an account without debt.
    pub fn new(rate: Bitrate, fps: u32, now: Instant) -> Self {
        Self {
            rate: f64::from(rate.0.max(1)),
            fps: f64::from(fps.max(1)),
            ordinary: 0.0,
            planned: 0.0,
            patient: 0.0,
            total: 0.0,
            catching_up: false,
            patient_share: 0.0,
            at: now,
        }
    }

    /// Changes the rate; what is owed stays owed.
    pub fn set_rate(&mut self, rate: Bitrate, now: Instant) {
        self.drain(now);
        self.rate = f64::from(rate.0.max(1));
    }

    /// Changes how many frames a second there are at most.
    pub fn set_fps(&mut self, fps: u32) {
        self.fps = f64::from(fps.max(1));
    }

    /// What the rate gives in `time`.
    pub fn earned_in(&self, time: Duration) -> Bits {
        Bits(self.rate * time.as_secs_f64())
    }

    /// What the rate gives for one frame.
    pub fn frame_budget(&self) -> Bits {
        Bits(self.rate / self.fps)
    }

    /// Books a unit; `patient` debt (a keyframe's, a refinement's, an affordable page's) holds back no picture.
    pub fn sent(&mut self, now: Instant, size: Bits, patient: bool) {
        self.drain(now);
        self.total += size.0;
        if patient {
            self.catching_up = false;
            self.patient += size.0;
            self.patient_share = (self.patient / self.rate).min(MOST_FOR_PATIENT);
        } else {
            self.catching_up = self.is_fault(size);
            self.ordinary += size.0;
            self.planned = (self.planned + size.0).min(self.ordinary.max(BUDGETS_AIMED * self.frame_budget().0));
        }
    }

    /// Whether a unit of `size` that is no keyframe is a fault.
    pub fn is_fault(&self, size: Bits) -> bool {
        size.0 > self.frame_budget().0 * BUDGETS_FAULT
    }

    /// What the next unit may cost so that the one after it need not wait.
    pub fn allowance(&mut self, now: Instant) -> Bits {
        self.drain(now);
        let budget = self.frame_budget().0;
        Bits((GAIN * (BUDGETS_AIMED * budget - self.planned)).max(LEAST_BUDGETS * budget))
    }

    /// When the next picture may be encoded: at once, but for ordinary debt past two frame budgets, and after a fault once little is
    /// owed in all.
    pub fn ready(&self) -> Instant {
        let excess = self.ordinary - BUDGETS_OWED * self.frame_budget().0;
        let in_all = if self.catching_up { self.total - SECONDS_CAUGHT_UP * self.rate } else { 0.0 };
        self.at + seconds(excess.max(in_all) / self.rate)
    }

    /// Whether a keyframe that no viewer asked for can be paid for.
    pub fn affords_keyframe(&mut self, now: Instant) -> bool {
        self.drain(now);
        self.total <= SECONDS_FOR_KEYFRAME * self.rate
    }

    /// Whether a new page that is no keyframe may be patient debt too.
    pub fn affords_page(&mut self, now: Instant) -> bool {
        self.drain(now);
        self.total <= SECONDS_FOR_PAGE * self.rate
    }

    /// When all debt is down to two frame budgets: what nobody waits for is not encoded earlier.
    pub fn at_leisure(&self) -> Instant {
        self.at + seconds((self.ordinary + self.patient - BUDGETS_OWED * self.frame_budget().0) / self.rate)
    }

    fn drain(&mut self, now: Instant) {
        let paid = self.rate * now.saturating_duration_since(self.at).as_secs_f64();
        self.at = self.at.max(now);
        let for_patient = if self.patient > 0.0 { paid * self.patient_share } else { 0.0 };
        let spare = (paid - self.ordinary).max(0.0);
        self.planned = (self.planned - (paid - for_patient)).max(0.0);
        self.ordinary = (self.ordinary - paid).max(0.0);
        self.patient = (self.patient - for_patient.max(spare)).max(0.0);
        self.total = (self.total - paid).max(0.0);
    }
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const RATE: Bitrate = Bitrate(2_400_000);
    const FPS: u32 = 30;
    const FRAME: Duration = Duration::from_nanos(1_000_000_000 / 30);

    #[test]
    fn a_stream_that_spends_its_allowance_keeps_the_rate_and_never_waits() {
        let start = Instant::now();
        let mut debt = RateDebt::new(RATE, FPS, start);
        let mut sent = 0.0;
        for frame in 0..300 {
            let now = start + FRAME * frame;
            assert!(debt.ready() <= now, "frame {frame} waits");
            let size = debt.allowance(now);
            debt.sent(now, size, false);
            sent += size.0;
        }
        let rate = sent / 10.0;
        assert!((2_300_000.0..2_500_000.0).contains(&rate), "{rate} bit/s");
    }

    #[test]
    fn a_keyframe_delays_nothing_and_is_paid_back_within_about_a_second() {
        let start = Instant::now();
        let mut debt = RateDebt::new(RATE, FPS, start);
        debt.sent(start, Bits(1_000_000.0), true);
        let mut sent = 1_000_000.0;
        for frame in 1..=36 {
            let now = start + FRAME * frame;
            assert!(debt.ready() <= now, "frame {frame} waits");
            let size = debt.allowance(now);
            debt.sent(now, size, false);
            sent += size.0;
        }
        assert!(sent < 2_400_000.0 * 1.3, "{sent} bits in 1.2 s");
    }

    #[test]
    fn keyframes_and_large_units_together_keep_the_rate() {
        let start = Instant::now();
        let mut debt = RateDebt::new(RATE, FPS, start);
        let (mut now, mut sent, mut units) = (start, 0.0, 0);
        let end = start + Duration::from_secs(20);
        while now < end {
            // Each change costs ten budgets, whatever it may cost; one in four is a new page that would like to be a keyframe.
            let page = units % 4 == 0;
            let keyframe = page && (debt.affords_keyframe(now) || debt.affords_page(now));
            let size = if page { 2_000_000.0 } else { 800_000.0 };
            units += 1;
            debt.sent(now, Bits(size), keyframe);
            sent += size;
            now = debt.ready().max(now + FRAME);
        }
        let rate = sent / 20.0;
        assert!(rate < 2_400_000.0 * 1.15, "{rate} bit/s in {units} units");
    }

    #[test]
    fn other_debt_delays_past_two_frame_budgets() {
        let start = Instant::now();
        let mut debt = RateDebt::new(RATE, FPS, start);
        debt.sent(start, Bits(160_000.0), false);
        assert!(debt.ready() <= start);
        debt.sent(start, Bits(240_000.0), false);
        let wait = debt.ready() - start;
        assert!((Duration::from_millis(99)..Duration::from_millis(101)).contains(&wait), "{wait:?}");
        assert!(debt.is_fault(Bits(330_000.0)) && !debt.is_fault(Bits(310_000.0)));
    }

    #[test]
    fn a_pause_earns_nothing() {
        let start = Instant::now();
        let mut debt = RateDebt::new(RATE, FPS, start);
        let before = debt.allowance(start);
        assert_eq!(debt.allowance(start + Duration::from_secs(10)), before);
    }
}
