//! What a picture's encoder is told, what it gives, and why it may not: the same for each codec.
//!
//! Owns these types and the sizes that can be encoded; never a codec.

use bytes::Bytes;

use super::Codec;
use crate::frame::Size;

/// Why a picture could not be encoded.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum EncoderError {
    /// Pictures are encoded from 16x16 to 3840x2160 (either way up), in even extents.
    #[error("pictures are even, from 16x16 to 3840x2160 or 2160x3840, not {0}")]
    Size(Size),
    /// The planes are not those of the size that the encoder was made for.
    #[error("the encoder was made for {expected}, the picture is {found} or its planes are short")]
    Planes {
        /// What the encoder was made for.
        expected: Size,
        /// What the picture says.
        found: Size,
    },
    /// The codec's library refused.
    #[error("{library}: {call} returned {code}")]
    Codec {
        /// The library.
        library: &'static str,
        /// The C function.
        call: &'static str,
        /// What it returned.
        code: i32,
    },
    /// The codec made nothing of a picture, although it may not skip any.
    #[error("{0} made nothing of a picture")]
    Nothing(&'static str),
    /// This program can't encode pictures so.
    #[error("no encoder for {0} pictures is built in: choose another codec, or build with its feature")]
    Unavailable(Codec),
    /// The operating system gave no thread.
    #[error("no thread for the encoder: {0}")]
    Thread(std::io::ErrorKind),
}

/// A quantiser on H.264's scale, 0 (finest) to 51: six steps halve the rate, roughly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Qp(pub u8);

/// How motion is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// Quickly: text that moves by more than a few pixels is lost, and then costs as much as a new page. H.264: diamond search,
    /// 4 ms for a little change at 1080p. VP8: 3 ms.
    Camera,
    /// Far: a scrolled page costs a tenth. H.264: scroll detection and block features, 10 ms for a little change, and the change
    /// of tools takes another encoder, so a keyframe. VP8: 20 to 28 ms for a scrolled page, changed with any picture.
    Screen,
}

/// How one picture is to be encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order {
    /// The quantiser of the whole picture.
    pub qp: Qp,
    /// Whether it is to be a keyframe.
    pub keyframe: bool,
    /// Whether the source is the same as before and yet is to be encoded better.
    pub refine: bool,
    /// Whether the source is the same as before, and nothing is to be gained: it only has to be shown again.
    pub still: bool,
    /// Whether the reconstruction's luma PSNR is wanted (about a millisecond at 1080p).
    pub measure: bool,
}

/// One encoded picture.
#[derive(Debug, Clone)]
pub struct Encoded {
    /// H.264: Annex B byte stream. VP8: one frame.
    pub data: Bytes,
    /// Whether decoding can start here.
    pub keyframe: bool,
    /// Luma PSNR of what a viewer will see against the source, in dB, where it was asked for.
    pub luma_psnr: Option<f32>,
}

/// Refuses sizes that can't be encoded, or sent.
pub fn check_size(size: Size) -> Result<(), EncoderError> {
    let even = size.width.is_multiple_of(2) && size.height.is_multiple_of(2);
    if size.can_be_sent() && even { Ok(()) } else { Err(EncoderError::Size(size)) }
}
