//! The machine-readable strip, as tests draw it: frame number and timestamp in black and white cells at the top left.
//!
//! The format is that of `laterna::source::pattern`: two sync cells (white, black), 32 bits of frame number, 32 bits of
//! milliseconds, 8 bits of checksum (the XOR of those 8 bytes), most significant bit first, in rows of `min(76, width / cell)` cells.

/// Cells in all.
pub const CELLS: u32 = 2 + 32 + 32 + 8;

/// Where the strip's cells lie on a screen of some width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// A cell's side in pixels.
    pub cell: u32,
    /// Cells in a row.
    pub columns: u32,
}

impl Layout {
    /// The layout for a screen `width` pixels wide.
    pub fn of(width: u32) -> Self {
        let cell = if width >= 1280 { 16 } else { 8 };
        Self { cell, columns: (width / cell).min(76) }
    }

    /// The strip's width and height in pixels.
    pub fn extent(self) -> (u32, u32) {
        (self.columns.min(CELLS) * self.cell, CELLS.div_ceil(self.columns) * self.cell)
    }

    /// The top left corners of the white cells.
    pub fn white_cells(self, number: u32, millis: u32) -> Vec<(u32, u32)> {
        let cells = bits(number, millis).into_iter().enumerate();
        let white = cells.filter_map(|(index, bit)| bit.then_some(index as u32));
        white.map(|index| (index % self.columns * self.cell, index / self.columns * self.cell)).collect()
    }
}

fn bits(number: u32, millis: u32) -> Vec<bool> {
    let payload: Vec<u8> = number.to_be_bytes().into_iter().chain(millis.to_be_bytes()).collect();
    let checksum = payload.iter().fold(0, |sum, byte| sum ^ byte);
    let bytes = payload.iter().chain(std::iter::once(&checksum));
    let data = bytes.flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1 == 1));
    [true, false].into_iter().chain(data).collect()
}
