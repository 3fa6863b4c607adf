//! Overlays: small pictures over a frame, as a camera in the corner of a screen. Where they stand, no pixels.
//!
//! An overlay's place is told in the canvas's own terms, so that it looks the same whatever the size of the source behind it.

use super::fit::{even_in, even_up};
use super::{Picture, Rect, Size};

/// The corner of the canvas that an overlay stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Corner {
    /// Above, on the left.
    TopLeft,
    /// Above, on the right.
    TopRight,
    /// Below, on the left.
    BottomLeft,
    /// Below, on the right.
    BottomRight,
}

impl Corner {
    /// All of them, by the names that they are written with.
    pub const ALL: [(&'static str, Self); 4] = [
        ("top-left", Self::TopLeft),
        ("top-right", Self::TopRight),
        ("bottom-left", Self::BottomLeft),
        ("bottom-right", Self::BottomRight),
    ];
}

/// An extent on the canvas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// So many hundredths of the canvas's width.
    Percent(u8),
    /// So many pixels of the canvas.
    Pixels(u32),
}

impl Extent {
    fn of(self, canvas: Size) -> u32 {
        match self {
            Self::Percent(percent) => canvas.width * u32::from(percent) / 100,
            Self::Pixels(pixels) => pixels,
        }
    }
}

/// Where an overlay stands, and how large it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placement {
    /// The corner.
    pub corner: Corner,
    /// Its width; the height follows from its picture.
    pub width: Extent,
    /// Its distance to both borders.
    pub margin: Extent,
}

impl Default for Placement {
    fn default() -> Self {
        Self { corner: Corner::BottomRight, width: Extent::Percent(25), margin: Extent::Percent(2) }
    }
}

impl Placement {
    /// The part of `canvas` (whose extents are even) that shows `picture`: even borders, inside the canvas, the picture's aspect ratio kept.
    ///
    /// `None` for a picture without pixels.
    pub fn area(&self, picture: Size, canvas: Size) -> Option<Rect> {
        if picture.width == 0 || picture.height == 0 {
            return None;
        }
        let margin = (self.margin.of(canvas) & !1).min((canvas.width.min(canvas.height) / 4) & !1);
        let room = Size::new(canvas.width - 2 * margin, canvas.height - 2 * margin);
        let width = self.width.of(canvas).clamp(2, room.width);
        let height = u64::from(width) * u64::from(picture.height) / u64::from(picture.width);
        let (width, height) = if height > u64::from(room.height) {
            let fitted = u64::from(room.height) * u64::from(picture.width) / u64::from(picture.height);
            (fitted as u32, room.height)
        } else {
            (width, height as u32)
        };
        let (width, height) = (even_in(even_up(width), room.width), even_in(even_up(height), room.height));
        let (right, bottom) = (canvas.width - margin - width, canvas.height - margin - height);
        let (x, y) = match self.corner {
            Corner::TopLeft => (margin, margin),
            Corner::TopRight => (right, margin),
            Corner::BottomLeft => (margin, bottom),
            Corner::BottomRight => (right, bottom),
        };
        Some(Rect { x, y, width, height })
    }
}

/// One overlay of a frame.
#[derive(Debug, Clone)]
pub struct Layer {
    /// Its picture, opaque.
    pub picture: Picture,
    /// Where it stands.
    pub place: Placement,
    /// The number of its picture: another one is another picture.
    pub serial: u64,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_overlay_stands_in_its_corner_inside_the_canvas() {
        let (canvas, camera) = (Size::new(1920, 1080), Size::new(640, 480));
        for (corner, (x, y)) in
            Corner::ALL.map(|(_, corner)| corner).into_iter().zip([(38, 38), (1402, 38), (38, 682), (1402, 682)])
        {
            let area = Placement { corner, ..Placement::default() }.area(camera, canvas).unwrap();
            assert_eq!(area, Rect { x, y, width: 480, height: 360 }, "{corner:?}");
        }
    }

    #[test]
    fn whatever_is_asked_stays_inside_and_even() {
        let extents =
            [Extent::Percent(0), Extent::Percent(1), Extent::Percent(100), Extent::Pixels(7), Extent::Pixels(u32::MAX)];
        for canvas in [Size::new(16, 16), Size::new(1920, 1080), Size::new(64, 2160)] {
            for picture in [Size::new(1, 1), Size::new(1, 30_000), Size::new(30_000, 1), Size::new(641, 479)] {
                for (width, margin) in extents.iter().flat_map(|width| extents.map(|margin| (*width, margin))) {
                    for (_, corner) in Corner::ALL {
                        let area = Placement { corner, width, margin }.area(picture, canvas).unwrap();
                        assert_eq!(area.clipped(canvas), area, "{picture} {width:?} {margin:?} in {canvas}");
                        assert!(!area.is_empty());
                        assert_eq!((area.x | area.y | area.width | area.height) & 1, 0, "{area:?}");
                    }
                }
            }
        }
        assert_eq!(Placement::default().area(Size::new(0, 4), Size::new(16, 16)), None);
    }
}
