//! From a camera's bytes to BGRX: by `yuv` what is not compressed, by `zune-jpeg` what is (ITU-T T.81; Huffman tables that a camera
//! leaves out are T.81's own).
//!
//! Writes whole pictures only, rows one after the other. What is damaged is an error, never a panic, and what was written then is nothing.

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use yuv::{
    YuvBiPlanarImage, YuvConversionMode, YuvError, YuvPackedImage, YuvPlanarImage, YuvRange, YuvStandardMatrix,
    bgr_to_bgra, rgb_to_bgra, rgba_to_bgra, uyvy422_to_bgra, yuv_nv12_to_bgra, yuv420_to_bgra, yuyv422_to_bgra,
};
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::mode::Pixels;
use crate::frame::Size;

/// After so many pictures of which none keeps to the letter of the standard, a camera is believed to make them so.
const LENIENT_AFTER: u32 = 10;
/// A segment by which the decoder knows that tables which are left out are those of T.81, annex K.3: what AVI files have there.
const USUAL_TABLES: &[u8] = b"\xFF\xE0\x00\x07AVI1\0";

/// How numbers mean colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Colours {
    /// BT.709's matrix, else BT.601's.
    pub(super) is_709: bool,
    /// All numbers, else the limited range.
    pub(super) is_full: bool,
}

/// How a camera's pictures are in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) pixels: Pixels,
    pub(super) size: Size,
    /// Bytes from one row of the first plane to the next.
    pub(super) stride: usize,
    pub(super) colours: Colours,
}

/// Why a picture is not shown.
#[derive(Debug, thiserror::Error)]
pub(super) enum Damaged {
    /// The driver says so.
    #[error("the driver calls it damaged")]
    Told,
    /// It ended early.
    #[error("it has {found} bytes, and {needed} are needed")]
    Short {
        /// What there is.
        found: usize,
        /// What a whole one has.
        needed: usize,
    },
    /// It is no JPEG, or a broken one.
    #[error("its JPEG is broken: {0}")]
    Jpeg(String),
    /// It is a JPEG of another size.
    #[error("its JPEG is {found}, not {asked}")]
    Resized {
        /// Its size.
        found: Size,
        /// The size that was agreed on.
        asked: Size,
    },
    /// Its layout is impossible.
    #[error("it can't be converted: {0}")]
    Layout(#[from] YuvError),
}

/// Converts the pictures of one camera.
#[derive(Debug)]
pub(super) struct Converter {
    layout: Layout,
    /// JPEG pictures that were read, and those that were broken before the first.
    whole: u32,
    broken: u32,
    /// A JPEG with the tables that it lacks.
    completed: Vec<u8>,
    /// What the decoder makes of one.
    rgba: Vec<u8>,
}

impl Converter {
    /// Makes one for pictures of this layout.
    pub(super) fn new(layout: Layout) -> Self {
        Self { layout, whole: 0, broken: 0, completed: Vec::new(), rgba: Vec::new() }
    }

    /// The bytes that a store needs: BGRX.
    pub(super) fn store(&self) -> usize {
        self.layout.size.width as usize * 4 * self.layout.size.height as usize
    }

    /// Writes one picture into a store.
    ///
    /// # Errors
    /// [`Damaged`] where it is not whole.
    pub(super) fn convert(&mut self, bytes: &[u8], bgrx: &mut [u8]) -> Result<(), Damaged> {
        if self.layout.pixels.is_compressed() { self.decode(bytes, bgrx) } else { self.unpack(bytes, bgrx) }
    }

    fn unpack(&self, bytes: &[u8], bgrx: &mut [u8]) -> Result<(), Damaged> {
        let Layout { pixels, size, stride, colours } = self.layout;
        let Size { width, height } = size;
        if width == 0 || height == 0 {
            return Ok(());
        }
        let (rows, pitch) = (height as usize, width * 4);
        let columns = width as usize;
        // Where the driver does not tell, rows are one after the other.
        let packed = match pixels {
            Pixels::Yuyv | Pixels::Uyvy => columns.next_multiple_of(2) * 2,
            Pixels::Rgb | Pixels::Bgr => columns * 3,
            _ => columns,
        };
        let stride = stride.max(packed);
        let range = if colours.is_full { YuvRange::Full } else { YuvRange::Limited };
        let matrix = if colours.is_709 { YuvStandardMatrix::Bt709 } else { YuvStandardMatrix::Bt601 };
        // The last row may be without its padding, which `yuv` wants: it leaves such a row out, or refuses all.
        let plane = |from: usize, stride: usize, row: usize, rows: usize| {
            let (whole, needed) = (from + stride * rows, from + stride * (rows - 1) + row);
            match (bytes.get(from..whole), bytes.get(from..needed)) {
                (Some(plane), _) => Ok(Cow::Borrowed(plane)),
                (None, Some(plane)) => {
                    let mut padded = plane.to_vec();
                    padded.resize(stride * rows, 0);
                    Ok(Cow::Owned(padded))
                }
                (None, None) => Err(Damaged::Short { found: bytes.len(), needed }),
            }
        };
        let step = stride as u32;
        match pixels {
            Pixels::Yuyv | Pixels::Uyvy => {
                let yuy = plane(0, stride, packed, rows)?;
                let image = YuvPackedImage { yuy: &yuy, yuy_stride: step, width, height };
                let convert = if pixels == Pixels::Yuyv { yuyv422_to_bgra } else { uyvy422_to_bgra };
                convert(&image, bgrx, pitch, range, matrix)?;
            }
            Pixels::Nv12 => {
                let luma = plane(0, stride, columns, rows)?;
                let chroma = plane(stride * rows, stride, columns.next_multiple_of(2), rows.div_ceil(2))?;
                let (y_plane, uv_plane) = (&*luma, &*chroma);
                let image = YuvBiPlanarImage { y_plane, y_stride: step, uv_plane, uv_stride: step, width, height };
                yuv_nv12_to_bgra(&image, bgrx, pitch, range, matrix, YuvConversionMode::Balanced)?;
            }
            Pixels::I420 => {
                let (luma, half, below) = (stride * rows, stride / 2, rows.div_ceil(2));
                let chroma = |from| plane(from, half, columns.div_ceil(2), below);
                let (y, u, v) = (plane(0, stride, columns, rows)?, chroma(luma)?, chroma(luma + half * below)?);
                let image = YuvPlanarImage {
                    y_plane: &y,
                    y_stride: step,
                    u_plane: &u,
                    u_stride: step / 2,
                    v_plane: &v,
                    v_stride: step / 2,
                    width,
                    height,
                };
                yuv420_to_bgra(&image, bgrx, pitch, range, matrix)?;
            }
            Pixels::Rgb => rgb_to_bgra(&plane(0, stride, packed, rows)?, step, bgrx, pitch, width, height)?,
            Pixels::Bgr => bgr_to_bgra(&plane(0, stride, packed, rows)?, step, bgrx, pitch, width, height)?,
            Pixels::Mjpeg | Pixels::Jpeg => {}
        }
        Ok(())
    }

    fn decode(&mut self, bytes: &[u8], bgrx: &mut [u8]) -> Result<(), Damaged> {
        // Buffers are often longer than what is in them, and some cameras pad it.
        let end = bytes.windows(2).rposition(|pair| pair == [0xFF, 0xD9]).map_or(bytes.len(), |at| at + 2);
        let bytes = &bytes[..end];
        let jpeg = match missing_tables(bytes) {
            Some(at) => {
                self.completed.clear();
                for part in [&bytes[..at], USUAL_TABLES, &bytes[at..]] {
                    self.completed.extend_from_slice(part);
                }
                self.completed.as_slice()
            }
            None => bytes,
        };
        let is_strict = self.whole > 0 || self.broken < LENIENT_AFTER;
        let size = self.layout.size;
        self.rgba.resize(bgrx.len(), 0);
        let rgba = self.rgba.as_mut_slice();
        // The decoder is foreign code at the mercy of a cable.
        let decoded = catch_unwind(AssertUnwindSafe(|| decode_jpeg(jpeg, size, is_strict, rgba)))
            .unwrap_or_else(|_| Err(Damaged::Jpeg("the decoder panicked".to_owned())));
        match decoded {
            Ok(()) if is_strict => self.whole = self.whole.saturating_add(1),
            Ok(()) => {}
            Err(_) => self.broken = self.broken.saturating_add(1),
        }
        decoded?;
        let Size { width, height } = size;
        Ok(rgba_to_bgra(&self.rgba, width * 4, bgrx, width * 4, width, height)?)
    }
}

/// Decodes to RGBA: the decoder has no SIMD for BGRA, and with the swap of two bytes this takes three quarters of the time (2.3 ms for
/// 1280x720, not 3.0).
fn decode_jpeg(jpeg: &[u8], size: Size, is_strict: bool, rgba: &mut [u8]) -> Result<(), Damaged> {
    let broken = |error: zune_jpeg::errors::DecodeErrors| Damaged::Jpeg(error.to_string());
    let options = DecoderOptions::default()
        .set_strict_mode(is_strict)
        .set_max_width(size.width as usize)
        .set_max_height(size.height as usize)
        .jpeg_set_out_colorspace(ColorSpace::RGBA);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(jpeg), options);
    decoder.decode_headers().map_err(broken)?;
    let found = decoder.info().map(|info| Size::new(info.width.into(), info.height.into()));
    let found = found.ok_or_else(|| Damaged::Jpeg("it has no size".to_owned()))?;
    if found != size {
        return Err(Damaged::Resized { found, asked: size });
    }
    if decoder.output_buffer_size() != Some(rgba.len()) {
        return Err(Damaged::Jpeg("it has no colours".to_owned()));
    }
    decoder.decode_into(rgba).map_err(broken)
}

/// Where Huffman tables belong in a JPEG that has none: before its scan. `None` where it has some, or no scan.
fn missing_tables(jpeg: &[u8]) -> Option<usize> {
    let mut at = 2;
    loop {
        let [0xFF, marker, high, low] = *jpeg.get(at..at + 4)? else { return None };
        match marker {
            0xC4 => return None,
            0xDA => return Some(at),
            // A fill byte.
            0xFF => at += 1,
            _ => at += 2 + usize::from(u16::from_be_bytes([high, low])),
        }
    }
}

#[cfg(test)]
mod tests;
