//! Colour: from a source's BGRX pixels to the planes that encoders read.

use super::Size;

/// A picture in planar YUV 4:2:0, 8 bits, limited range; both extents are even.
///
/// Rows are contiguous: luma has `width` bytes a row, each chroma plane `width / 2`.
#[derive(Debug, Clone)]
pub struct I420 {
    /// The extent in luma pixels, both even.
    pub size: Size,
    /// `width * height` bytes.
    pub y: Vec<u8>,
    /// `width / 2 * height / 2` bytes.
    pub u: Vec<u8>,
    /// `width / 2 * height / 2` bytes.
    pub v: Vec<u8>,
}
