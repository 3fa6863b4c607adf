//! Colour: from a source's BGRX pixels to the planes that encoders read (BT.601's matrix, limited range; ITU-R BT.601-7).
//!
//! BT.601 because VP8 knows nothing else, so that one canvas serves all codecs, and because it is what browsers show truly also without a GPU
//! (ARCHITECTURE.md, decision 7).

use yuv::{BufferStoreMut, YuvConversionMode, YuvPlanarImageMut, YuvRange, YuvStandardMatrix, bgra_to_yuv420};

use super::{Rect, Size};

/// Luma of black in limited range.
const BLACK_LUMA: u8 = 16;
/// Chroma of every grey.
const GREY_CHROMA: u8 = 128;

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

impl I420 {
    /// Makes a black picture of `size`, rounded up to even extents.
    pub fn black(size: Size) -> Self {
        let size = Size::new(size.width.next_multiple_of(2), size.height.next_multiple_of(2));
        let luma = size.width as usize * size.height as usize;
        Self { size, y: vec![BLACK_LUMA; luma], u: vec![GREY_CHROMA; luma / 4], v: vec![GREY_CHROMA; luma / 4] }
    }

    /// Makes every pixel black.
    pub fn blacken(&mut self) {
        self.y.fill(BLACK_LUMA);
        self.u.fill(GREY_CHROMA);
        self.v.fill(GREY_CHROMA);
    }

    /// Fills `at` (even, inside the picture) from BGRX `pixels`, whose rows are `stride` bytes apart.
    ///
    /// # Errors
    /// Where `at` or `pixels` are not as said; nothing is written then.
    pub fn convert(&mut self, at: Rect, pixels: &[u8], stride: usize) -> Result<(), ColourError> {
        if at.is_empty() {
            return Ok(());
        }
        let odd = (at.x | at.y | at.width | at.height) & 1 == 1;
        if odd || at.clipped(self.size) != at {
            return Err(ColourError::Misplaced { at, size: self.size });
        }
        let (row, rows) = (at.width as usize * 4, at.height as usize);
        if stride < row || pixels.len() < stride * (rows - 1) + row {
            return Err(ColourError::Short { at, bytes: pixels.len(), stride });
        }
        let width = self.size.width as usize;
        let luma = at.y as usize * width + at.x as usize;
        let chroma = at.y as usize / 2 * (width / 2) + at.x as usize / 2;
        let (y, u, v) = (&mut self.y[luma..], &mut self.u[chroma..], &mut self.v[chroma..]);
        // `yuv` ignores the height: it converts every pair of rows that is whole in all slices, padding included, and no
        // other. So the slices are cut to the rows wanted, and a last pair without its padding goes by a packed copy.
        let whole = (pixels.len() / (2 * stride)).min(y.len() / (2 * width)).min(u.len() / (width / 2)).min(rows / 2);
        let (chunk, half) = (whole * 2 * width, whole * (width / 2));
        convert_pairs(&mut y[..chunk], &mut u[..half], &mut v[..half], width, at.width, pixels, stride)?;
        if whole < rows / 2 {
            let columns = at.width as usize;
            let packed: Vec<u8> = (2 * whole..rows).flat_map(|r| &pixels[r * stride..][..row]).copied().collect();
            let (mut luma, mut blue, mut red) = (vec![0; 2 * columns], vec![0; columns / 2], vec![0; columns / 2]);
            convert_pairs(&mut luma, &mut blue, &mut red, columns, at.width, &packed, row)?;
            y[chunk..][..columns].copy_from_slice(&luma[..columns]);
            y[chunk + width..][..columns].copy_from_slice(&luma[columns..]);
            u[half..][..columns / 2].copy_from_slice(&blue);
            v[half..][..columns / 2].copy_from_slice(&red);
        }
        Ok(())
    }
}

/// Converts as many pairs of rows as `u` has rows; luma rows are `y_stride` apart, of which `columns` are written.
fn convert_pairs(
    y: &mut [u8],
    u: &mut [u8],
    v: &mut [u8],
    y_stride: usize,
    columns: u32,
    pixels: &[u8],
    stride: usize,
) -> Result<(), ColourError> {
    if u.is_empty() {
        return Ok(());
    }
    let height = (y.len() / y_stride) as u32;
    let mut planes = YuvPlanarImageMut {
        y_plane: BufferStoreMut::Borrowed(y),
        y_stride: y_stride as u32,
        u_plane: BufferStoreMut::Borrowed(u),
        u_stride: y_stride as u32 / 2,
        v_plane: BufferStoreMut::Borrowed(v),
        v_stride: y_stride as u32 / 2,
        width: columns,
        height,
    };
    let (range, matrix, mode) = (YuvRange::Limited, YuvStandardMatrix::Bt601, YuvConversionMode::Balanced);
    let stride = u32::try_from(stride).map_err(|_| ColourError::Stride(stride))?;
    Ok(bgra_to_yuv420(&mut planes, pixels, stride, range, matrix, mode)?)
}

/// Why pixels could not be converted: each is a fault of the caller.
#[derive(Debug, thiserror::Error)]
pub enum ColourError {
    /// The rectangle is odd or outside.
    #[error("{at:?} is odd or not inside {size}")]
    Misplaced {
        /// Where to.
        at: Rect,
        /// The picture's extent.
        size: Size,
    },
    /// The rows are too far apart.
    #[error("a stride of {0} bytes is too large")]
    Stride(usize),
    /// The pixels are too few.
    #[error("{bytes} bytes in rows of {stride} are too few for {at:?}")]
    Short {
        /// Where to.
        at: Rect,
        /// How many there are.
        bytes: usize,
        /// Bytes from one row to the next.
        stride: usize,
    },
    /// The converter refused.
    #[error("pixels refused: {0}")]
    Refused(#[from] yuv::YuvError),
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// BT.601 limited range to RGB, by the recommendation's own formulas.
    fn rgb(y: u8, u: u8, v: u8) -> [f64; 3] {
        let (kr, kb) = (0.299, 0.114);
        let luma = (f64::from(y) - 16.0) / 219.0;
        let (cb, cr) = ((f64::from(u) - 128.0) / 224.0, (f64::from(v) - 128.0) / 224.0);
        let red = luma + 2.0 * (1.0 - kr) * cr;
        let blue = luma + 2.0 * (1.0 - kb) * cb;
        let green = (luma - kr * red - kb * blue) / (1.0 - kr - kb);
        [red, green, blue].map(|c| (c * 255.0).clamp(0.0, 255.0))
    }

    fn shown(colour: [u8; 3]) -> [f64; 3] {
        let size = Size::new(32, 32);
        let mut planes = I420::black(size);
        let pixels: Vec<u8> = (0..32 * 32).flat_map(|_| [colour[2], colour[1], colour[0], 0x5a]).collect();
        planes.convert(Rect::whole(size), &pixels, 32 * 4).unwrap();
        rgb(planes.y[16 * 32 + 16], planes.u[8 * 16 + 8], planes.v[8 * 16 + 8])
    }

    fn assert_close(colour: [u8; 3], tolerance: f64) {
        let shown = shown(colour);
        for (got, want) in shown.iter().zip(colour) {
            assert!((got - f64::from(want)).abs() <= tolerance, "{colour:?} is shown as {shown:?}");
        }
    }

    #[test]
    fn greys_and_primaries_are_true() {
        for grey in 0..=255 {
            assert_close([grey; 3], 2.0);
        }
        for bits in 1..7u8 {
            assert_close([0, 1, 2].map(|c| if bits >> c & 1 == 1 { 255 } else { 0 }), 4.0);
        }
    }

    #[test]
    fn any_even_part_is_converted_like_the_whole() {
        let size = Size::new(142, 38);
        let pixels: Vec<u8> =
            (0..size.width * size.height * 4).map(|i| (i.wrapping_mul(2_654_435_761) >> 21) as u8).collect();
        let stride = size.width as usize * 4;
        let mut whole = I420::black(size);
        whole.convert(Rect::whole(size), &pixels, stride).unwrap();
        for (x, y, width, height) in [(0, 0, 142, 38), (2, 2, 2, 2), (18, 4, 66, 10), (100, 36, 42, 2), (40, 0, 34, 38)]
        {
            let mut part = I420::black(size);
            let at = Rect { x, y, width, height };
            part.convert(at, &pixels[y as usize * stride + x as usize * 4..], stride).unwrap();
            for row in 0..size.height {
                for column in 0..size.width {
                    let inside = (x..x + width).contains(&column) && (y..y + height).contains(&row);
                    let luma = (row * size.width + column) as usize;
                    let chroma = (row / 2 * (size.width / 2) + column / 2) as usize;
                    let want = if inside { (whole.y[luma], whole.u[chroma], whole.v[chroma]) } else { (16, 128, 128) };
                    assert_eq!((part.y[luma], part.u[chroma], part.v[chroma]), want, "{at:?} at ({column}, {row})");
                }
            }
        }
    }

    #[test]
    fn misplaced_parts_are_refused() {
        let mut planes = I420::black(Size::new(16, 16));
        let pixels = vec![0; 16 * 16 * 4];
        for (x, y, width, height) in [(1, 0, 2, 2), (0, 0, 3, 2), (8, 8, 10, 2)] {
            let refused = planes.convert(Rect { x, y, width, height }, &pixels, 64);
            assert!(matches!(refused, Err(ColourError::Misplaced { .. })));
        }
        assert!(matches!(
            planes.convert(Rect::whole(Size::new(16, 16)), &pixels[4..], 64),
            Err(ColourError::Short { .. })
        ));
    }
}
