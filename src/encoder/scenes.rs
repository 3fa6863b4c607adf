//! Pictures for the encoder's tests: pages of strokes that are as dense and sharp as text, and ways to change them.

use crate::frame::Size;
use crate::frame::colour::I420;

/// A glyph cell: that of a terminal's 7x13 font.
pub const CELL: (usize, usize) = (7, 13);
const INK: u8 = 30;
const PAPER: u8 = 235;

/// A small deterministic generator (xorshift).
pub struct Dice(u64);

impl Dice {
    /// Starts from `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as usize % bound
    }
}

/// A picture of paper only.
pub fn paper(size: Size) -> I420 {
    let luma = size.width as usize * size.height as usize;
    I420 { size, y: vec![PAPER; luma], u: vec![128; luma / 4], v: vec![128; luma / 4] }
}

/// Draws one glyph with its cell's corner at column `x`, row `y`: two to four strokes with soft edges.
pub fn glyph(page: &mut I420, dice: &mut Dice, x: usize, y: usize) {
    let (width, height) = (page.size.width as usize, page.size.height as usize);
    let mut put = |px: usize, py: usize, value: u8| {
        if px < width && py < height {
            let pixel = &mut page.y[py * width + px];
            *pixel = (*pixel).min(value);
        }
    };
    for _ in 0..2 + dice.below(3) {
        let (sx, sy) = (dice.below(5), 2 + dice.below(8));
        match dice.below(4) {
            0 => (0..5).for_each(|i| put(x + i, y + sy, INK)),
            1 => (0..8).for_each(|i| {
                put(x + sx, y + 2 + i, INK);
                put(x + sx + 1, y + 2 + i, 170);
            }),
            2 => (0..5).for_each(|i| {
                put(x + i, y + 3 + i, INK);
                put(x + i + 1, y + 3 + i, 130);
            }),
            _ => (0..5).for_each(|i| {
                put(x + 4 - i, y + 3 + i, INK);
                put(x + 4 - i, y + 4 + i, 130);
            }),
        }
    }
}

/// A page full of lines of words; `fill` of 10 cells hold a glyph.
pub fn text(size: Size, seed: u64, fill: usize) -> I420 {
    let mut page = paper(size);
    let mut dice = Dice::new(seed);
    for row in 0..size.height as usize / CELL.1 {
        let line = 40 + dice.below(60);
        let cells = size.width as usize / CELL.0;
        for column in 0..cells {
            if column * 100 / cells < line && dice.below(10) < fill {
                glyph(&mut page, &mut dice, column * CELL.0, row * CELL.1);
            }
        }
    }
    page
}

/// The part of a tall page that starts at row `top` (even).
pub fn window(tall: &I420, size: Size, top: usize) -> I420 {
    let (width, height) = (size.width as usize, size.height as usize);
    let cut =
        |plane: &[u8], width: usize, height: usize, top: usize| plane[top * width..(top + height) * width].to_vec();
    I420 {
        size,
        y: cut(&tall.y, width, height, top),
        u: cut(&tall.u, width / 2, height / 2, top / 2),
        v: cut(&tall.v, width / 2, height / 2, top / 2),
    }
}

/// One picture of a film: soft shapes that move, under grain.
pub fn film(size: Size, frame: u64) -> I420 {
    let mut picture = paper(size);
    let mut dice = Dice::new(frame + 1);
    let (width, time) = (size.width as usize, frame as f64);
    for (at, pixel) in picture.y.iter_mut().enumerate() {
        let (x, y) = ((at % width) as f64, (at / width) as f64);
        let light = 120.0 + 60.0 * ((x + time * 7.0) / 97.0).sin() * ((y + time * 3.0) / 61.0).cos();
        *pixel = light as u8 + dice.below(8) as u8;
    }
    picture
}

/// A page at least 600 pixels wide with six saturated patches whose chroma differs from the paper's, as a drawing has them, and their centres.
pub fn patches(size: Size) -> (I420, Vec<(usize, usize)>) {
    let mut page = text(size, 3, 2);
    let colours = [(63, 102, 240), (173, 42, 26), (32, 240, 118), (219, 16, 138), (188, 154, 16), (78, 214, 230)];
    let (width, mut centres) = (size.width as usize, Vec::new());
    for (index, (y, u, v)) in colours.into_iter().enumerate() {
        let (left, top) = (20 + index * 100, 37);
        for row in top..top + 80 {
            page.y[row * width + left..row * width + left + 80].fill(y);
            if row % 2 == 0 {
                let at = row / 2 * (width / 2) + left / 2;
                page.u[at..at + 40].fill(u);
                page.v[at..at + 40].fill(v);
            }
        }
        centres.push((left + 40, top + 40));
    }
    (page, centres)
}

/// How far the chroma of what is seen is off at the worst of the places.
pub fn worst_chroma(seen: &I420, page: &I420, places: &[(usize, usize)]) -> u8 {
    let half = page.size.width as usize / 2;
    let at = places.iter().map(|(x, y)| y / 2 * half + x / 2);
    at.map(|at| page.u[at].abs_diff(seen.u[at]).max(page.v[at].abs_diff(seen.v[at]))).max().unwrap_or(0)
}
