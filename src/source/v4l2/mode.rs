//! Modes: which of a camera's formats, sizes and rates is taken.
//!
//! A pure core over what a driver enumerates (V4L2: `VIDIOC_ENUM_FMT`, `VIDIOC_ENUM_FRAMESIZES`, `VIDIOC_ENUM_FRAMEINTERVALS`).
//! It never asks a device.

use std::cmp::Ordering;
use std::fmt;

use crate::frame::Size;

/// What is taken at most where nobody wishes for a size: what a camera beside a screen, or a teacher's face, needs.
const UNASKED: Size = Size::new(1280, 720);
/// Sizes past this are a driver's nonsense.
const LARGEST: u32 = 16_384;
/// So many formats that can't be shown are named.
const MOST_OTHERS: usize = 8;
/// A rate that is short of the asked one by less is the asked one: 29.97 for 30.
const NEARLY: f64 = 0.98;

/// How a camera lays out its pictures; the first ones are preferred.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Pixels {
    /// Packed 4:2:2.
    Yuyv,
    /// Planar luma, interleaved chroma, 4:2:0.
    Nv12,
    /// Planar 4:2:0.
    I420,
    /// Packed 4:2:2, chroma first.
    Uyvy,
    /// Three bytes, blue first.
    Bgr,
    /// Three bytes, red first.
    Rgb,
    /// A JPEG picture each.
    Mjpeg,
    /// The same by the code for single pictures.
    Jpeg,
}

impl Pixels {
    /// All that can be shown.
    pub(super) const ALL: [Self; 8] =
        [Self::Yuyv, Self::Nv12, Self::I420, Self::Uyvy, Self::Bgr, Self::Rgb, Self::Mjpeg, Self::Jpeg];

    /// The code that the kernel has for it.
    pub(super) fn code(self) -> [u8; 4] {
        match self {
            Self::Yuyv => *b"YUYV",
            Self::Nv12 => *b"NV12",
            Self::I420 => *b"YU12",
            Self::Uyvy => *b"UYVY",
            Self::Bgr => *b"BGR3",
            Self::Rgb => *b"RGB3",
            Self::Mjpeg => *b"MJPG",
            Self::Jpeg => *b"JPEG",
        }
    }

    /// What the kernel's code means; `None` where it can't be shown.
    pub(super) fn from_code(code: [u8; 4]) -> Option<Self> {
        Self::ALL.into_iter().find(|pixels| pixels.code() == code)
    }

    /// Whether each picture is a JPEG.
    pub(super) fn is_compressed(self) -> bool {
        matches!(self, Self::Mjpeg | Self::Jpeg)
    }
}

impl fmt::Display for Pixels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mjpeg => f.write_str("MJPEG"),
            other => f.write_str(&name(other.code())),
        }
    }
}

/// A format's code for people.
pub(super) fn name(code: [u8; 4]) -> String {
    let printable = |byte: u8| if byte.is_ascii_graphic() { char::from(byte) } else { ' ' };
    code.map(printable).iter().collect::<String>().trim_end().to_owned()
}

/// The time between two pictures, in seconds, as drivers have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Interval {
    pub(super) numerator: u32,
    pub(super) denominator: u32,
}

impl Interval {
    /// The time between two of so many pictures a second.
    pub(super) const fn of_rate(fps: u32) -> Self {
        Self { numerator: 1, denominator: if fps == 0 { 1 } else { fps } }
    }

    /// Pictures a second.
    pub(super) fn rate(self) -> f64 {
        f64::from(self.denominator) / f64::from(self.numerator.max(1))
    }
}

/// The rate: `30`, `29.97`, `7.5`.
impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{:.2}", self.rate());
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

/// The intervals that a camera has at one size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Intervals {
    /// These.
    These(Vec<Interval>),
    /// All between the two, more or less.
    Between {
        /// The least time.
        shortest: Interval,
        /// The most time.
        longest: Interval,
    },
    /// It does not say.
    Unknown,
}

impl Intervals {
    /// The interval for at least `fps` pictures a second and no more than need be, else for the most there are.
    fn best(&self, fps: u32) -> Option<Interval> {
        let asked = f64::from(fps) * NEARLY;
        match self {
            Self::These(list) => {
                let enough = list.iter().filter(|interval| interval.rate() >= asked).min_by(by_rate);
                enough.or_else(|| list.iter().max_by(by_rate)).copied()
            }
            Self::Between { shortest, .. } if shortest.rate() < f64::from(fps) => Some(*shortest),
            Self::Between { longest, .. } if longest.rate() > f64::from(fps) => Some(*longest),
            Self::Between { .. } => Some(Interval::of_rate(fps)),
            Self::Unknown => None,
        }
    }
}

fn by_rate(one: &&Interval, other: &&Interval) -> Ordering {
    one.rate().total_cmp(&other.rate())
}

/// The sizes of one entry of a driver's list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sizes {
    /// This one.
    One(Size),
    /// All between the two, in steps.
    Between {
        /// The least of both extents.
        least: Size,
        /// The most of both extents.
        most: Size,
        /// From one extent to the next.
        step: Size,
    },
}

impl Sizes {
    /// The size to take from here: the wished one, else the next larger one, else the largest; without a wish, the largest up to 1280x720.
    pub(super) fn nearest(self, wish: Option<Size>) -> Size {
        match self {
            Self::One(size) => size,
            Self::Between { least, most, step } => {
                let extent = |wished: u32, least: u32, most: u32, step: u32, is_up: bool| {
                    let (step, over) = (step.max(1), wished.saturating_sub(least));
                    let steps = if is_up { over.div_ceil(step) } else { over / step };
                    // The last step may not reach the end.
                    least + steps.min(most.saturating_sub(least) / step) * step
                };
                let (wished, is_up) = (wish.unwrap_or(UNASKED), wish.is_some());
                Size::new(
                    extent(wished.width, least.width, most.width, step.width, is_up),
                    extent(wished.height, least.height, most.height, step.height, is_up),
                )
            }
        }
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(size) => write!(f, "{size}"),
            Self::Between { least, most, .. } => write!(f, "{least} to {most}"),
        }
    }
}

/// What a camera offers at one size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Offer {
    pub(super) pixels: Pixels,
    pub(super) size: Size,
    pub(super) intervals: Intervals,
}

/// What is wished for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wish {
    /// The size, where somebody asked for one.
    pub(super) size: Option<Size>,
    /// The most pictures a second.
    pub(super) fps: u32,
}

/// What is asked of a camera.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mode {
    pub(super) pixels: Pixels,
    pub(super) size: Size,
    /// `None` where the camera does not tell what it has.
    pub(super) interval: Option<Interval>,
}

impl Mode {
    /// The mode of an offer for so many pictures a second.
    fn of(offer: &Offer, fps: u32) -> Self {
        Self { pixels: offer.pixels, size: offer.size, interval: offer.intervals.best(fps) }
    }

    /// Pictures a second; what does not tell is believed to have enough.
    fn rate(&self, fps: u32) -> f64 {
        self.interval.map_or(f64::from(fps), Interval::rate)
    }

    /// How well the rate is reached: in full, by half, less.
    fn reach(&self, fps: u32) -> u8 {
        let (rate, asked) = (self.rate(fps), f64::from(fps));
        u8::from(rate >= asked * NEARLY) + u8::from(rate >= asked / 2.0)
    }
}

/// Chooses from the offers; `None` where there is none.
///
/// The size is the wished one, else the next larger one, else the largest. Without a wish it is the largest up to 1280x720 that has the
/// rate, or half of it, else the smallest there is. At that size what is not compressed is taken where it has the rate, else JPEG where
/// that has it, else the highest rate.
pub(super) fn choose(offers: &[Offer], wish: Wish) -> Option<Mode> {
    let sane = |size: Size| (1..=LARGEST).contains(&size.width) && (1..=LARGEST).contains(&size.height);
    let modes: Vec<_> = offers.iter().filter(|offer| sane(offer.size)).map(|offer| Mode::of(offer, wish.fps)).collect();
    let size = match wish.size {
        Some(size) => asked_size(&modes, size),
        None => unasked_size(&modes, wish.fps),
    }?;
    modes.into_iter().filter(|mode| mode.size == size).min_by(|one, other| {
        // Where both have the rate, the kind decides; else the rate.
        let [reached, also] = [one, other].map(|mode| mode.reach(wish.fps) == 2);
        let by_rate = || other.rate(wish.fps).total_cmp(&one.rate(wish.fps));
        let by_reach = also.cmp(&reached);
        let by_need = if reached && also { Ordering::Equal } else { by_rate() };
        by_reach.then_with(|| by_need).then_with(|| one.pixels.cmp(&other.pixels)).then_with(by_rate)
    })
}

fn area(size: Size) -> u64 {
    u64::from(size.width) * u64::from(size.height)
}

/// The wished size, else the smallest that holds it, else the largest.
fn asked_size(modes: &[Mode], wished: Size) -> Option<Size> {
    let sizes = || modes.iter().map(|mode| mode.size);
    let holds = |size: &Size| size.width >= wished.width && size.height >= wished.height;
    sizes().filter(holds).min_by_key(|size| area(*size)).or_else(|| sizes().max_by_key(|size| area(*size)))
}

/// The largest of moderate size that has the rate as well as any, else the smallest.
fn unasked_size(modes: &[Mode], fps: u32) -> Option<Size> {
    let moderate = modes.iter().filter(|mode| mode.size.width <= UNASKED.width && mode.size.height <= UNASKED.height);
    let best = moderate.max_by_key(|mode| (mode.reach(fps), area(mode.size)));
    best.or_else(|| modes.iter().min_by_key(|mode| area(mode.size))).map(|mode| mode.size)
}

/// One format as it is told to people: `YUYV: 1280x720 at 10 fps; 640x480, 320x240 at 30, 15 fps`.
pub(super) fn describe(pixels: Pixels, entries: &[(Sizes, Intervals)]) -> String {
    let mut text = format!("{pixels}:");
    for group in entries.chunk_by(|one, other| one.1 == other.1) {
        let sizes: Vec<_> = group.iter().map(|(sizes, _)| sizes.to_string()).collect();
        let rates = match &group[0].1 {
            Intervals::These(list) => {
                let mut rates: Vec<_> = list.clone();
                rates.sort_by(|one, other| other.rate().total_cmp(&one.rate()));
                let mut rates: Vec<_> = rates.iter().map(Interval::to_string).collect();
                rates.dedup();
                format!(" at {} fps", rates.join(", "))
            }
            Intervals::Between { shortest, longest } => format!(" at {longest} to {shortest} fps"),
            Intervals::Unknown => String::new(),
        };
        let parted = if text.ends_with(':') { "" } else { ";" };
        text.push_str(&format!("{parted} {}{rates}", sizes.join(", ")));
    }
    text.trim_end_matches(':').to_owned()
}

/// The formats that can't be shown, as they are told to people; `None` where there are none.
pub(super) fn describe_others(codes: &[[u8; 4]]) -> Option<String> {
    let mut names: Vec<_> =
        codes.iter().filter(|code| Pixels::from_code(**code).is_none()).map(|code| name(*code)).collect();
    names.sort();
    names.dedup();
    let more = names.len().saturating_sub(MOST_OTHERS);
    names.truncate(MOST_OTHERS);
    match (names.is_empty(), more) {
        (true, _) => None,
        (false, 0) => Some(format!("can't be shown: {}", names.join(", "))),
        (false, more) => Some(format!("can't be shown: {}, and {more} more", names.join(", "))),
    }
}

#[cfg(test)]
mod tests;
