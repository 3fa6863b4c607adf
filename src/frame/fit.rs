//! Fitting a picture into a canvas (rule 7): sizes and coordinates, no pixels.

use super::{Rect, Size};

/// The largest canvas that is chosen unasked.
const LARGEST_UNASKED: Size = Size::new(1920, 1080);

/// The canvas for a source: `asked` where given, else the source's size, at most 1920x1080 with its aspect ratio kept.
///
/// Both extents are even, and between 16 and 3840.
pub fn canvas_size(source: Size, asked: Option<Size>) -> Size {
    let wanted = match asked {
        Some(size) => size,
        None if source.width <= LARGEST_UNASKED.width && source.height <= LARGEST_UNASKED.height => source,
        None => scaled_into(source, LARGEST_UNASKED),
    };
    Size::new(
        even_up(wanted.width.clamp(Size::SMALLEST_SENT.width, Size::LARGEST_SENT.width)),
        even_up(wanted.height.clamp(Size::SMALLEST_SENT.height, Size::LARGEST_SENT.width)),
    )
}

/// What becomes of a picture whose sides are not those of the canvas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FitMode {
    /// All of it is shown, with black bars.
    #[default]
    Letterbox,
    /// It fills the canvas; what hangs over is cut off on both sides alike.
    Crop,
    /// It fills the canvas; its sides are distorted.
    Stretch,
}

/// Where a picture of one size stands in a canvas, and how it gets there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fit {
    /// The part of the picture that is shown.
    pub view: Rect,
    /// The part of the canvas that shows the picture; all four numbers are even.
    pub content: Rect,
    /// How pixels become the content's.
    pub scale: Scale,
}

/// How a picture's pixels become the content's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// One for one; an odd last column or row is repeated.
    Exact,
    /// Resampled to the content's size.
    Resampled,
}

impl Fit {
    /// Fits `picture` into `canvas`, in the middle; `None` for a picture without pixels.
    ///
    /// A picture whose own canvas this is, is not scaled, nor cut.
    pub fn new(picture: Size, canvas: Size, mode: FitMode) -> Option<Self> {
        if picture.width == 0 || picture.height == 0 {
            return None;
        }
        match mode {
            FitMode::Crop if canvas_size(picture, Some(picture)) != canvas => {
                Some(Self::filling(cut(picture, canvas), canvas))
            }
            FitMode::Stretch if canvas_size(picture, Some(picture)) != canvas => {
                Some(Self::filling(Rect::whole(picture), canvas))
            }
            _ => Some(Self::letterboxed(picture, canvas)),
        }
    }

    /// Shows `view` all over the canvas.
    fn filling(view: Rect, canvas: Size) -> Self {
        let scale = if view.size() == canvas { Scale::Exact } else { Scale::Resampled };
        Self { view, content: Rect::whole(canvas), scale }
    }

    fn letterboxed(picture: Size, canvas: Size) -> Self {
        let exact = Size::new(even_up(picture.width), even_up(picture.height));
        let fits = exact.width <= canvas.width && exact.height <= canvas.height;
        let (size, scale) = if fits && canvas_size(picture, Some(picture)) == canvas {
            (exact, Scale::Exact)
        } else {
            let fitted = scaled_into(picture, canvas);
            let size = Size::new(even_in(fitted.width, canvas.width), even_in(fitted.height, canvas.height));
            (size, if size == picture { Scale::Exact } else { Scale::Resampled })
        };
        let (x, y) = (((canvas.width - size.width) / 2) & !1, ((canvas.height - size.height) / 2) & !1);
        Self { view: Rect::whole(picture), content: Rect { x, y, width: size.width, height: size.height }, scale }
    }

    /// Picture pixels per canvas pixel, across and down.
    pub fn ratio(&self) -> (f64, f64) {
        match self.scale {
            Scale::Exact => (1.0, 1.0),
            Scale::Resampled => (
                f64::from(self.view.width) / f64::from(self.content.width),
                f64::from(self.view.height) / f64::from(self.content.height),
            ),
        }
    }

    /// The canvas pixels that a change of `damaged` picture pixels reaches, extended to even borders.
    pub fn reached(&self, damaged: Rect) -> Rect {
        let (across, down) = self.ratio();
        let damaged = damaged.intersection(self.seen(across, down));
        if damaged.is_empty() {
            return damaged;
        }
        let within = |at: u32, start: u32| f64::from(at) - f64::from(start);
        let (left, right) = self.reached_span(within(damaged.x, self.view.x), damaged.width, across);
        let (top, bottom) = self.reached_span(within(damaged.y, self.view.y), damaged.height, down);
        self.covering(left, top, right, bottom)
    }

    /// The part of the picture that is looked at: filters see a little beyond what is shown.
    fn seen(&self, across: f64, down: f64) -> Rect {
        if self.scale == Scale::Exact {
            return self.view;
        }
        let margin = |ratio: f64| ratio.max(1.0).ceil() as u32 + 1;
        let (x, y) = (self.view.x.saturating_sub(margin(across)), self.view.y.saturating_sub(margin(down)));
        let right = self.view.x + self.view.width + margin(across);
        let bottom = self.view.y + self.view.height + margin(down);
        Rect { x, y, width: right - x, height: bottom - y }
    }

    /// One axis of [`Self::reached`], in pixels of the content.
    fn reached_span(&self, start: f64, length: u32, ratio: f64) -> (i64, i64) {
        let end = start + f64::from(length);
        match self.scale {
            Scale::Exact => (start as i64, end as i64),
            Scale::Resampled => {
                // The filters used reach one pixel, of the coarser grid, to each side.
                let support = ratio.max(1.0);
                (((start - support) / ratio).floor() as i64 - 1, ((end + support) / ratio).ceil() as i64 + 1)
            }
        }
    }

    /// The even-bordered canvas rectangle that covers this span of the content's pixels, clipped to the content.
    pub fn covering(&self, left: i64, top: i64, right: i64, bottom: i64) -> Rect {
        let (width, height) = (i64::from(self.content.width), i64::from(self.content.height));
        let (left, right) = (left.clamp(0, width) & !1, (right.clamp(0, width) + 1) & !1);
        let (top, bottom) = (top.clamp(0, height) & !1, (bottom.clamp(0, height) + 1) & !1);
        Rect {
            x: self.content.x + left as u32,
            y: self.content.y + top as u32,
            width: (right - left).max(0) as u32,
            height: (bottom - top).max(0) as u32,
        }
    }
}

/// The largest part in the middle of `picture` that has the canvas's aspect ratio; at least a pixel.
fn cut(picture: Size, canvas: Size) -> Rect {
    let Size { width, height } = scaled_into(canvas, picture);
    let (width, height) = (width.clamp(1, picture.width), height.clamp(1, picture.height));
    Rect { x: (picture.width - width) / 2, y: (picture.height - height) / 2, width, height }
}

/// The largest size with the aspect ratio of `size` inside `limit`.
fn scaled_into(size: Size, limit: Size) -> Size {
    let (width, height) = (u64::from(size.width), u64::from(size.height));
    let (most_wide, most_high) = (u64::from(limit.width), u64::from(limit.height));
    let (width, height) = if width * most_high >= height * most_wide {
        (most_wide, (height * most_wide + width / 2) / width.max(1))
    } else {
        ((width * most_high + height / 2) / height.max(1), most_high)
    };
    Size::new(width as u32, height as u32)
}

pub(super) fn even_up(extent: u32) -> u32 {
    extent + (extent & 1)
}

/// `extent` rounded up to even, at least 2 and at most `limit` (which is even).
pub(super) fn even_in(extent: u32, limit: u32) -> u32 {
    even_up(extent).clamp(2, limit)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn canvas_sizes_are_even_and_bounded() {
        for (source, asked, canvas) in [
            ((1920, 1080), None, (1920, 1080)),
            ((1365, 767), None, (1366, 768)),
            ((3840, 2160), None, (1920, 1080)),
            ((3440, 1440), None, (1920, 804)),
            ((1080, 1920), None, (608, 1080)),
            ((10, 8), None, (16, 16)),
            ((30_000, 10), None, (1920, 16)),
            ((0, 0), None, (16, 16)),
            ((1920, 1080), Some((1281, 719)), (1282, 720)),
            ((1920, 1080), Some((1, 1)), (16, 16)),
            ((640, 480), Some((100_000, 100_000)), (3840, 3840)),
        ] {
            let got = canvas_size(Size::new(source.0, source.1), asked.map(|(w, h)| Size::new(w, h)));
            assert_eq!(got, Size::new(canvas.0, canvas.1), "{source:?} asked {asked:?}");
        }
    }

    #[test]
    fn pictures_keep_their_aspect_and_stand_in_the_middle() {
        for (picture, canvas, (x, y, width, height), scale) in [
            ((1920, 1080), (1920, 1080), (0, 0, 1920, 1080), Scale::Exact),
            ((1365, 767), (1366, 768), (0, 0, 1366, 768), Scale::Exact),
            ((11, 8), (16, 16), (2, 4, 12, 8), Scale::Exact),
            ((3840, 2160), (1920, 1080), (0, 0, 1920, 1080), Scale::Resampled),
            ((1024, 768), (1920, 1080), (240, 0, 1440, 1080), Scale::Resampled),
            ((640, 480), (1920, 1080), (240, 0, 1440, 1080), Scale::Resampled),
            ((1920, 100), (1280, 720), (0, 326, 1280, 68), Scale::Resampled),
            ((30_000, 10), (1920, 16), (0, 6, 1920, 2), Scale::Resampled),
            ((1366, 100), (1366, 768), (0, 334, 1366, 100), Scale::Exact),
        ] {
            let fit =
                Fit::new(Size::new(picture.0, picture.1), Size::new(canvas.0, canvas.1), FitMode::Letterbox).unwrap();
            assert_eq!(fit.content, Rect { x, y, width, height }, "{picture:?} in {canvas:?}");
            assert_eq!(fit.scale, scale, "{picture:?} in {canvas:?}");
        }
        for mode in [FitMode::Letterbox, FitMode::Crop, FitMode::Stretch] {
            assert_eq!(Fit::new(Size::new(0, 5), Size::new(16, 16), mode), None);
        }
    }

    #[test]
    fn what_fills_the_canvas_is_cut_in_the_middle_or_distorted() {
        for (picture, canvas, (x, y, width, height), scale) in [
            ((1920, 1080), (1920, 1080), (0, 0, 1920, 1080), Scale::Exact),
            ((1365, 767), (1366, 768), (0, 0, 1365, 767), Scale::Exact),
            ((1024, 768), (1920, 1080), (0, 96, 1024, 576), Scale::Resampled),
            ((3840, 1080), (1920, 1080), (960, 0, 1920, 1080), Scale::Exact),
            ((1, 1000), (16, 16), (0, 499, 1, 1), Scale::Resampled),
        ] {
            let (picture, canvas) = (Size::new(picture.0, picture.1), Size::new(canvas.0, canvas.1));
            let fit = Fit::new(picture, canvas, FitMode::Crop).unwrap();
            assert_eq!((fit.view, fit.scale), (Rect { x, y, width, height }, scale), "{picture} in {canvas}");
            assert_eq!(fit.content, Rect::whole(canvas));
            let stretched = Fit::new(picture, canvas, FitMode::Stretch).unwrap();
            assert_eq!((stretched.view, stretched.content), (Rect::whole(picture), Rect::whole(canvas)));
        }
        let fit = Fit::new(Size::new(3840, 1080), Size::new(1920, 1080), FitMode::Crop).unwrap();
        assert!(fit.reached(Rect { x: 0, y: 0, width: 960, height: 1080 }).is_empty(), "what is cut off is not seen");
        assert_eq!(fit.reached(Rect { x: 950, y: 2, width: 14, height: 2 }), Rect { x: 0, y: 2, width: 4, height: 2 });
    }

    #[test]
    fn damage_reaches_even_borders_inside_the_content() {
        let fit = Fit::new(Size::new(1365, 767), Size::new(1366, 768), FitMode::Letterbox).unwrap();
        let corner = fit.reached(Rect { x: 1364, y: 766, width: 50, height: 50 });
        assert_eq!(corner, Rect { x: 1364, y: 766, width: 2, height: 2 });
        assert_eq!(fit.reached(Rect { x: 3, y: 5, width: 2, height: 1 }), Rect { x: 2, y: 4, width: 4, height: 2 });
        assert!(fit.reached(Rect { x: 2000, y: 0, width: 9, height: 9 }).is_empty());
        let half = Fit::new(Size::new(3840, 2160), Size::new(1920, 1080), FitMode::Letterbox).unwrap();
        let reached = half.reached(Rect { x: 100, y: 100, width: 2, height: 2 });
        assert!(reached.x <= 49 && reached.x + reached.width >= 52 && reached.width <= 10, "{reached:?}");
    }
}
