//! Tells scrolling from new content: which parts of a changed picture the one before it had somewhere else.
//!
//! Owns one number for each row of each column band of the canvas; never pixels. A core.

use crate::frame::colour::I420;
use crate::frame::{Damage, Rect, Size};

/// Luma pixels to a band; a multiple of eight.
const BAND: usize = 64;
/// Bits of the set of numbers that the picture before had: 16 times as many as a 1080p picture has cells.
const SET_BITS: u32 = 19;
/// The number of a row of a band whose pixels are all alike: it looks like any other, so it proves nothing.
const BLANK: u64 = 0;

/// How a picture differs from the one before it, in shares of all that is to be seen in it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Difference {
    /// What the picture before had in other rows.
    pub moved: f32,
    /// What the picture before did not have.
    pub novel: f32,
}

/// Remembers a picture well enough to recognise its rows.
#[derive(Debug)]
pub struct Novelty {
    bands: usize,
    rows: usize,
    /// Row by row, `BLANK` or a number made of the pixels and the band.
    cells: Vec<u64>,
    /// A set of the cells' numbers, made anew when it is used.
    known: Vec<u64>,
}

impl Novelty {
    /// Starts with a blank picture of `size`.
    pub fn new(size: Size) -> Self {
        let (bands, rows) = ((size.width as usize).div_ceil(BAND), size.height as usize);
        Self { bands, rows, cells: vec![BLANK; bands * rows], known: vec![0; 1 << (SET_BITS - 6)] }
    }

    /// Takes in what has changed; a change of less than an eighth of the picture is not worth telling.
    pub fn observe(&mut self, planes: &I420, damage: &Damage) -> Difference {
        let whole = planes.size.width as u64 * planes.size.height as u64;
        let changed: u64 = damage.rects().iter().map(Rect::area).sum();
        let telling = changed * 8 >= whole;
        if telling {
            self.remember();
        }
        let (mut moved, mut novel) = (0u32, 0u32);
        for rect in damage.rects() {
            self.update(planes, rect.clipped(planes.size), |known| if known { moved += 1 } else { novel += 1 });
        }
        if !telling {
            return Difference::default();
        }
        let seen = self.cells.iter().filter(|cell| **cell != BLANK).count().max(1) as f32;
        Difference { moved: moved as f32 / seen, novel: novel as f32 / seen }
    }

    /// Numbers the cells that `rect` touches anew; `tell` hears of each that has changed whether its number was known.
    fn update(&mut self, planes: &I420, rect: Rect, mut tell: impl FnMut(bool)) {
        if rect.is_empty() {
            return;
        }
        let width = planes.size.width as usize;
        let bands = rect.x as usize / BAND..((rect.x + rect.width) as usize).div_ceil(BAND).min(self.bands);
        for row in rect.y as usize..((rect.y + rect.height) as usize).min(self.rows) {
            for band in bands.clone() {
                let pixels = &planes.y[row * width + band * BAND..row * width + ((band + 1) * BAND).min(width)];
                let number = number(pixels, band as u64);
                let cell = row * self.bands + band;
                if self.cells[cell] != number && number != BLANK {
                    tell(self.knows(number));
                }
                self.cells[cell] = number;
            }
        }
    }

    fn remember(&mut self) {
        self.known.fill(0);
        for cell in self.cells.iter().filter(|cell| **cell != BLANK) {
            let (word, bit) = place(*cell);
            self.known[word] |= bit;
        }
    }

    fn knows(&self, number: u64) -> bool {
        let (word, bit) = place(number);
        self.known[word] & bit != 0
    }
}

fn place(number: u64) -> (usize, u64) {
    let index = (number >> (64 - SET_BITS)) as usize;
    (index / 64, 1 << (index % 64))
}

/// A number made of `pixels` and their band, `BLANK` where they are all alike.
fn number(pixels: &[u8], band: u64) -> u64 {
    let (words, rest) = pixels.as_chunks::<8>();
    let first = u64::from(pixels.first().copied().unwrap_or(0)) * 0x0101_0101_0101_0101;
    if words.iter().all(|word| u64::from_le_bytes(*word) == first) && rest.iter().all(|p| u64::from(*p) == first & 0xff)
    {
        return BLANK;
    }
    let mix = |sum: u64, word: u64| (sum.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let sum = words.iter().fold(band + 1, |sum, word| mix(sum, u64::from_le_bytes(*word)));
    let sum = rest.iter().fold(sum, |sum, pixel| mix(sum, u64::from(*pixel)));
    mix(sum, sum >> 32) | 1
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::encoder::scenes;

    const SIZE: Size = Size::new(640, 360);

    #[test]
    fn a_scroll_is_moved_and_a_slide_is_novel() {
        let tall = scenes::text(Size::new(640, 1200), 3, 7);
        let mut novelty = Novelty::new(SIZE);
        let whole = Damage::whole(SIZE);
        let first = novelty.observe(&scenes::window(&tall, SIZE, 0), &whole);
        assert!(first.novel > 0.9 && first.moved < 0.1, "{first:?}");
        let scrolled = novelty.observe(&scenes::window(&tall, SIZE, 60), &whole);
        assert!(scrolled.moved > 0.7 && scrolled.novel < 0.3, "{scrolled:?}");
        let slide = novelty.observe(&scenes::window(&tall, SIZE, 800), &whole);
        assert!(slide.novel > 0.8 && slide.moved < 0.2, "{slide:?}");
        let still = novelty.observe(&scenes::window(&tall, SIZE, 800), &whole);
        assert_eq!(still, Difference::default());
    }

    #[test]
    fn small_damage_is_taken_in_without_a_word() {
        let tall = scenes::text(Size::new(640, 1200), 3, 7);
        let mut novelty = Novelty::new(SIZE);
        novelty.observe(&scenes::window(&tall, SIZE, 0), &Damage::whole(SIZE));
        let mut typed = scenes::window(&tall, SIZE, 0);
        scenes::glyph(&mut typed, &mut scenes::Dice::new(1), 300, 200);
        let mut damage = Damage::none();
        damage.add(Rect { x: 300, y: 200, width: 8, height: 14 });
        assert_eq!(novelty.observe(&typed, &damage), Difference::default());
        assert_eq!(novelty.observe(&typed, &Damage::whole(SIZE)), Difference::default());
    }
}
