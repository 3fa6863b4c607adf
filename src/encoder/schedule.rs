//! What a rung's worker encodes next, when, and how: changes first, then keyframes that viewers asked for, then refinement.
//!
//! Owns the decisions of one rung (rules 3 to 5); never pixels, threads or the codec. A core: `now` is an argument.

use std::time::{Duration, Instant};

use super::Bitrate;
use super::h264::{Order, Qp};
use super::keyframe::KeyframeGate;
use super::quantiser::{Activity, CostModel, SHARP};
use super::rate::{Bits, RateDebt};
use super::refine::Refinement;

/// The coarsest quantiser of a picture that is no keyframe: past it text can't be read, and fewer frames serve better.
const COARSEST: Qp = Qp(40);
/// The coarsest quantiser of an ordinary keyframe, and of one that would stall its viewers for `KEYFRAME_STALL`.
const COARSEST_KEYFRAME: Qp = Qp(36);
const COARSEST_STALLING: Qp = Qp(42);
/// How much of the rate's time an ordinary keyframe takes, and the most that a keyframe may.
const KEYFRAME_TIME: Duration = Duration::from_millis(350);
const KEYFRAME_STALL: Duration = Duration::from_millis(800);
/// The size of a refinement, in frame budgets.
const REFINEMENT_BUDGETS: f64 = 3.0;

/// Which pixels are to be encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// The frame that waits.
    Change,
    /// The picture that was encoded last, again.
    Repeat,
}

/// Why a picture is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    Change,
    Keyframe,
    Refinement,
}

/// How a picture is to be encoded, and what was known when that was decided.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// What the encoder is told.
    pub order: Order,
    reason: Reason,
    activity: Activity,
}

/// What is to be done with an encoded unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It goes to the viewers.
    Send {
        /// Whether it is larger than a unit that is no keyframe may be.
        fault: bool,
    },
    /// It is too large for a picture that is no keyframe: drop it and encode the same picture again, as one.
    Redo,
}

/// The decisions of one rung.
#[derive(Debug)]
pub struct Schedule {
    gate: KeyframeGate,
    debt: RateDebt,
    intra: CostModel,
    delta: CostModel,
    delta_known: bool,
    refinement: Refinement,
    /// A frame waits.
    waiting: bool,
    /// There is a picture that can be repeated.
    has_picture: bool,
    /// The encoder knows no picture: the next one is a keyframe, whatever the gate says.
    fresh: bool,
}

impl Schedule {
    /// Starts with nothing to encode.
    pub fn new(rate: Bitrate, fps: u32, now: Instant) -> Self {
        Self {
            gate: KeyframeGate::new(),
            debt: RateDebt::new(rate, fps, now),
            intra: CostModel::new(),
            delta: CostModel::new(),
            delta_known: false,
            refinement: Refinement::new(),
            waiting: false,
            has_picture: false,
            fresh: true,
        }
    }

    /// A frame waits.
    pub fn handle_frame(&mut self) {
        self.waiting = true;
    }

    /// A viewer needs a keyframe.
    pub fn request_keyframe(&mut self, now: Instant) {
        self.gate.request(now);
    }

    /// The rung's rate changes.
    pub fn set_rate(&mut self, rate: Bitrate, now: Instant) {
        self.debt.set_rate(rate, now);
    }

    /// The encoder was made anew: it knows no picture.
    pub fn handle_restart(&mut self) {
        self.fresh = true;
    }

    /// What is to be encoded now, if anything.
    pub fn poll(&self, now: Instant) -> Option<Work> {
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if self.waiting && (self.fresh || self.debt.ready() <= now || due(self.gate.poll_timeout())) {
            return Some(Work::Change);
        }
        let repeat = self.fresh || due(self.gate.poll_timeout()) || due(self.refinement_at());
        (self.has_picture && !self.waiting && repeat).then_some(Work::Repeat)
    }

    /// When `poll` is next to be called if nothing happens before.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let frame = self.waiting.then(|| self.debt.ready());
        let repeat = if self.has_picture && !self.waiting { self.refinement_at() } else { None };
        let keyframe = if self.has_picture || self.waiting { self.gate.poll_timeout() } else { None };
        [frame, repeat, keyframe].into_iter().flatten().min()
    }

    /// Decides how the picture is encoded; `changed` is the activity of what has changed in it, `whole` that of all of it.
    pub fn plan(&mut self, now: Instant, work: Work, changed: Activity, whole: impl FnOnce() -> Activity) -> Plan {
        if work == Work::Change {
            self.waiting = false;
            self.has_picture = true;
        }
        let requested = self.gate.poll(now);
        if self.fresh || requested {
            let activity = whole();
            let order = Order { qp: self.keyframe_qp(activity), keyframe: true, measure: false };
            return Plan { order, reason: Reason::Keyframe, activity };
        }
        if work == Work::Change {
            let qp = self.delta.qp(changed, self.debt.allowance(now), SHARP, COARSEST);
            let order = Order { qp, keyframe: false, measure: false };
            return Plan { order, reason: Reason::Change, activity: changed };
        }
        let target = Bits(self.debt.frame_budget().0 * REFINEMENT_BUDGETS);
        let qp = self.refinement.next_qp(target, &self.intra);
        let order = Order { qp, keyframe: false, measure: qp <= SHARP };
        Plan { order, reason: Reason::Refinement, activity: Activity::default() }
    }

    /// Notes what became of a plan: a unit of `bytes` bytes whose luma PSNR is `luma_psnr`, if that was measured.
    pub fn handle_unit(&mut self, now: Instant, plan: &Plan, bytes: usize, keyframe: bool, luma_psnr: Option<f32>) -> Verdict {
        let (size, qp) = (Bits::from_bytes(bytes), plan.order.qp);
        if plan.reason == Reason::Change {
            self.delta.learn(plan.activity, qp, size);
            self.delta_known = true;
        }
        let too_large = !keyframe && self.debt.is_fault(size);
        if too_large && plan.reason == Reason::Change && self.gate.is_open(now) {
            self.fresh = true;
            return Verdict::Redo;
        }
        self.debt.sent(now, size, keyframe);
        if keyframe {
            self.fresh = false;
            self.gate.made(now);
        }
        match plan.reason {
            Reason::Keyframe => {
                self.intra.learn(plan.activity, qp, size);
                if !self.delta_known {
                    self.delta = self.intra;
                }
                self.refinement.handle_change(now, qp, plan.activity, true);
            }
            Reason::Change => self.refinement.handle_change(now, qp, plan.activity, keyframe),
            Reason::Refinement => self.refinement.handle_refined(now, qp, size, luma_psnr, &self.intra),
        }
        Verdict::Send { fault: too_large }
    }

    /// Whether the viewers' picture is as good as it gets.
    pub fn is_sharp(&self) -> bool {
        self.refinement.is_sharp()
    }

    fn refinement_at(&self) -> Option<Instant> {
        self.refinement.poll_timeout().map(|at| at.max(self.debt.at_leisure()))
    }

    fn keyframe_qp(&self, activity: Activity) -> Qp {
        let quick = self.intra.qp(activity, self.debt.earned_in(KEYFRAME_TIME), SHARP, COARSEST_KEYFRAME);
        let most = self.debt.earned_in(KEYFRAME_STALL);
        if self.intra.size(activity, quick) <= most {
            return quick;
        }
        self.intra.qp(activity, most, COARSEST_KEYFRAME, COARSEST_STALLING)
    }
}
