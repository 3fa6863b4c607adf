//! What a viewer sees of a stream, for tests: the decoder of either codec, and how true its pictures are.

#![allow(clippy::unwrap_used)]

use openh264::decoder::Decoder;
use openh264::formats::YUVSource;

use super::Codec;
#[cfg(feature = "vp8")]
use super::vp8::decoder::Vp8Decoder;
use crate::frame::Size;
use crate::frame::colour::I420;

/// The codecs of pictures that are built in.
pub const CODECS: &[Codec] = if cfg!(feature = "vp8") { &[Codec::H264, Codec::Vp8] } else { &[Codec::H264] };

/// A viewer of one stream.
pub enum Viewer {
    /// Of H.264.
    H264(Box<Decoder>),
    /// Of VP8.
    #[cfg(feature = "vp8")]
    Vp8(Vp8Decoder),
}

impl Viewer {
    /// Makes a viewer that has seen nothing.
    pub fn new(codec: Codec) -> Self {
        match codec {
            Codec::H264 => Self::H264(Box::new(Decoder::new().unwrap())),
            #[cfg(feature = "vp8")]
            Codec::Vp8 => Self::Vp8(Vp8Decoder::start()),
            other => panic!("{other} has no pictures"),
        }
    }

    /// Decodes one unit, which must show a picture.
    pub fn see(&mut self, unit: &[u8]) -> I420 {
        match self {
            Self::H264(decoder) => {
                let seen = decoder.decode(unit).unwrap().unwrap();
                let ((width, height), strides) = (seen.dimensions(), seen.strides());
                let plane = |plane: &[u8], stride: usize, width: usize, height: usize| {
                    plane.chunks(stride).take(height).flat_map(|row| &row[..width]).copied().collect()
                };
                I420 {
                    size: Size::new(width as u32, height as u32),
                    y: plane(seen.y(), strides.0, width, height),
                    u: plane(seen.u(), strides.1, width / 2, height / 2),
                    v: plane(seen.v(), strides.2, width / 2, height / 2),
                }
            }
            #[cfg(feature = "vp8")]
            Self::Vp8(decoder) => decoder.decode(unit).unwrap(),
        }
    }
}

/// Luma PSNR in dB of what is seen against its source.
pub fn luma_psnr(source: &I420, seen: &I420) -> f64 {
    assert_eq!(source.size, seen.size);
    let error: u64 = source.y.iter().zip(&seen.y).map(|(a, b)| u64::from(a.abs_diff(*b)).pow(2)).sum();
    10.0 * (255.0f64.powi(2) * source.y.len() as f64 / (error as f64).max(1.0)).log10()
}
