//! The machine-readable strip: a frame's number and time as black and white cells that survive an encoder.
//!
//! Cells are squares of 16 pixels where the picture is at least 1280 wide, else of 8. They fill rows of
//! `min(76, width / cell)` cells from the top-left corner, left to right, top down; the last row may be short.
//! In this order: two cells that are white and black (sync), 32 bits of the frame's number, 32 bits of its time in
//! milliseconds, 8 bits that are the XOR of the 8 bytes before. Most significant bit first; white is 1, black is 0.
//! A strip that would cover more than half of the picture's height is not drawn.

use crate::frame::{Rect, Size};

/// Cells in a row at most.
const MOST_IN_ROW: u32 = 76;
/// Sync, number, time and check.
const CELLS: u32 = 2 + 32 + 32 + 8;
/// How much brighter the white sync cell must be than the black one.
const CONTRAST: u8 = 64;

/// Where the strip is in a picture of `size`; `None` where there is no room for it.
pub fn place(size: Size) -> Option<Rect> {
    let (cell, in_row) = grid(size)?;
    Some(Rect { x: 0, y: 0, width: in_row.min(CELLS) * cell, height: CELLS.div_ceil(in_row) * cell })
}

/// Draws the strip into a BGRX picture; nothing where there is no room for it.
pub fn draw(bgrx: &mut [u8], stride: usize, size: Size, number: u32, millis: u32) {
    let Some((cell, in_row)) = grid(size) else { return };
    let bits = u128::from(number) << 40 | u128::from(millis) << 8 | u128::from(check(number, millis));
    let bits = 0b10 << (CELLS - 2) | bits;
    for index in 0..CELLS {
        let white = bits >> (CELLS - 1 - index) & 1 == 1;
        let (x, y) = (index % in_row * cell, index / in_row * cell);
        let shade = if white { 255 } else { 0 };
        super::fill(bgrx, stride, Rect { x, y, width: cell, height: cell }, [shade; 3]);
    }
}

/// Reads number and milliseconds off a picture of `size`, given its brightness at (x, y).
///
/// `None` where there is no strip, or the check doesn't match.
pub fn read(luma: impl Fn(u32, u32) -> u8, size: Size) -> Option<(u32, u32)> {
    let (cell, in_row) = grid(size)?;
    let at = |index: u32| luma(index % in_row * cell + cell / 2, index / in_row * cell + cell / 2);
    let (white, black) = (at(0), at(1));
    if white.saturating_sub(black) < CONTRAST {
        return None;
    }
    let middle = black + (white - black) / 2;
    let bits = (2..CELLS).fold(0_u128, |bits, index| bits << 1 | u128::from(at(index) > middle));
    let (number, millis) = ((bits >> 40) as u32, (bits >> 8) as u32);
    (bits as u8 == check(number, millis)).then_some((number, millis))
}

/// A cell's extent and the cells in a row; `None` where the strip doesn't fit.
fn grid(size: Size) -> Option<(u32, u32)> {
    let cell = if size.width >= 1280 { 16 } else { 8 };
    let in_row = (size.width / cell).min(MOST_IN_ROW);
    let fits = in_row > 0 && CELLS.div_ceil(in_row) * cell <= size.height / 2;
    fits.then_some((cell, in_row))
}

fn check(number: u32, millis: u32) -> u8 {
    number.to_be_bytes().into_iter().chain(millis.to_be_bytes()).fold(0, |check, byte| check ^ byte)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn drawn(size: Size, number: u32, millis: u32) -> Vec<u8> {
        let stride = size.width as usize * 4;
        let mut bgrx = vec![0; stride * size.height as usize];
        draw(&mut bgrx, stride, size, number, millis);
        bgrx
    }

    #[test]
    fn what_is_drawn_is_read_at_any_size_that_has_room() {
        for (width, height) in
            [(1920, 1080), (1280, 720), (1365, 767), (640, 360), (320, 180), (161, 121), (3840, 2160)]
        {
            let size = Size::new(width, height);
            for (number, millis) in [(0, 0), (1, 33), (u32::MAX, u32::MAX), (0xdead_beef, 86_400_000)] {
                let bgrx = drawn(size, number, millis);
                // As an encoder would have it: less contrast, and noise.
                let luma = |x: u32, y: u32| 20 + bgrx[(y * width + x) as usize * 4] / 4 * 3 + (x * 7 % 11) as u8;
                assert_eq!(read(luma, size), Some((number, millis)), "{size}");
            }
        }
    }

    #[test]
    fn a_wrong_bit_and_no_strip_are_noticed() {
        let size = Size::new(640, 360);
        let bgrx = drawn(size, 5, 7);
        let luma = |x: u32, y: u32| bgrx[(y * 640 + x) as usize * 4];
        let cell = 8 * 20;
        let flipped = |x: u32, y: u32| if y < 8 && (cell..cell + 8).contains(&x) { !luma(x, y) } else { luma(x, y) };
        assert_eq!(read(flipped, size), None);
        assert_eq!(read(|_, _| 0, size), None);
        assert_eq!(read(|_, _| 255, size), None);
    }

    #[test]
    fn a_picture_without_room_has_no_strip() {
        let size = Size::new(64, 64);
        assert_eq!(place(size), None);
        assert!(drawn(size, 1, 1).iter().all(|byte| *byte == 0));
        assert_eq!(place(Size::new(1920, 1080)), Some(Rect { x: 0, y: 0, width: 74 * 16, height: 16 }));
        assert_eq!(place(Size::new(320, 180)), Some(Rect { x: 0, y: 0, width: 320, height: 16 }));
    }
}
