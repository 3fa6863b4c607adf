//! Pictures that were taken with the camera held otherwise: how they are turned upright.

use crate::frame::Size;

/// How a picture is to be turned, to the right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::source) enum Turn {
    /// It stands upright.
    #[default]
    None,
    /// By a quarter.
    Right,
    /// Upside down.
    Half,
    /// By three quarters.
    Left,
}

/// Pixels are turned in squares of so many, which the cache holds.
const BLOCK: usize = 16;

impl Turn {
    /// The turn of a display matrix (ISO/IEC 14496-12, 6.2.2, as FFmpeg stores it: nine 32-bit numbers of this machine).
    pub(super) fn of_matrix(matrix: &[u8]) -> Self {
        let number = |at: usize| {
            let bytes = matrix.get(at * 4..at * 4 + 4).and_then(|bytes| bytes.try_into().ok());
            bytes.map_or(0, i32::from_ne_bytes).signum()
        };
        match [number(0), number(1), number(3), number(4)] {
            [0, 1, -1, 0] => Self::Right,
            [-1, 0, 0, -1] => Self::Half,
            [0, -1, 1, 0] => Self::Left,
            _ => Self::None,
        }
    }

    /// The turn of an orientation as EXIF has it; mirrored ones are not told apart.
    pub(in crate::source) fn of_orientation(orientation: u16) -> Self {
        match orientation {
            3 | 4 => Self::Half,
            5 | 6 => Self::Right,
            7 | 8 => Self::Left,
            _ => Self::None,
        }
    }

    /// The size of a picture once it is turned.
    pub(in crate::source) fn turned(self, size: Size) -> Size {
        match self {
            Self::None | Self::Half => size,
            Self::Right | Self::Left => Size::new(size.height, size.width),
        }
    }

    /// The size that it had before.
    pub(super) fn turned_back(self, size: Size) -> Size {
        self.turned(size)
    }

    /// Turns rows of pixels of four bytes.
    pub(in crate::source) fn apply(self, from: &[u8], size: Size, into: &mut [u8]) {
        let (width, height) = (size.width as usize, size.height as usize);
        let turned = self.turned(size).width as usize;
        for top in (0..height).step_by(BLOCK) {
            for left in (0..width).step_by(BLOCK) {
                for y in top..(top + BLOCK).min(height) {
                    for x in left..(left + BLOCK).min(width) {
                        let (column, row) = match self {
                            Self::None => (x, y),
                            Self::Right => (height - 1 - y, x),
                            Self::Half => (width - 1 - x, height - 1 - y),
                            Self::Left => (y, width - 1 - x),
                        };
                        let (source, target) = ((y * width + x) * 4, (row * turned + column) * 4);
                        into[target..target + 4].copy_from_slice(&from[source..source + 4]);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_turned_to_the_right_upside_down_and_to_the_left() {
        let size = Size::new(3, 2);
        let from: Vec<u8> = (0..6).flat_map(|pixel| [pixel; 4]).collect();
        for (turn, expected) in [
            (Turn::None, [0, 1, 2, 3, 4, 5]),
            (Turn::Right, [3, 0, 4, 1, 5, 2]),
            (Turn::Half, [5, 4, 3, 2, 1, 0]),
            (Turn::Left, [2, 5, 1, 4, 0, 3]),
        ] {
            let mut into = vec![9; from.len()];
            turn.apply(&from, size, &mut into);
            let pixels: Vec<u8> = into.chunks(4).map(|pixel| pixel[0]).collect();
            assert_eq!(pixels, expected, "{turn:?}");
        }
    }

    #[test]
    fn large_pictures_are_turned_whole() {
        let size = Size::new(53, 37);
        let from: Vec<u8> = (0..53 * 37_u32).flat_map(u32::to_ne_bytes).collect();
        let (mut once, mut back) = (vec![0; from.len()], vec![0; from.len()]);
        Turn::Right.apply(&from, size, &mut once);
        Turn::Left.apply(&once, Turn::Right.turned(size), &mut back);
        assert_eq!(back, from);
    }

    #[test]
    fn matrices_of_phones_are_known() {
        let matrix = |numbers: [i32; 4]| {
            let [a, b, c, d] = numbers.map(|number| number << 16);
            [a, b, 0, c, d, 0, 0, 0, 1 << 30].iter().flat_map(|number| number.to_ne_bytes()).collect::<Vec<_>>()
        };
        assert_eq!(Turn::of_matrix(&matrix([1, 0, 0, 1])), Turn::None);
        assert_eq!(Turn::of_matrix(&matrix([0, 1, -1, 0])), Turn::Right);
        assert_eq!(Turn::of_matrix(&matrix([-1, 0, 0, -1])), Turn::Half);
        assert_eq!(Turn::of_matrix(&matrix([0, -1, 1, 0])), Turn::Left);
        assert_eq!(Turn::of_matrix(&[1, 2]), Turn::None);
    }
}
