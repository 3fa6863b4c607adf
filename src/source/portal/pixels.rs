//! Pixels of a buffer: copied band by band into a store, as BGRX. Pure.

use std::ops::Range;

use crate::frame::{Rect, Size};

/// The order of a pixel's bytes; the fourth is nothing, or alpha.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// Blue, green, red.
    Bgr,
    /// Red, green, blue.
    Rgb,
}

/// A buffer's pixels as they are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pixels<'a> {
    /// Row by row.
    pub(super) bytes: &'a [u8],
    /// Bytes from one row to the next.
    pub(super) stride: usize,
    /// The order of a pixel's bytes.
    pub(super) order: Order,
}

impl Pixels<'_> {
    /// Copies rows of `area` (counted from its top) into a store of `area`'s width without gaps; whether the buffer has all of them.
    #[must_use]
    pub(super) fn copy(&self, area: Rect, bands: impl Iterator<Item = Range<u32>>, store: &mut [u8]) -> bool {
        let row = area.width as usize * 4;
        let left = area.x as usize * 4;
        for y in bands.flatten() {
            let from = (area.y as usize + y as usize) * self.stride + left;
            let to = y as usize * row;
            let (Some(from), Some(to)) = (self.bytes.get(from..from + row), store.get_mut(to..to + row)) else {
                return false;
            };
            to.copy_from_slice(from);
            if self.order == Order::Rgb {
                to.chunks_exact_mut(4).for_each(|pixel| pixel.swap(0, 2));
            }
        }
        true
    }

    /// Whether all of `area` is in the buffer.
    pub(super) fn has(&self, area: Rect) -> bool {
        let rows = (area.y + area.height) as usize;
        let row = (area.x + area.width) as usize * 4;
        row <= self.stride && rows > 0 && (rows - 1) * self.stride + row <= self.bytes.len()
    }
}

/// The part of a buffer that is the picture: what is cropped to, as far as it is inside.
pub(super) fn area(size: Size, crop: Option<Rect>) -> Rect {
    let cropped = crop.map(|crop| crop.clipped(size)).filter(|crop| !crop.is_empty());
    cropped.unwrap_or(Rect::whole(size))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A buffer of 5x4 with a stride of 24: each pixel is (column, row, 7, 9).
    fn buffer() -> Vec<u8> {
        let row = |y: u8| (0..6).flat_map(move |x: u8| [x, y, 7, 9]);
        (0..4).flat_map(row).collect()
    }

    #[test]
    fn bands_of_a_crop_are_copied_and_nothing_else() {
        let bytes = buffer();
        let pixels = Pixels { bytes: &bytes, stride: 24, order: Order::Bgr };
        let crop = Rect { x: 1, y: 1, width: 3, height: 3 };
        let mut store = vec![0; 3 * 3 * 4];
        assert!(pixels.has(crop) && pixels.copy(crop, [0..1, 2..3].into_iter(), &mut store));
        assert_eq!(store[..12], [1, 1, 7, 9, 2, 1, 7, 9, 3, 1, 7, 9]);
        assert_eq!(store[12..24], [0; 12]);
        assert_eq!(store[24..], [1, 3, 7, 9, 2, 3, 7, 9, 3, 3, 7, 9]);
    }

    #[test]
    fn red_and_blue_change_places() {
        let bytes = buffer();
        let pixels = Pixels { bytes: &bytes, stride: 24, order: Order::Rgb };
        let mut store = vec![0; 8];
        assert!(pixels.copy(Rect { x: 3, y: 2, width: 2, height: 1 }, std::iter::once(0..1), &mut store));
        assert_eq!(store, [7, 2, 3, 9, 7, 2, 4, 9]);
    }

    #[test]
    fn a_buffer_that_is_too_short_is_not_read_beyond_its_end() {
        let bytes = buffer();
        let size = Size::new(5, 4);
        let mut store = vec![0; 5 * 4 * 4];
        for (length, stride, whole) in [(92, 24, true), (91, 24, false), (96, 16, false), (0, 24, false)] {
            let pixels = Pixels { bytes: &bytes[..length], stride, order: Order::Bgr };
            assert_eq!(pixels.has(Rect::whole(size)), whole, "{length} {stride}");
        }
        let pixels = Pixels { bytes: &bytes[..91], stride: 24, order: Order::Bgr };
        assert!(!pixels.copy(Rect::whole(size), std::iter::once(0..4), &mut store));
        let mut short = vec![0; 30];
        let pixels = Pixels { bytes: &bytes, stride: 24, order: Order::Bgr };
        assert!(!pixels.copy(Rect::whole(size), std::iter::once(0..4), &mut short));
    }

    #[test]
    fn a_crop_that_makes_no_sense_is_none() {
        let size = Size::new(100, 50);
        let crop = |x, y, width, height| area(size, Some(Rect { x, y, width, height }));
        assert_eq!(crop(10, 10, 20, 20), Rect { x: 10, y: 10, width: 20, height: 20 });
        assert_eq!(crop(90, 10, 20, 20), Rect { x: 90, y: 10, width: 10, height: 20 });
        assert_eq!(crop(0, 0, 0, 0), Rect::whole(size));
        assert_eq!(crop(200, 0, 5, 5), Rect::whole(size));
        assert_eq!(area(size, None), Rect::whole(size));
    }
}
