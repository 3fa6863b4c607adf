//! What differs between two pictures of one size: bands of rows, as wide as their changes. A pure function.

use crate::frame::{Rect, Size};

/// Rows that are alike are part of a band where fewer than this are between two that differ.
const JOINED_GAP: u32 = 16;

/// The parts in which two pictures differ, from the top down; rows of BGRX, `size.width * 4` bytes each.
pub(super) fn changed(before: &[u8], now: &[u8], size: Size) -> Vec<Rect> {
    let stride = size.width as usize * 4;
    let mut bands: Vec<Rect> = Vec::new();
    if stride == 0 {
        return bands;
    }
    let rows = before.chunks_exact(stride).zip(now.chunks_exact(stride)).take(size.height as usize);
    for (y, (before, now)) in (0..).zip(rows) {
        let Some((first, last)) = span(before, now) else { continue };
        let row = Rect { x: first, y, width: last - first + 1, height: 1 };
        match bands.last_mut() {
            Some(band) if y < band.y + band.height + JOINED_GAP => *band = band.bounding(row),
            _ => bands.push(row),
        }
    }
    bands
}

/// The first and the last pixel that differ; the fourth byte of a pixel says nothing.
fn span(before: &[u8], now: &[u8]) -> Option<(u32, u32)> {
    if before == now {
        return None;
    }
    let differs = |(before, now): (&[u8], &[u8])| before[..3] != now[..3];
    let pixels = || before.chunks_exact(4).zip(now.chunks_exact(4));
    let first = pixels().position(differs)?;
    let last = pixels().rposition(differs)?;
    Some((first as u32, last as u32))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size::new(50, 60);

    fn with(spots: &[(usize, usize)]) -> Vec<u8> {
        let mut picture = vec![7; 50 * 60 * 4];
        for (x, y) in spots {
            picture[(y * 50 + x) * 4 + 1] = 9;
        }
        picture
    }

    #[test]
    fn changes_become_bands_as_wide_as_they_are() {
        let rect = |x, y, width, height| Rect { x, y, width, height };
        let before = with(&[]);
        let cases: [(&[_], Vec<Rect>); 5] = [
            (&[], vec![]),
            (&[(0, 0)], vec![rect(0, 0, 1, 1)]),
            (&[(49, 59), (0, 0)], vec![rect(0, 0, 1, 1), rect(49, 59, 1, 1)]),
            (&[(10, 10), (20, 26)], vec![rect(10, 10, 11, 17)]),
            (&[(10, 10), (20, 27)], vec![rect(10, 10, 1, 1), rect(20, 27, 1, 1)]),
        ];
        for (spots, bands) in cases {
            assert_eq!(changed(&before, &with(spots), SIZE), bands, "{spots:?}");
            assert_eq!(changed(&with(spots), &before, SIZE), bands, "{spots:?}");
        }
    }

    #[test]
    fn the_unused_byte_is_no_change() {
        let (before, mut now) = (with(&[]), with(&[]));
        now[3] = 0xff;
        assert_eq!(changed(&before, &now, SIZE), []);
    }
}
