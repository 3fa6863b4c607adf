//! Which macroblocks of a picture are worth encoding: those whose source has changed, or that were encoded more coarsely.
//!
//! Owns the source and the quantiser of each macroblock as it was last encoded. A core: never the codec.

use crate::frame::Size;
use crate::frame::colour::I420;

/// Luma pixels to a macroblock's side.
const SIDE: usize = 16;
/// Coarser than any quantiser: never encoded.
const NEVER: u8 = u8::MAX;
/// Where this part of a picture is worth encoding all of it is: motion is found by what neighbours did, so gaps hide it.
const MOST_OF_PART: usize = 4;

/// What each macroblock was encoded from, and how finely.
#[derive(Debug)]
pub(super) struct Blocks {
    source: I420,
    columns: usize,
    quantisers: Vec<u8>,
    active: Vec<u8>,
}

impl Blocks {
    /// Starts with nothing encoded.
    pub(super) fn new(size: Size) -> Self {
        let (columns, rows) = ((size.width as usize).div_ceil(SIDE), (size.height as usize).div_ceil(SIDE));
        Self {
            source: I420::black(size),
            columns,
            quantisers: vec![NEVER; columns * rows],
            active: vec![0; columns * rows],
        }
    }

    /// Macroblocks in a row.
    pub(super) fn columns(&self) -> usize {
        self.columns
    }

    /// One byte for each macroblock, row by row: 1 where `observe` found it worth encoding.
    pub(super) fn active(&mut self) -> &mut [u8] {
        &mut self.active
    }

    /// Takes in a picture that is about to be encoded with `quantiser`, all of it where it is a keyframe; how many macroblocks are
    /// worth it.
    pub(super) fn observe(&mut self, planes: &I420, quantiser: u8, keyframe: bool) -> usize {
        if keyframe {
            self.quantisers.fill(NEVER);
        }
        self.compare(planes);
        let mut count = 0;
        for (active, encoded) in self.active.iter_mut().zip(&mut self.quantisers) {
            *active = u8::from(*active != 0 || *encoded > quantiser);
            if *active != 0 {
                *encoded = quantiser;
                count += 1;
            }
        }
        if count * MOST_OF_PART > self.active.len() {
            self.active.fill(1);
            count = self.active.len();
        }
        count
    }

    /// Marks the macroblocks whose source has changed, and remembers it.
    fn compare(&mut self, planes: &I420) {
        self.active.fill(0);
        let width = planes.size.width as usize;
        let planes = [
            (&mut self.source.y, &planes.y, width, SIDE),
            (&mut self.source.u, &planes.u, width / 2, SIDE / 2),
            (&mut self.source.v, &planes.v, width / 2, SIDE / 2),
        ];
        for (before, now, width, side) in planes {
            let stripes = before.chunks_mut(width * side).zip(now.chunks(width * side));
            for ((before, now), active) in stripes.zip(self.active.chunks_mut(self.columns)) {
                if before == now {
                    continue;
                }
                for (before, now) in before.chunks_exact(width).zip(now.chunks_exact(width)) {
                    if before == now {
                        continue;
                    }
                    for ((before, now), active) in before.chunks(side).zip(now.chunks(side)).zip(active.iter_mut()) {
                        *active |= u8::from(before != now);
                    }
                }
                before.copy_from_slice(now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_or_was_coarser_is_active() {
        let size = Size::new(322, 182);
        let mut blocks = Blocks::new(size);
        let mut page = I420::black(size);
        let all = 21 * 12;
        assert_eq!(blocks.columns(), 21);
        assert_eq!(blocks.observe(&page, 30, true), all);
        assert_eq!(blocks.observe(&page, 30, false), 0);
        assert_eq!(blocks.observe(&page, 40, false), 0, "coarser is no gain");
        page.y[181 * 322 + 321] = 90;
        page.u[0] = 7;
        page.v[161 + 8] = 7;
        assert_eq!(blocks.observe(&page, 40, false), 3);
        let active: Vec<_> = blocks.active().iter().enumerate().filter(|(_, on)| **on == 1).map(|(at, _)| at).collect();
        assert_eq!(active, [0, 1, all - 1]);
        assert_eq!(blocks.observe(&page, 35, false), 3, "those three were encoded at 40");
        assert_eq!(blocks.observe(&page, 20, false), all);
        assert_eq!(blocks.observe(&page, 20, true), all);
    }
}
