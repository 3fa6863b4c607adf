//! One encoder of pictures, whichever codec it is for.
//!
//! Owns the choice between the codecs that are built in, and what differs in how they are driven; never a decision about a picture.

use super::h264::H264Encoder;
use super::picture::{Encoded, EncoderError, Order, Tool, check_size};
#[cfg(feature = "vp8")]
use super::vp8::Vp8Encoder;
use super::{Bitrate, Codec};
use crate::clock::MediaTime;
use crate::frame::Size;
use crate::frame::colour::I420;

/// A running encoder; its first picture is a keyframe.
pub enum VideoEncoder {
    /// H.264 by openh264.
    H264(Box<H264Encoder>),
    /// VP8 by libvpx.
    #[cfg(feature = "vp8")]
    Vp8(Box<Vp8Encoder>),
}

impl VideoEncoder {
    /// Refuses codecs that are not built in and sizes that can't be encoded.
    pub fn check(codec: Codec, size: Size) -> Result<(), EncoderError> {
        match codec {
            Codec::H264 => check_size(size),
            #[cfg(feature = "vp8")]
            Codec::Vp8 => check_size(size),
            other => Err(EncoderError::Unavailable(other)),
        }
    }

    /// Starts an encoder for pictures of `size`; of `bitrate` and `fps` only H.264's level depends.
    pub fn new(codec: Codec, size: Size, tool: Tool, bitrate: Bitrate, fps: u32) -> Result<Self, EncoderError> {
        match codec {
            Codec::H264 => Ok(Self::H264(Box::new(H264Encoder::new(size, tool, bitrate, fps)?))),
            #[cfg(feature = "vp8")]
            Codec::Vp8 => Ok(Self::Vp8(Box::new(Vp8Encoder::new(size)?))),
            other => Err(EncoderError::Unavailable(other)),
        }
    }

    /// Whether the next picture can be encoded with `tool`; else another encoder is to be started.
    pub fn has(&self, tool: Tool) -> bool {
        match self {
            Self::H264(encoder) => encoder.tool() == tool,
            #[cfg(feature = "vp8")]
            Self::Vp8(_) => true,
        }
    }

    /// Encodes one picture with a tool that it has; after an error the encoder is to be dropped.
    pub fn encode(&mut self, planes: &I420, at: MediaTime, tool: Tool, order: Order) -> Result<Encoded, EncoderError> {
        match self {
            Self::H264(encoder) => {
                debug_assert_eq!(encoder.tool(), tool, "another tool takes another encoder");
                encoder.encode(planes, at, order)
            }
            #[cfg(feature = "vp8")]
            Self::Vp8(encoder) => encoder.encode(planes, tool, order),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_codec_of_pictures_or_not_built_in_is_refused() {
        let size = Size::new(64, 64);
        let absent = if cfg!(feature = "vp8") { Codec::Opus } else { Codec::Vp8 };
        let refused = Some(EncoderError::Unavailable(absent));
        assert_eq!(VideoEncoder::check(absent, size).err(), refused);
        assert_eq!(VideoEncoder::new(absent, size, Tool::Camera, Bitrate(1), 30).err(), refused);
        assert!(VideoEncoder::check(Codec::H264, size).is_ok());
        assert_eq!(VideoEncoder::check(Codec::Vp8, size).is_ok(), cfg!(feature = "vp8"));
    }
}
