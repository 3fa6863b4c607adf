//! One rung on the worker's thread: its canvas, its codec while somebody watches, and its schedule.

use std::time::{Duration, Instant};

use super::{EncoderCounters, WorkerConfig};
use crate::clock::MediaTime;
use crate::encoder::novelty::Novelty;
use crate::encoder::picture::{Encoded, EncoderError};
use crate::encoder::quantiser::Activity;
use crate::encoder::schedule::{Change, Plan, Schedule, Verdict, Work};
use crate::encoder::video::VideoEncoder;
use crate::encoder::{AccessUnit, Bitrate};
use crate::frame::canvas::Canvas;
use crate::frame::coded::Coded;
use crate::frame::{Damage, Frame, Size};
use crate::hooks::{self, Fault};
use crate::trouble::{Passed, Trouble};

/// Where a codec fails within this time after another did, the next one has to wait for as long.
const RETRY: Duration = Duration::from_secs(1);
/// The least distance of two units' timestamps: one tick of 1 ms that no rounding joins.
const TICK: Duration = Duration::from_millis(1);

/// The codec's life.
enum Codecs {
    /// Nobody watches.
    Off,
    /// It is made with the next picture, but not before this instant.
    Due(Instant),
    /// It runs.
    On(VideoEncoder),
}

/// The state of one rung.
pub(super) struct Rung {
    config: WorkerConfig,
    canvas: Canvas,
    novelty: Novelty,
    codec: Codecs,
    schedule: Schedule,
    /// The last unit was passed on as it was recorded.
    is_passing: bool,
    counters: EncoderCounters,
    at_start: EncoderCounters,
    failed: Option<Instant>,
    trouble: Trouble,
    captured: Instant,
    last_stamp: Option<Instant>,
    epoch: Instant,
}

impl Rung {
    /// Makes a rung that nobody watches; an odd canvas is rounded up.
    pub(super) fn new(mut config: WorkerConfig, now: Instant) -> Self {
        config.canvas = even(config.canvas);
        Self {
            config,
            canvas: Canvas::new(config.canvas, config.fit),
            novelty: Novelty::new(config.canvas),
            codec: Codecs::Off,
            schedule: Schedule::new(config.codec, config.bitrate, config.fps, now),
            is_passing: false,
            counters: EncoderCounters::default(),
            at_start: EncoderCounters::default(),
            failed: None,
            trouble: Trouble::default(),
            captured: now,
            last_stamp: None,
            epoch: now,
        }
    }

    pub(super) fn counters(&self) -> EncoderCounters {
        self.counters
    }

    pub(super) fn set_active(&mut self, active: bool, now: Instant) {
        match (active, &self.codec) {
            (true, Codecs::Off) => {
                self.codec = Codecs::Due(now);
                self.at_start = self.counters;
                // Not one pixel of what was shown before is for who watches now.
                self.canvas = Canvas::new(self.config.canvas, self.config.fit);
                self.novelty = Novelty::new(self.config.canvas);
                self.schedule.handle_start();
                self.is_passing = false;
                tracing::info!(rung = %self.name(), "encoder started");
            }
            (false, Codecs::Due(_) | Codecs::On(_)) => {
                self.codec = Codecs::Off;
                let (units, keyframes, bytes) = (
                    self.counters.units - self.at_start.units,
                    self.counters.keyframes - self.at_start.keyframes,
                    self.counters.bytes - self.at_start.bytes,
                );
                tracing::info!(rung = %self.name(), units, keyframes, bytes, "encoder stopped");
            }
            _ => {}
        }
    }

    pub(super) fn set_bitrate(&mut self, bitrate: Bitrate, now: Instant) {
        if bitrate != self.config.bitrate {
            tracing::debug!(rung = %self.name(), from = self.config.bitrate.0, to = bitrate.0, "rate changed");
            self.config.bitrate = bitrate;
            self.schedule.set_rate(bitrate, now);
        }
    }

    pub(super) fn set_fps(&mut self, fps: u32, now: Instant) {
        if fps == self.config.fps {
            return;
        }
        tracing::debug!(rung = %self.name(), from = self.config.fps, to = fps, "frames a second changed");
        self.config.fps = fps;
        self.schedule.set_fps(fps);
        if let Codecs::On(_) = self.codec {
            self.codec = Codecs::Due(now);
            self.schedule.handle_restart();
        }
    }

    pub(super) fn request_keyframe(&mut self, asked: Instant) {
        self.schedule.request_keyframe(asked);
    }

    pub(super) fn handle_frame(&mut self) {
        self.schedule.handle_frame();
    }

    /// What is to be encoded now; nothing while nobody watches or the codec may not be made again yet.
    pub(super) fn poll(&self, now: Instant) -> Option<Work> {
        match self.codec {
            Codecs::Off => None,
            Codecs::Due(at) if now < at => None,
            Codecs::Due(_) | Codecs::On(_) => self.schedule.poll(now),
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match self.codec {
            Codecs::Off => None,
            Codecs::Due(at) if self.schedule.poll(at).is_some() => Some(at),
            Codecs::Due(at) => self.schedule.poll_timeout().map(|next| next.max(at)),
            Codecs::On(_) => self.schedule.poll_timeout(),
        }
    }

    /// The unit of a picture that is passed on as it was recorded.
    pub(super) fn pass(&mut self, coded: &Coded, captured: Instant, now: Instant) -> AccessUnit {
        if !std::mem::replace(&mut self.is_passing, true) {
            tracing::debug!(rung = %self.name(), "what was recorded is passed on as it is");
            self.codec = Codecs::Due(now);
        }
        self.captured = captured;
        let (stamp, bytes) = (self.stamp(Work::Change, now), coded.data.len());
        self.schedule.handle_passed(now, bytes, coded.keyframe);
        self.counters.passed += 1;
        self.count(bytes, coded.keyframe, false);
        self.last_stamp = Some(stamp);
        AccessUnit {
            codec: self.config.codec,
            data: coded.data.clone(),
            keyframe: coded.keyframe,
            captured: stamp,
            sample: 0,
        }
    }

    /// Whether the last unit was passed on.
    pub(super) fn is_passing(&self) -> bool {
        self.is_passing
    }

    /// Whether a picture is to be encoded though others are passed on: a keyframe that a viewer needs, or the last picture where no other comes.
    pub(super) fn wants_encoding(&self, now: Instant) -> bool {
        self.schedule.poll(now).is_some()
    }

    /// When that is next to be asked.
    pub(super) fn encoding_at(&self) -> Option<Instant> {
        self.schedule.poll_timeout()
    }

    /// Nothing is passed on any more: the next picture is a keyframe, `seen` (what the viewers see) or a frame that comes.
    pub(super) fn handle_left(&mut self, seen: Option<&Frame>) {
        tracing::debug!(rung = %self.name(), "pictures are encoded again");
        self.is_passing = false;
        self.novelty = Novelty::new(self.config.canvas);
        if let Some(frame) = seen {
            self.canvas.compose(frame);
        }
        self.schedule.handle_restart();
    }

    /// Does `work`; `None` where nothing came of it.
    pub(super) fn encode(&mut self, work: Work, frame: Option<&Frame>) -> Option<AccessUnit> {
        let begun = Instant::now();
        let damage = frame.map_or_else(Damage::none, |frame| {
            self.captured = frame.captured;
            self.canvas.compose(frame)
        });
        if work == Work::Change && damage.is_empty() && self.schedule.drop_change() {
            return None;
        }
        let stamp = self.stamp(work, begun);
        let unit = self.attempt(work, &damage, stamp);
        let took = begun.elapsed();
        self.counters.encode_time += took;
        self.counters.recent_time = (self.counters.recent_time * 7 + took) / 8;
        match unit {
            Ok(unit) => {
                if let Some(Passed { lasted, times }) = self.trouble.poll_passed(begun) {
                    let lasted_s = lasted.as_secs_f64();
                    tracing::info!(rung = %self.name(), times, lasted_s, "the encoder works again");
                }
                Some(unit)
            }
            Err(error) => {
                if self.trouble.handle_failure(begun) {
                    tracing::warn!(rung = %self.name(), %error, "the encoder failed; new ones are made until one works");
                }
                let again = self.failed.is_some_and(|failed| begun < failed + RETRY);
                self.codec = Codecs::Due(if again { begun + RETRY } else { begun });
                self.failed = Some(begun);
                self.counters.restarts += 1;
                self.schedule.handle_restart();
                None
            }
        }
    }

    fn attempt(&mut self, work: Work, damage: &Damage, stamp: Instant) -> Result<AccessUnit, EncoderError> {
        let planes = self.canvas.i420();
        let change =
            Change { activity: Activity::within(planes, damage), difference: self.novelty.observe(planes, damage) };
        let (plan, unit) = self.once(work, change, stamp)?;
        let (plan, unit, fault) = match self.judge(&plan, &unit) {
            Verdict::Send { fault } => (plan, unit, fault),
            Verdict::Redo => {
                tracing::debug!(rung = %self.name(), bytes = unit.data.len(), "too large, encoded again as a keyframe");
                let (plan, unit) = self.once(Work::Repeat, change, stamp)?;
                let fault = self.judge(&plan, &unit) != Verdict::Send { fault: false };
                (plan, unit, fault)
            }
        };
        let (bytes, qp) = (unit.data.len(), plan.order.qp.0);
        tracing::trace!(bytes, keyframe = unit.keyframe, qp, psnr = ?unit.luma_psnr, "unit");
        self.count(bytes, unit.keyframe, fault);
        self.last_stamp = Some(stamp);
        Ok(AccessUnit {
            codec: self.config.codec,
            data: unit.data,
            keyframe: unit.keyframe,
            captured: stamp,
            sample: 0,
        })
    }

    /// Encodes the canvas once.
    fn once(&mut self, work: Work, change: Change, stamp: Instant) -> Result<(Plan, Encoded), EncoderError> {
        let (planes, now) = (self.canvas.i420(), Instant::now());
        let plan = self.schedule.plan(now, work, change, || Activity::whole(planes));
        let at = MediaTime(u64::try_from(stamp.saturating_duration_since(self.epoch).as_nanos()).unwrap_or(u64::MAX));
        let mut encoder = match std::mem::replace(&mut self.codec, Codecs::Due(now)) {
            Codecs::On(encoder) if encoder.has(plan.tool) => encoder,
            _ => {
                let WorkerConfig { codec, canvas, bitrate, fps, .. } = self.config;
                VideoEncoder::new(codec, canvas, plan.tool, bitrate, fps)?
            }
        };
        hooks::hang_if_asked(Fault::EncodeHang);
        if hooks::is_asked(Fault::EncodeError) {
            return Err(EncoderError::Nothing("a test"));
        }
        let unit = encoder.encode(planes, at, plan.tool, plan.order);
        self.codec = Codecs::On(encoder);
        Ok((plan, unit?))
    }

    fn judge(&mut self, plan: &Plan, unit: &Encoded) -> Verdict {
        self.schedule.handle_unit(Instant::now(), plan, unit.data.len(), unit.keyframe, unit.luma_psnr)
    }

    fn count(&mut self, bytes: usize, keyframe: bool, fault: bool) {
        self.counters.units += 1;
        self.counters.keyframes += u64::from(keyframe);
        self.counters.bytes += bytes as u64;
        self.counters.faults += u64::from(fault);
        if fault {
            tracing::debug!(rung = %self.name(), bytes, "unit over four frame budgets");
        }
    }

    /// The unit's timestamp: a change has its frame's, a repeat that of its making; they never go back.
    fn stamp(&self, work: Work, begun: Instant) -> Instant {
        let own = match work {
            Work::Change => self.captured,
            Work::Repeat => begun,
        };
        self.last_stamp.map_or(own, |last| own.max(last + TICK))
    }

    fn name(&self) -> String {
        format!("{} {}", self.config.codec, self.config.canvas)
    }
}

/// The size of the canvas: 4:2:0 has no odd extents.
pub(super) fn even(size: Size) -> Size {
    Size::new(size.width.next_multiple_of(2), size.height.next_multiple_of(2))
}
