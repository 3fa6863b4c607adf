//! Refinement (rule 4): a screen that stands still is encoded again, finer and finer, until it is sharp; then nothing flows.
//!
//! Owns how coarse the viewers' picture is and when to improve it; never what else has to be sent first (`schedule`).
//! A core: `now` is an argument.

use std::time::{Duration, Instant};

use super::h264::Qp;
use super::quantiser::{Activity, CostModel, SHARP};
use super::rate::Bits;

/// How long nothing must change before refinement starts: longer than the gaps of a scroll at 20 changes a second, so
/// that it takes no time and no bits from them.
pub const QUIET: Duration = Duration::from_millis(70);
/// The least time between two refinements.
const PERIOD: Duration = Duration::from_millis(30);
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

    /// Notes that parts of `activity` were encoded at `qp`; a keyframe replaces all that was known.
    pub fn handle_change(&mut self, now: Instant, qp: Qp, activity: Activity, keyframe: bool) {
        self.not_before = Some(now + QUIET);
        let (coarsest, sum) = match self.state {
            State::Coarse { qp: before, activity: part } if !keyframe => (before.max(qp), Activity(part.0 + activity.0)),
            _ => (qp, activity),
        };
        self.state = if coarsest <= SHARP && !keyframe {
            State::Sharp
        } else {
            State::Coarse { qp: coarsest, activity: sum }
        };
    }

    /// When the next refinement may be made; `None` where the picture is sharp.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.is_sharp() { None } else { self.not_before }
    }

    /// The quantiser of the next refinement: as fine as `target` lets it be, `whole` being the cost of a picture from nothing.
    pub fn next_qp(&self, target: Bits, whole: &CostModel) -> Qp {
        let State::Coarse { qp, activity } = self.state else { return SHARP };
        if qp <= SHARP {
            return Qp(qp.0.saturating_sub(2).max(FINEST.0));
        }
        let first = qp.0.saturating_sub(2).max(SHARP.0);
        let affordable = |next: &u8| {
            let steps = f64::from(qp.0 - next);
            whole.size(activity, Qp(*next)).0 * steps * self.step_share <= target.0
        };
        Qp((SHARP.0..=first).find(affordable).unwrap_or(first))
    }

    /// Notes that a refinement at `qp` cost `size` and what it reached.
    pub fn handle_refined(&mut self, now: Instant, qp: Qp, size: Bits, luma_psnr: Option<f32>, whole: &CostModel) {
        self.not_before = Some(now + PERIOD);
        let State::Coarse { qp: before, activity } = self.state else { return };
        let predicted = whole.size(activity, qp).0 * f64::from(before.0.saturating_sub(qp.0));
        if predicted > 0.0 {
            self.step_share = (0.5 * self.step_share + 0.5 * size.0 / predicted).clamp(0.02, 0.3);
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
