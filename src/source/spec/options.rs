//! The options of a layer: `?key=value&key`.

use std::time::Duration;

use super::{Kind, Wrong, number, parse_size};
use crate::config::one_line;
use crate::frame::Size;
use crate::frame::overlay::{Corner, Extent, Placement};

/// The most pictures a second.
const FPS_MAX: u32 = 120;
/// No lesson is longer.
const LONGEST: Duration = Duration::from_secs(1000 * 3600);

/// What was written behind the question mark.
#[derive(Debug, Default)]
pub(super) struct Options {
    pub(super) size: Option<Size>,
    pub(super) fps: Option<u32>,
    looped: bool,
    start: Option<Duration>,
    corner: Option<Corner>,
    width: Option<Extent>,
    margin: Option<Extent>,
}

impl Options {
    pub(super) fn parse(text: &str) -> Result<Self, Wrong> {
        let mut options = Self::default();
        for option in text.split('&').filter(|option| !option.is_empty()) {
            let (key, value) = option.split_once('=').map_or((option, None), |(key, value)| (key, Some(value)));
            let written = || one_line(option);
            let wrong = |advice: &str| (format!("'{}' can't be understood", written()), format!("write {advice}"));
            let twice = || (format!("{} is there twice", one_line(key)), "write it once".to_owned());
            let value_of = |advice: &'static str| value.filter(|value| !value.is_empty()).ok_or_else(|| wrong(advice));
            match key {
                "size" => {
                    let advice = "size=WxH, as size=1280x720";
                    let size = parse_size(value_of(advice)?).ok_or_else(|| wrong(advice))?;
                    set(&mut options.size, size).ok_or_else(twice)?;
                }
                "fps" => {
                    let advice = "fps=N, from 1 to 120";
                    let fps = number(value_of(advice)?).filter(|fps| (1..=FPS_MAX).contains(fps));
                    set(&mut options.fps, fps.ok_or_else(|| wrong(advice))?).ok_or_else(twice)?;
                }
                "loop" if value.is_none() => options.looped = true,
                "start" => {
                    let advice = "start=SECONDS or start=MINUTES:SECONDS, as start=90 or start=1:30";
                    let start = time(value_of(advice)?).ok_or_else(|| wrong(advice))?;
                    set(&mut options.start, start).ok_or_else(twice)?;
                }
                "at" => {
                    let advice = "at=top-left, at=top-right, at=bottom-left or at=bottom-right";
                    let value = value_of(advice)?;
                    let corner = Corner::ALL.iter().find(|(name, _)| *name == value);
                    let (_, corner) = corner.ok_or_else(|| wrong(advice))?;
                    set(&mut options.corner, *corner).ok_or_else(twice)?;
                }
                "width" | "margin" => {
                    let advice = "a part of the picture's width, to 100%, or pixels, as width=25% and margin=20";
                    let extent = parse_extent(value_of(advice)?).ok_or_else(|| wrong(advice))?;
                    if key == "width" && matches!(extent, Extent::Percent(0) | Extent::Pixels(0)) {
                        return Err(wrong(advice));
                    }
                    let place = if key == "width" { &mut options.width } else { &mut options.margin };
                    set(place, extent).ok_or_else(twice)?;
                }
                _ => {
                    let found = format!("no option is called '{}'", written());
                    let all = "there are loop and start= of files, size= of cameras and the pattern, fps= of all that moves, and at=, width= and margin= of what follows a +";
                    return Err((found, all.to_owned()));
                }
            }
        }
        Ok(options)
    }

    pub(super) fn take_loop(&mut self) -> bool {
        std::mem::take(&mut self.looped)
    }

    pub(super) fn take_start(&mut self) -> Duration {
        self.start.take().unwrap_or_default()
    }

    /// Checks that what is left makes sense for a layer of this kind.
    pub(super) fn take_size_and_fps(&mut self, kind: &Kind) -> Result<(), Wrong> {
        let alone = |option: &str| (format!("{option} is of files alone"), "leave it out".to_owned());
        if self.looped {
            return Err(alone("loop"));
        }
        if self.start.is_some() {
            return Err(alone("start="));
        }
        if self.size.is_some() && !matches!(kind, Kind::Camera(_) | Kind::Pattern) {
            let advice = "leave it out; --size says how large the picture is that is sent";
            return Err(("size= is of cameras and the pattern".to_owned(), advice.to_owned()));
        }
        if let (Some(size), Kind::Pattern) = (self.size, kind)
            && !size.can_be_sent()
        {
            let (least, most) = (Size::SMALLEST_SENT, Size::LARGEST_SENT);
            return Err((format!("a pattern of {size}"), format!("write a size from {least} to {most}")));
        }
        if self.fps.is_some() && matches!(kind, Kind::Image(_) | Kind::Off) {
            return Err((format!("{kind} does not move"), "leave fps= out".to_owned()));
        }
        Ok(())
    }

    /// Whether anything says where the layer stands.
    pub(super) fn is_placed(&self) -> bool {
        self.corner.is_some() || self.width.is_some() || self.margin.is_some()
    }

    pub(super) fn placement(&self) -> Placement {
        let usual = Placement::default();
        Placement {
            corner: self.corner.unwrap_or(usual.corner),
            width: self.width.unwrap_or(usual.width),
            margin: self.margin.unwrap_or(usual.margin),
        }
    }
}

/// Sets what is not set yet.
fn set<T>(place: &mut Option<T>, value: T) -> Option<()> {
    place.is_none().then(|| *place = Some(value))
}

/// An extent as it is written.
pub(super) fn extent(extent: Extent) -> String {
    match extent {
        Extent::Percent(percent) => format!("{percent}%"),
        Extent::Pixels(pixels) => pixels.to_string(),
    }
}

fn parse_extent(text: &str) -> Option<Extent> {
    match text.strip_suffix('%') {
        Some(percent) => {
            number(percent).filter(|percent| *percent <= 100).map(|percent| Extent::Percent(percent as u8))
        }
        None => number(text).map(Extent::Pixels),
    }
}

/// Seconds, minutes and seconds, or hours, minutes and seconds; seconds may have a fraction.
fn time(text: &str) -> Option<Duration> {
    let mut parts = text.rsplit(':');
    let seconds = parts.next()?;
    let plain = !seconds.is_empty() && seconds.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let seconds: f64 = plain.then(|| seconds.parse().ok()).flatten()?;
    let mut all = Duration::try_from_secs_f64(seconds).ok()?;
    for (part, unit) in parts.by_ref().take(2).zip([60, 3600]) {
        all += Duration::from_secs(u64::from(number(part)?) * unit);
    }
    (parts.next().is_none() && all < LONGEST).then_some(all)
}
