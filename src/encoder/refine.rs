//! Refinement (rule 4): a screen that stands still is encoded again, ever finer, until it is sharp; then nothing flows.
//!
//! Owns how coarse the viewers' picture is and when to improve it; never what else has to be sent first, nor what the
//! rate leaves for it (`schedule`).
//! A core: `now` is an argument.

use std::time::{Duration, Instant};

use super::picture::Qp;
use super::quantiser::{Activity, CostModel, SHARP};
use super::rate::Bits;

/// How long nothing must change before refinement starts: longer than the gaps of a scroll at 20 changes a second, so
/// that it takes no time and no bits from them.
pub const QUIET: Duration = Duration::from_millis(70);
/// Luma PSNR, in dB, at which a picture counts as sharp.
pub const SHARP_PSNR: f32 = 45.0;
/// The finest quantiser that is tried where `SHARP` did not reach that.
const FINEST: Qp = Qp(14);
/// The part of a whole encoding that one step of the quantiser costs, before it is learned.
const STEP_SHARE: f64 = 0.10;

/// How far the picture that viewers see is from the source.
#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    /// As good as it gets.
    Sharp,
    /// Parts that vary as much as `activity` were last encoded as coarsely as `qp`.
    Coarse { qp: Qp, activity: Activity },
}

/// Sharpens a picture after its last change.
#[derive(Debug)]
pub struct Refinement {
    state: State,
    step_share: f64,
    not_before: Option<Instant>,
}

impl Refinement {
    /// Starts with nothing to refine.
    pub fn new() -> Self {
        Self { state: State::Sharp, step_share: STEP_SHARE, not_before: None }
    }

    /// Whether there is nothing left to improve.
    pub fn is_sharp(&self) -> bool {
        self.state == State::Sharp
    }

    /// Notes that a picture was encoded at `qp`, parts of it that vary as much as `coded` anew; a keyframe is all new.
    pub fn handle_change(&mut self, now: Instant, qp: Qp, coded: Activity, keyframe: bool) {
        self.not_before = Some(now + QUIET);
        self.state = match self.state {
            _ if qp <= SHARP && !keyframe => State::Sharp,
            // What is coded anew is as coarse as this picture, the rest as it was: their mean tells what it costs.
            State::Coarse { qp: before, activity } if !keyframe && qp >= before => {
                let sum = (activity.0 + coded.0).max(1.0);
                let mean = (f64::from(before.0) * activity.0 + f64::from(qp.0) * coded.0) / sum;
                State::Coarse { qp: Qp((mean.ceil() as u8).clamp(before.0, qp.0)), activity: Activity(sum) }
            }
            // A finer picture refines the rest too.
            State::Coarse { activity, .. } if !keyframe => {
                State::Coarse { qp, activity: Activity(activity.0.max(coded.0)) }
            }
            State::Coarse { .. } | State::Sharp => State::Coarse { qp, activity: coded },
        };
    }

    /// How coarse the coarsest parts are, or were when they were last refined.
    pub fn coarsest(&self) -> Qp {
        match self.state {
            State::Sharp => SHARP,
            State::Coarse { qp, .. } => qp,
        }
    }

    /// What encoding at `qp` costs on top of a change, because it refines what was coarser.
    pub fn extra_cost(&self, qp: Qp, whole: &CostModel) -> Bits {
        match self.state {
            State::Coarse { qp: before, activity } if qp < before => {
                Bits(whole.size(activity, qp).0 * f64::from(before.0 - qp.0) * self.step_share)
            }
            _ => Bits(0.0),
        }
    }

    /// When the next refinement may be made; `None` where the picture is sharp.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.is_sharp() { None } else { self.not_before }
    }

    /// The quantiser of the next refinement: as fine as `target` lets it be; `whole` predicts pictures made from nothing.
    pub fn next_qp(&self, target: Bits, whole: &CostModel) -> Qp {
        let State::Coarse { qp, .. } = self.state else { return SHARP };
        if qp <= SHARP {
            return Qp(qp.0.saturating_sub(2).max(FINEST.0));
        }
        let first = qp.0.saturating_sub(1).max(SHARP.0);
        let affordable = |next: &u8| self.extra_cost(Qp(*next), whole) <= target;
        Qp((SHARP.0..=first).find(affordable).unwrap_or(first))
    }

    /// Notes that a refinement at `qp` cost `size` and what it reached.
    pub fn handle_refined(&mut self, now: Instant, qp: Qp, size: Bits, luma_psnr: Option<f32>, whole: &CostModel) {
        self.not_before = Some(now);
        let State::Coarse { qp: before, activity } = self.state else { return };
        let predicted = whole.size(activity, qp).0 * f64::from(before.0.saturating_sub(qp.0));
        // The first step from a coarse picture rounds to little: that says nothing of the next.
        if predicted > 0.0 && size.0 > predicted * self.step_share / 4.0 {
            self.step_share = (0.5 * self.step_share + 0.5 * size.0 / predicted).clamp(0.02, 1.0);
        }
        let good = luma_psnr.is_none_or(|psnr| psnr >= SHARP_PSNR);
        self.state = if qp <= SHARP && (good || qp <= FINEST) { State::Sharp } else { State::Coarse { qp, activity } };
    }
}

impl Default for Refinement {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const TARGET: Bits = Bits(250_000.0);
    const PAGE: Activity = Activity(1.5e7);

    /// Refines until the picture is sharp; the quantisers on the way.
    fn refine(refinement: &mut Refinement, mut now: Instant, luma_psnr: f32) -> Vec<u8> {
        let whole = CostModel::new();
        let mut steps = Vec::new();
        while let Some(at) = refinement.poll_timeout() {
            now = now.max(at);
            let qp = refinement.next_qp(TARGET, &whole);
            steps.push(qp.0);
            refinement.handle_refined(now, qp, TARGET, (qp <= SHARP).then_some(luma_psnr), &whole);
            assert!(steps.len() < 40, "it never ends: {steps:?}");
        }
        steps
    }

    #[test]
    fn it_goes_down_to_the_sharp_quantiser_and_stops() {
        let now = Instant::now();
        let mut refinement = Refinement::new();
        assert!(refinement.poll_timeout().is_none());
        refinement.handle_change(now, Qp(36), PAGE, true);
        assert_eq!(refinement.poll_timeout(), Some(now + QUIET));
        let steps = refine(&mut refinement, now, 46.0);
        assert!(steps.windows(2).all(|pair| pair[1] < pair[0]), "{steps:?}");
        assert_eq!(steps.last(), Some(&SHARP.0));
        assert!(refinement.is_sharp());
    }

    #[test]
    fn it_goes_further_where_that_is_not_sharp_yet_but_not_for_ever() {
        let now = Instant::now();
        let mut refinement = Refinement::new();
        refinement.handle_change(now, Qp(24), PAGE, true);
        assert_eq!(refine(&mut refinement, now, 40.0).last(), Some(&FINEST.0));
    }

    #[test]
    fn what_was_encoded_sharply_needs_none() {
        let now = Instant::now();
        let mut refinement = Refinement::new();
        refinement.handle_change(now, SHARP, Activity(1e4), false);
        assert!(refinement.is_sharp());
        refinement.handle_change(now, Qp(30), Activity(1e4), false);
        assert_eq!(refine(&mut refinement, now, 50.0), [SHARP.0], "a little text is sharp in one step");
    }

    #[test]
    fn a_small_coarse_part_does_not_make_all_coarse() {
        let now = Instant::now();
        let mut refinement = Refinement::new();
        refinement.handle_change(now, Qp(25), PAGE, true);
        refinement.handle_change(now, Qp(40), Activity(PAGE.0 / 100.0), false);
        assert_eq!(refinement.coarsest(), Qp(26));
        assert!(refinement.extra_cost(Qp(30), &CostModel::new()).0 == 0.0);
        assert!(refinement.extra_cost(Qp(22), &CostModel::new()).0 > 0.0);
    }
}
