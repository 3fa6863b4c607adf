//! From a decoded picture to one of ours: BGRX in sRGB and full range, with square pixels, upright.
//!
//! The usual formats are converted by `yuv` with the stream's own matrix and range, which FFmpeg's scaler as ac-ffmpeg wraps it can't be told; it turns the
//! unusual ones into these first, and scales where pixels are not square. It holds no clock and reads no file.

use std::ops::Range;

use ac_ffmpeg::codec::video::scaler::Algorithm;
use ac_ffmpeg::codec::video::{
    PixelFormat, VideoFrame, VideoFrameScaler,
    frame::{Plane, get_pixel_format},
};
use yuv::{YuvPlanarImage, yuv420_to_bgra, yuv422_to_bgra, yuv444_to_bgra};

use super::colours::Told;
use super::turn::Turn;
use crate::frame::Size;

/// The largest extent of a picture that is shown.
pub(in crate::source) const MOST_PIXELS: u32 = 16_384;
/// The most pixels of a picture that is shown: 256 MB of them.
pub(in crate::source) const MOST_AREA: u64 = 64 << 20;
/// Rows of frames are never longer than this, in bytes: a negative length that was taken for a positive one is.
const LONGEST_ROW: usize = 1 << 24;

/// Why a picture can't be converted.
#[derive(Debug, thiserror::Error)]
pub(in crate::source) enum PictureError {
    /// Its extent is none, or too large.
    #[error("a picture of {0}x{1}, where {MOST_PIXELS} pixels on each side and 256 MB are the most")]
    Extent(usize, usize),
    /// FFmpeg's scaler does not take it.
    #[error("pixels of the format {0} can't be converted ({1})")]
    Format(&'static str, ac_ffmpeg::Error),
    /// It is not what it says.
    #[error("a picture that is not whole ({0})")]
    Broken(String),
}

/// A way to store a picture's pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// Planes with a quarter, half or all of the colours.
    Yuv420,
    Yuv422,
    Yuv444,
    /// Red, green and blue.
    Rgb,
}

impl Layout {
    /// How pixels of this format are stored, and whether they are so already.
    fn of(format: &str) -> (Self, bool) {
        match format {
            "yuv420p" | "yuvj420p" | "yuva420p" => (Self::Yuv420, true),
            "yuv422p" | "yuvj422p" | "yuva422p" => (Self::Yuv422, true),
            "yuv444p" | "yuvj444p" | "yuva444p" => (Self::Yuv444, true),
            "bgr0" | "bgra" => (Self::Rgb, true),
            _ if format.contains("rgb") || format.contains("bgr") || format.contains("gbr") => (Self::Rgb, false),
            "pal8" | "monob" | "monow" => (Self::Rgb, false),
            _ if format.contains("444") => (Self::Yuv444, false),
            _ if format.contains("422") => (Self::Yuv422, false),
            _ => (Self::Yuv420, false),
        }
    }

    /// The format that is converted from.
    fn name(self, full: bool) -> &'static str {
        match (self, full) {
            (Self::Yuv420, false) => "yuv420p",
            (Self::Yuv420, true) => "yuvj420p",
            (Self::Yuv422, false) => "yuv422p",
            (Self::Yuv422, true) => "yuvj422p",
            (Self::Yuv444, false) => "yuv444p",
            (Self::Yuv444, true) => "yuvj444p",
            (Self::Rgb, _) => "bgr0",
        }
    }
}

/// What a picture looks like before it is converted.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Shape {
    format: PixelFormat,
    width: usize,
    height: usize,
}

/// Converts the pictures of one stream.
pub(super) struct Painter {
    told: Told,
    turn: Turn,
    scaler: Option<(Shape, VideoFrameScaler)>,
    /// A picture before it is turned.
    lying: Vec<u8>,
}

impl Painter {
    pub(super) fn new(told: Told, turn: Turn) -> Self {
        Self { told, turn, scaler: None, lying: Vec::new() }
    }

    /// The size that a decoded picture is shown in.
    ///
    /// # Errors
    /// [`PictureError::Extent`] where it has none, or too much of it.
    pub(super) fn size(&self, frame: &VideoFrame) -> Result<Size, PictureError> {
        let (width, height) = (frame.width(), frame.height());
        let extent = |pixels: usize| u32::try_from(pixels).ok().filter(|pixels| (1..=MOST_PIXELS).contains(pixels));
        let size =
            extent(width).zip(extent(height)).map(|(width, height)| square(Size::new(width, height), self.told.aspect));
        let size = size.filter(|size| u64::from(size.width) * u64::from(size.height) <= MOST_AREA);
        Ok(self.turn.turned(size.ok_or(PictureError::Extent(width, height))?))
    }

    /// Whether rows of a decoded picture become the same rows of ours, so that each can be converted by itself.
    pub(super) fn is_direct(&self, frame: &VideoFrame) -> bool {
        let (_, is_so) = Layout::of(frame.pixel_format().name());
        let as_it_is = Size::new(frame.width() as u32, frame.height() as u32);
        is_so && self.turn == Turn::None && square(as_it_is, self.told.aspect) == as_it_is
    }

    /// Converts some rows of a picture for which [`Self::is_direct`], into rows as [`Self::paint`] does; the first one's number must be even.
    ///
    /// # Errors
    /// As [`Self::paint`].
    pub(super) fn paint_rows(
        &mut self,
        frame: &VideoFrame,
        rows: Range<u32>,
        into: &mut [u8],
    ) -> Result<(), PictureError> {
        let (layout, _) = Layout::of(frame.pixel_format().name());
        convert(frame, layout, self.is_full(frame), self.told, into, self.size(frame)?, rows)
    }

    fn is_full(&self, frame: &VideoFrame) -> bool {
        let format = frame.pixel_format().name();
        // To the scaler, grey is full range whatever is said.
        format.starts_with("yuvj") || (self.told.full == Some(true) && !format.starts_with("gray"))
    }

    /// Converts a picture into rows of BGRX without a gap, as many as [`Self::size`] says.
    ///
    /// # Errors
    /// [`PictureError`] where it can't be.
    pub(super) fn paint(&mut self, frame: &VideoFrame, into: &mut [u8]) -> Result<(), PictureError> {
        let size = self.size(frame)?;
        let lying_size = self.turn.turned_back(size);
        let format = frame.pixel_format().name();
        let full = self.is_full(frame);
        let (layout, is_so) = Layout::of(format);
        let scaled = match (frame.width(), frame.height()) {
            (width, height) if is_so && lying_size == Size::new(width as u32, height as u32) => None,
            _ => Some(self.scaled(frame, layout, full, lying_size)?),
        };
        let frame = scaled.as_ref().unwrap_or(frame);
        if self.turn == Turn::None {
            return convert(frame, layout, full, self.told, into, size, 0..size.height);
        }
        let mut lying = std::mem::take(&mut self.lying);
        lying.resize(into.len(), 0);
        let converted = convert(frame, layout, full, self.told, &mut lying, lying_size, 0..lying_size.height);
        self.turn.apply(&lying, lying_size, into);
        self.lying = lying;
        converted
    }

    fn scaled(
        &mut self,
        frame: &VideoFrame,
        layout: Layout,
        full: bool,
        size: Size,
    ) -> Result<VideoFrame, PictureError> {
        let shape = Shape { format: frame.pixel_format(), width: frame.width(), height: frame.height() };
        let refused = |error| PictureError::Format(shape.format.name(), error);
        if self.scaler.as_ref().is_none_or(|(known, _)| *known != shape) {
            // Formats with a J are full range to the scaler, all others limited: so that neither is made into the other.
            let full = full && shape.format.name().starts_with("yuvj");
            let scaler = VideoFrameScaler::builder()
                .source_pixel_format(shape.format)
                .source_width(shape.width)
                .source_height(shape.height)
                .target_pixel_format(get_pixel_format(layout.name(full)))
                .target_width(size.width as usize)
                .target_height(size.height as usize)
                .algorithm(Algorithm::Bilinear)
                .build()
                .map_err(refused)?;
            self.scaler = Some((shape, scaler));
        }
        match &mut self.scaler {
            Some((_, scaler)) => scaler.scale(frame).map_err(refused),
            None => Err(PictureError::Broken("no scaler".to_owned())),
        }
    }
}

/// The size with square pixels; nothing gets smaller.
fn square(size: Size, aspect: Option<(u32, u32)>) -> Size {
    let Some((wide, high)) = aspect.filter(|(wide, high)| *wide > 0 && *high > 0 && wide != high) else {
        return size;
    };
    let stretched = |extent: u32, more: u32, less: u32| {
        let stretched = (u64::from(extent) * u64::from(more) + u64::from(less) / 2) / u64::from(less);
        stretched.clamp(1, MOST_PIXELS.into()) as u32
    };
    if wide > high {
        Size::new(stretched(size.width, wide, high), size.height)
    } else {
        Size::new(size.width, stretched(size.height, high, wide))
    }
}

/// Converts rows of a picture, the first of them an even one.
fn convert(
    frame: &VideoFrame,
    layout: Layout,
    full: bool,
    told: Told,
    into: &mut [u8],
    size: Size,
    rows: Range<u32>,
) -> Result<(), PictureError> {
    let planes = frame.planes();
    let count = if layout == Layout::Rgb { 1 } else { 3 };
    if let Some(plane) = planes.iter().take(count).find(|plane| plane.line_size() > LONGEST_ROW) {
        return Err(PictureError::Broken(format!("rows of {} bytes", plane.line_size() as isize)));
    }
    let broken = || PictureError::Broken("it has too few rows".to_owned());
    let (row, first) = (size.width as usize * 4, rows.start as usize);
    let into = into.get_mut(first * row..rows.end as usize * row).ok_or_else(broken)?;
    if layout == Layout::Rgb {
        for (from, to) in planes[0].lines().skip(first).zip(into.chunks_exact_mut(row)) {
            to.copy_from_slice(from.get(..row).ok_or_else(broken)?);
        }
        return Ok(());
    }
    let plane = |number: usize, first: usize| {
        let (data, stride) = (planes[number].data(), planes[number].line_size());
        Ok((data.get(first * stride..).ok_or_else(broken)?, stride as u32))
    };
    let first_of_colours = if layout == Layout::Yuv420 { first / 2 } else { first };
    let (y_plane, y_stride) = plane(0, first)?;
    let (u_plane, u_stride) = plane(1, first_of_colours)?;
    let (v_plane, v_stride) = plane(2, first_of_colours)?;
    let height = rows.end - rows.start;
    let image = YuvPlanarImage { y_plane, y_stride, u_plane, u_stride, v_plane, v_stride, width: size.width, height };
    let convert = match layout {
        Layout::Yuv422 => yuv422_to_bgra,
        Layout::Yuv444 => yuv444_to_bgra,
        Layout::Yuv420 | Layout::Rgb => yuv420_to_bgra,
    };
    let told = Told { full: Some(full), ..told };
    let matrix = told.matrix(frame.height());
    convert(&image, into, row as u32, told.range(), matrix).map_err(|error| PictureError::Broken(error.to_string()))
}

/// The bands of `band` rows, an even number, in which decoded pictures of one shape differ; all where their shapes do.
pub(super) fn differing_rows(before: &VideoFrame, now: &VideoFrame, band: u32) -> Vec<Range<u32>> {
    let (width, height) = (now.width(), now.height() as u32);
    let shape = |frame: &VideoFrame| (frame.pixel_format(), frame.width(), frame.height());
    if shape(before) != shape(now) {
        return std::iter::once(0..height).collect();
    }
    let (layout, _) = Layout::of(now.pixel_format().name());
    // A plane's rows are a half where it has a half of the colours, and so are their lengths.
    let (halves, planes, bytes) = match layout {
        Layout::Yuv420 => ((2, 2), 3, 1),
        Layout::Yuv422 => ((2, 1), 3, 1),
        Layout::Yuv444 => ((1, 1), 3, 1),
        Layout::Rgb => ((1, 1), 1, 4),
    };
    let (before, now) = (before.planes(), now.planes());
    let differs = |rows: &Range<u32>| {
        (0..planes).any(|number| {
            let (columns, lines) = if number == 0 { (1, 1) } else { halves };
            let length = width.div_ceil(columns) * bytes;
            let lines = rows.start as usize / lines..(rows.end as usize).div_ceil(lines);
            let (before, now): (&Plane<'_>, &Plane<'_>) = (&before[number], &now[number]);
            if before.line_size() > LONGEST_ROW || now.line_size() > LONGEST_ROW {
                return true;
            }
            let (old, new) = (before.data(), now.data());
            let row = |data: &'_ [u8], stride: usize, line: usize| -> Option<Range<usize>> {
                let range = line * stride..line * stride + length;
                (range.end <= data.len()).then_some(range)
            };
            lines.into_iter().any(|line| {
                let ranges = row(old, before.line_size(), line).zip(row(new, now.line_size(), line));
                ranges.is_none_or(|(a, b)| old[a] != new[b])
            })
        })
    };
    let bands = (0..height).step_by(band as usize).map(|first| first..(first + band).min(height));
    bands.filter(differs).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_become_square_and_none_is_lost() {
        let size = Size::new(720, 576);
        assert_eq!(square(size, Some((64, 45))), Size::new(1024, 576));
        assert_eq!(square(size, Some((1, 2))), Size::new(720, 1152));
        for aspect in [None, Some((1, 1)), Some((0, 1)), Some((3, 0))] {
            assert_eq!(square(size, aspect), size);
        }
        assert_eq!(square(size, Some((u32::MAX, 1))).width, MOST_PIXELS);
    }
}
