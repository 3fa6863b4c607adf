//! Predicts what a picture costs from how much its changed parts vary, and learns from what it did cost.
//!
//! Owns the model, never time or debt. Sharp edges make text's size fall slowly with the quantiser, so one slope for
//! all content is wrong at both ends; the level is learned anew from each picture, which mends the slope where it is used.

use super::picture::Qp;
use super::rate::Bits;
use crate::frame::colour::I420;
use crate::frame::{Damage, Rect};

/// The finest quantiser in ordinary use: dense text is at 45 dB there.
pub const SHARP: Qp = Qp(20);
/// Quantiser steps that halve a picture's size: six for film, fifteen for text.
const STEPS_PER_HALF: f64 = 10.0;
/// The quantiser at which levels are kept.
const MIDDLE: f64 = 26.0;
/// What a picture costs in which nothing has changed.
const EMPTY: f64 = 2_000.0;
/// How far one picture moves the level, in the logarithm.
const WEIGHT: f64 = 0.6;
/// Bits at the middle quantiser per unit of activity of a picture predicted from nothing (measured on pages of text).
const INTRA_LEVEL: f64 = 0.11;

/// How much a picture varies from pixel to pixel where it has changed: what makes it cost bits.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default)]
pub struct Activity(pub f64);

impl Activity {
    /// Sums the differences between neighbouring luma pixels inside `damage`, on every second row.
    pub fn within(planes: &I420, damage: &Damage) -> Self {
        Self(damage.rects().iter().map(|rect| differences(planes, rect.clipped(planes.size)) as f64).sum())
    }

    /// That of the whole picture.
    pub fn whole(planes: &I420) -> Self {
        Self(differences(planes, Rect::whole(planes.size)) as f64)
    }
}

fn differences(planes: &I420, rect: Rect) -> u64 {
    let stride = planes.size.width as usize;
    let (left, width) = (rect.x as usize, rect.width as usize);
    if width < 2 {
        return 0;
    }
    let rows = (rect.y as usize..(rect.y + rect.height) as usize).step_by(2);
    rows.map(|row| {
        let start = row * stride + left;
        let here = &planes.y[start..start + width];
        let across = sum_of_differences(&here[1..], &here[..width - 1]);
        let below = planes.y.get(start + stride..start + stride + width);
        across + below.map_or(0, |below| sum_of_differences(here, below))
    })
    .sum()
}

fn sum_of_differences(a: &[u8], b: &[u8]) -> u64 {
    // Short runs keep the sum in 32 bits, which the compiler turns into SIMD.
    let runs = a.chunks(4096).zip(b.chunks(4096));
    runs.map(|(a, b)| u64::from(a.iter().zip(b).map(|(a, b)| u32::from(a.abs_diff(*b))).sum::<u32>())).sum()
}

/// Predicts sizes of one kind of picture.
#[derive(Debug, Clone, Copy)]
pub struct CostModel {
    level: f64,
}

impl CostModel {
    /// Starts from what text costs without prediction.
    pub fn new() -> Self {
        Self { level: INTRA_LEVEL }
    }

    /// What a picture of `activity` costs at `qp`.
    pub fn size(&self, activity: Activity, qp: Qp) -> Bits {
        Bits(EMPTY + self.level * activity.0 * ((MIDDLE - f64::from(qp.0)) / STEPS_PER_HALF).exp2())
    }

    /// The finest quantiser from `finest` to `coarsest` at which a picture of `activity` costs at most `target`.
    pub fn qp(&self, activity: Activity, target: Bits, finest: Qp, coarsest: Qp) -> Qp {
        let room = (target.0 - EMPTY).max(EMPTY);
        let exact = MIDDLE + STEPS_PER_HALF * (self.level * activity.0 / room).max(f64::MIN_POSITIVE).log2();
        Qp((exact.ceil().clamp(f64::from(finest.0), f64::from(coarsest.0))) as u8)
    }

    /// How much activity a picture of `size` at `qp` has encoded.
    pub fn activity(&self, size: Bits, qp: Qp) -> Activity {
        let each = self.level * ((MIDDLE - f64::from(qp.0)) / STEPS_PER_HALF).exp2();
        Activity((size.0 - EMPTY).max(0.0) / each)
    }

    /// Learns what a picture did cost.
    pub fn learn(&mut self, activity: Activity, qp: Qp, size: Bits) {
        if activity.0 < 1.0 || (size.0 < 2.0 * EMPTY && self.size(activity, qp).0 < 4.0 * EMPTY) {
            return;
        }
        let scale = ((MIDDLE - f64::from(qp.0)) / STEPS_PER_HALF).exp2();
        let seen =
            ((size.0 - EMPTY).max(EMPTY / 4.0) / (activity.0 * scale)).clamp(INTRA_LEVEL / 300.0, INTRA_LEVEL * 3.0);
        self.level = self.level.powf(1.0 - WEIGHT) * seen.powf(WEIGHT);
    }
}

impl Default for CostModel {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::encoder::scenes;
    use crate::frame::Size;

    #[test]
    fn activity_is_that_of_the_damage() {
        let size = Size::new(320, 240);
        let mut page = scenes::paper(size);
        assert_eq!(Activity::whole(&page), Activity(0.0));
        scenes::glyph(&mut page, &mut scenes::Dice::new(1), 100, 100);
        let around = |x, y| {
            let mut damage = Damage::none();
            damage.add(Rect { x, y, width: 20, height: 20 });
            Activity::within(&page, &damage)
        };
        assert!(around(96, 96).0 > 0.0);
        assert_eq!(around(96, 96), Activity::whole(&page));
        assert_eq!(around(200, 20), Activity(0.0));
        assert_eq!(around(318, 238), Activity(0.0), "clipped");
    }

    #[test]
    fn the_model_learns_what_pictures_cost() {
        let mut model = CostModel::new();
        let activity = Activity(1e7);
        for qp in [30, 36, 33, 28, 40, 31, 33, 35, 29, 30] {
            // A picture that costs a third of what text does, with another slope.
            let size = Bits(0.3 * 0.11 * activity.0 * ((26.0 - f64::from(qp)) / 8.0).exp2());
            model.learn(activity, Qp(qp), size);
        }
        let predicted = model.size(activity, Qp(30)).0 / (0.3 * 0.11 * activity.0 * (-0.5f64).exp2());
        assert!((0.6..1.6).contains(&predicted), "{predicted} of the true size");
        let qp = model.qp(activity, model.size(activity, Qp(34)), SHARP, Qp(40));
        assert!((33..=35).contains(&qp.0), "{qp:?}");
        assert_eq!(model.qp(Activity(0.0), Bits(1e5), SHARP, Qp(40)), SHARP);
        assert_eq!(model.qp(Activity(1e12), Bits(1e5), SHARP, Qp(40)), Qp(40));
    }
}
