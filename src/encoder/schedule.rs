//! What a rung's worker encodes next, when, and how: changes first, then keyframes asked for, then refinement.
//!
//! Owns the decisions of one rung (rules 3 to 5); never pixels, threads or the codec. A core: `now` is an argument.
//!
//! What comes of it at 1080p30 and 2.5 Mbit/s, measured on a page of 15 px prose and 13 px code that fills the screen:
//! a new page is a keyframe of 140 to 160 kB at 33 to 36 dB (0.45 to 0.5 s at the rate, legible at once), at 45 dB
//! after 0.9 to 1.0 s; a terminal of 238 x 72 characters, which takes 0.7 MB at 40 dB however it is encoded, starts with
//! 0.24 to 0.31 MB and is at 38 dB after 3 s. Scrolling by 16 to 60 rows 20 times a second sends each step, at 35 dB
//! and 1.5 to 2.2 Mbit/s; its start costs a keyframe where the tool changes. A key typed costs 150 to 400 bytes at 47 dB.

use std::time::{Duration, Instant};

use super::keyframe::KeyframeGate;
use super::novelty::Difference;
use super::picture::{Order, Qp, Tool};
use super::quantiser::{Activity, CostModel, SHARP};
use super::rate::{Bits, RateDebt};
use super::refine::Refinement;
use super::{Bitrate, Codec};

/// The coarsest quantiser of a picture that is no keyframe: past it text can't be read, and fewer frames serve better.
const COARSEST: Qp = Qp(40);
/// The coarsest quantiser of an ordinary keyframe, and of one that would stall its viewers for `KEYFRAME_STALL`.
const COARSEST_KEYFRAME: Qp = Qp(36);
const COARSEST_STALLING: Qp = Qp(42);
/// How much of the rate's time an ordinary keyframe takes, and the most that a keyframe may.
const KEYFRAME_TIME: Duration = Duration::from_millis(450);
const KEYFRAME_STALL: Duration = Duration::from_millis(800);
/// The size of a refinement, in frame budgets.
const REFINEMENT_BUDGETS: f64 = 3.4;
/// How long nothing must have scrolled before a keyframe changes back to the quicker tool.
const CALM: Duration = Duration::from_secs(30);
/// The least time from one change of tools, which costs a keyframe, to the next.
const SETTLED: Duration = Duration::from_secs(5);
/// A picture that has this much new is a new page, if no other large change came shortly before it.
const NEW_PAGE: f32 = 0.5;
const ISOLATED: Duration = Duration::from_millis(300);
/// A picture that has this much of the one before elsewhere is scrolled.
const SCROLLED: f32 = 0.2;
/// After so many new pictures in a row it is a film: the search for scrolling finds nothing and takes very long.
const FILM: u32 = 4;
/// How much finer than the one before a large change may be encoded: what is gained in one step is lost in the next.
const FINER_STEP: u8 = 2;
/// The coarsest quantiser of a scrolled picture: each is made of the one before, and a coarser one would wear it out.
const COARSEST_SCROLL: Qp = Qp(32);
/// `Tool::Screen` leaves what has only moved as it is unless it is this much coarser than the picture.
const SCREEN_SKIPS: u8 = 5;
/// What of a scrolled picture costs as if it were new.
const MOVED_COST: f32 = 0.05;
/// A change is large if it could cost this many frame budgets.
const LARGE_BUDGETS: f64 = 4.0;

/// The longest time without a unit.
///
/// Chromium 156 asks for a keyframe 3 s after the last frame that it could decode, as long as a packet came within 5 s before: each still
/// screen would cost keyframes for ever. A unit in which every block is skipped costs a few dozen bytes and keeps it quiet.
const PULSE: Duration = Duration::from_millis(2_400);

/// Which pixels are to be encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// The frame that waits.
    Change,
    /// The picture that was encoded last, again.
    Repeat,
}

/// What has changed in a picture.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Change {
    /// How much the changed parts vary.
    pub activity: Activity,
    /// Whether they are new.
    pub difference: Difference,
}

/// Why a picture is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    Change,
    Keyframe,
    Refinement,
    Pulse,
}

/// How a picture is to be encoded, and what was known when that was decided.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// What the encoder is told.
    pub order: Order,
    /// Which tool encodes it; with H.264 it differs from the last picture's only for a keyframe.
    pub tool: Tool,
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
    /// It is too large for a picture that is no keyframe: drop it and encode the same picture again, as a keyframe.
    Redo,
}

/// The decisions of one rung.
#[derive(Debug)]
pub struct Schedule {
    /// The tool may differ from one picture to the next; else its change takes a keyframe.
    free_tool: bool,
    gate: KeyframeGate,
    debt: RateDebt,
    intra: CostModel,
    delta: CostModel,
    delta_known: bool,
    refinement: Refinement,
    tool: Tool,
    /// When the tool was last changed for what it had to encode.
    tool_changed: Option<Instant>,
    /// The last large change would have changed the tool, had the gate been open.
    tool_waits: bool,
    /// When a change could last have cost a lot.
    last_large: Option<Instant>,
    /// When something last scrolled.
    last_scroll: Option<Instant>,
    /// How many large changes in a row were new.
    new_in_a_row: u32,
    /// The activity of the last keyframe.
    whole: Activity,
    /// The quantiser of the last large change.
    large_qp: Qp,
    /// A frame waits.
    waiting: bool,
    /// There is a picture that can be repeated.
    has_picture: bool,
    /// When the last unit was made.
    last_unit: Option<Instant>,
    /// The encoder knows no picture: the next one is a keyframe, whatever the gate says.
    fresh: bool,
    /// The last unit was not made here, but passed on as it was recorded: there is nothing to refine.
    passed: bool,
}

impl Schedule {
    /// Starts with nothing to encode.
    pub fn new(codec: Codec, rate: Bitrate, fps: u32, now: Instant) -> Self {
        Self {
            free_tool: codec == Codec::Vp8,
            gate: KeyframeGate::new(),
            debt: RateDebt::new(rate, fps, now),
            intra: CostModel::new(),
            delta: CostModel::new(),
            delta_known: false,
            refinement: Refinement::new(),
            tool: Tool::Camera,
            tool_changed: None,
            tool_waits: false,
            last_large: None,
            last_scroll: None,
            new_in_a_row: 0,
            whole: Activity::default(),
            large_qp: SHARP,
            waiting: false,
            has_picture: false,
            last_unit: None,
            fresh: true,
            passed: false,
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

    /// Changes how many frames a second there are at most.
    pub fn set_fps(&mut self, fps: u32) {
        self.debt.set_fps(fps);
    }

    /// Somebody watches again: no picture from before is repeated, and no frame from before waits.
    pub fn handle_start(&mut self) {
        self.has_picture = false;
        self.waiting = false;
        self.handle_restart();
    }

    /// The encoder was made anew: it knows no picture.
    pub fn handle_restart(&mut self) {
        self.fresh = true;
    }

    /// Notes a unit of `bytes` bytes that was passed on as it was recorded: it counts as those that are made here do.
    pub fn handle_passed(&mut self, now: Instant, bytes: usize, keyframe: bool) {
        self.debt.sent(now, Bits::from_bytes(bytes), true);
        self.last_unit = Some(now);
        self.has_picture = true;
        self.waiting = false;
        self.fresh = false;
        self.passed = true;
        if keyframe {
            self.gate.made(now);
        }
    }

    /// What is to be encoded now, if anything.
    pub fn poll(&self, now: Instant) -> Option<Work> {
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if self.waiting && (self.fresh || self.debt.ready() <= now || due(self.gate.poll_timeout())) {
            return Some(Work::Change);
        }
        let repeat = self.fresh || due(self.gate.poll_timeout()) || due(self.refinement_at()) || due(self.pulse_at());
        (self.has_picture && !self.waiting && repeat).then_some(Work::Repeat)
    }

    /// When `poll` is next to be called if nothing happens before.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let frame = self.waiting.then(|| self.debt.ready());
        let still = self.has_picture && !self.waiting;
        let repeat = if still { [self.refinement_at(), self.pulse_at()] } else { [None; 2] };
        let keyframe = if self.has_picture || self.waiting { self.gate.poll_timeout() } else { None };
        [frame, keyframe].into_iter().chain(repeat).flatten().min()
    }

    /// Drops the frame that waited because nothing in it has changed; `false` where there is no other to repeat.
    pub fn drop_change(&mut self) -> bool {
        self.waiting &= !self.has_picture;
        self.has_picture
    }

    /// Decides how the picture is encoded; `change` is what has changed in it, `whole` the activity of all of it.
    pub fn plan(&mut self, now: Instant, work: Work, change: Change, whole: impl FnOnce() -> Activity) -> Plan {
        self.passed = false;
        if self.free_tool {
            self.tool = Tool::Camera;
        }
        if work == Work::Change {
            self.waiting = false;
            self.has_picture = true;
            self.choose_tool(now, change);
        }
        if self.gate.poll(now) || self.fresh {
            if self.last_scroll.is_none_or(|last| now >= last + CALM) {
                self.tool = Tool::Camera;
            }
            let activity = whole();
            self.whole = activity;
            self.large_qp = self.keyframe_qp(activity);
            return self.planned(Reason::Keyframe, self.large_qp, activity);
        }
        if work == Work::Change {
            return self.plan_change(now, change);
        }
        if self.refinement_at().is_none_or(|at| at > now) {
            // So coarse that what is left to gain is not worth a bit: every block is skipped.
            return self.planned(Reason::Pulse, COARSEST, Activity::default());
        }
        let target = Bits(self.debt.frame_budget().0 * REFINEMENT_BUDGETS);
        self.planned(Reason::Refinement, self.refinement.next_qp(target, &self.intra), Activity::default())
    }

    /// Chooses the tool for a large change; where that is another one and not free, and for a new page, a keyframe is due.
    /// Neither passes a closed gate.
    fn choose_tool(&mut self, now: Instant, Change { activity, difference }: Change) {
        self.tool_waits = false;
        if !self.could_be_large(activity) {
            return;
        }
        let isolated = self.last_large.replace(now).is_none_or(|last| now >= last + ISOLATED);
        let open = self.gate.is_open(now);
        let settled = self.tool_changed.is_none_or(|last| now >= last + SETTLED);
        let new = difference.novel >= NEW_PAGE;
        self.new_in_a_row = if new { self.new_in_a_row + 1 } else { 0 };
        let scrolled = difference.moved >= SCROLLED;
        if scrolled {
            self.last_scroll = Some(now);
        }
        if self.free_tool && scrolled {
            self.tool = Tool::Screen;
        }
        let other = match self.tool {
            _ if self.free_tool => self.tool,
            Tool::Camera if scrolled => Tool::Screen,
            Tool::Screen if self.new_in_a_row >= FILM => Tool::Camera,
            same => same,
        };
        self.tool_waits = other != self.tool && settled && !open && !self.fresh;
        if other != self.tool && settled && !self.tool_waits {
            self.tool = other;
            self.tool_changed = Some(now);
            self.fresh = true;
        } else if new && isolated && open && self.debt.affords_keyframe(now) {
            self.fresh = true;
        }
    }

    fn planned(&self, reason: Reason, qp: Qp, activity: Activity) -> Plan {
        let refine = reason == Reason::Refinement;
        let (keyframe, still) = (reason == Reason::Keyframe, reason == Reason::Pulse);
        let order = Order { qp, keyframe, refine, still, measure: refine && qp <= SHARP };
        Plan { order, tool: self.tool, reason, activity }
    }

    /// Plans the finest quantiser at which a change, and what it would refine elsewhere, costs what it may.
    fn plan_change(&mut self, now: Instant, change: Change) -> Plan {
        let large = self.could_be_large(change.activity);
        let Difference { moved, novel } = change.difference;
        let target = self.debt.allowance(now);
        let mut activity = change.activity;
        let mut finest = if large { self.large_qp.0.saturating_sub(FINER_STEP).max(SHARP.0) } else { SHARP.0 };
        let mut coarsest = COARSEST.0;
        let mut refines = true;
        if self.tool == Tool::Screen && moved >= SCROLLED {
            activity.0 *= f64::from((novel + MOVED_COST * moved) / (novel + moved));
            let kept = self.refinement.coarsest().0.saturating_sub(SCREEN_SKIPS);
            coarsest = COARSEST_SCROLL.0.max(kept);
            finest = self.large_qp.0.saturating_sub(1).max(kept).clamp(SHARP.0, coarsest);
            refines = false;
        }
        let cost = |qp: Qp| {
            let extra = if refines { self.refinement.extra_cost(qp, &self.intra).0 } else { 0.0 };
            self.delta.size(activity, qp).0 + extra
        };
        let qp = (finest..coarsest).map(Qp).find(|qp| cost(*qp) <= target.0).unwrap_or(Qp(coarsest));
        if large {
            self.large_qp = qp;
        }
        self.planned(Reason::Change, qp, activity)
    }

    fn could_be_large(&self, changed: Activity) -> bool {
        self.intra.size(changed, COARSEST_KEYFRAME).0 > LARGE_BUDGETS * self.debt.frame_budget().0
    }

    /// Notes what became of a plan: a unit of `bytes` bytes whose luma PSNR is `luma_psnr`, if that was measured.
    pub fn handle_unit(
        &mut self,
        now: Instant,
        plan: &Plan,
        bytes: usize,
        keyframe: bool,
        luma_psnr: Option<f32>,
    ) -> Verdict {
        let (size, qp) = (Bits::from_bytes(bytes), plan.order.qp);
        let extra = self.refinement.extra_cost(qp, &self.intra);
        if plan.reason == Reason::Change {
            self.delta.learn(plan.activity, qp, Bits((size.0 - extra.0).max(size.0 / 4.0)));
            self.delta_known = true;
        }
        let too_large = !keyframe && self.debt.is_fault(size);
        let near_keyframe = size.0 * 2.0 > self.intra.size(self.whole, self.keyframe_qp(self.whole)).0;
        let page = too_large && near_keyframe && plan.reason == Reason::Change;
        // Where the tool for it was free, a scrolled picture is made of the one before, and no keyframe is better.
        let found = self.free_tool && plan.tool == Tool::Screen;
        if page && !found && self.gate.is_open(now) && self.debt.affords_keyframe(now) {
            self.fresh = true;
            return Verdict::Redo;
        }
        // Like a keyframe's, the debt of a refinement makes what follows smaller, and holds back no change.
        // Each step of a scroll costs as much as a page until its tool may be taken: those wait for their bits.
        let page = page && !self.tool_waits && self.debt.affords_page(now);
        let patient = keyframe || plan.reason == Reason::Refinement || page;
        self.debt.sent(now, size, patient);
        self.last_unit = Some(now);
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
            Reason::Change => {
                let coded = self.intra.activity(size, qp).0.min(plan.activity.0);
                self.refinement.handle_change(now, qp, Activity(coded), keyframe);
            }
            Reason::Refinement => self.refinement.handle_refined(now, qp, size, luma_psnr, &self.intra),
            Reason::Pulse => {}
        }
        Verdict::Send { fault: too_large }
    }

    /// Whether the viewers' picture is as good as it gets.
    pub fn is_sharp(&self) -> bool {
        self.refinement.is_sharp()
    }

    fn refinement_at(&self) -> Option<Instant> {
        self.refinement.poll_timeout().filter(|_| !self.passed).map(|at| at.max(self.debt.at_leisure()))
    }

    fn pulse_at(&self) -> Option<Instant> {
        self.last_unit.map(|last| last + PULSE)
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

#[cfg(test)]
mod tests;
