//! H.264 by openh264: constrained baseline, one slice a picture, one reference (ITU-T H.264; RFC 6184).
//!
//! Owns how a picture is encoded; its quantiser, and whether it is an IDR, are the caller's (`rate`). openh264's own rate
//! control is off: it counts frames where we count time, moves its quantiser by three to five a picture, and so neither
//! sharpens a still screen within a second nor bounds a change of slides. Never skips a picture, never makes an IDR that
//! was not asked for. Parameter sets precede each IDR (rule 7); the colour signalled is BT.709, limited range.

use bytes::Bytes;
use openh264_sys2::{
    CAMERA_VIDEO_REAL_TIME, CONSTANT_ID, LOW_COMPLEXITY, PRO_BASELINE, RC_OFF_MODE, SEncParamExt, SM_SINGLE_SLICE,
};

use super::Bitrate;
use crate::clock::MediaTime;
use crate::frame::Size;
use crate::frame::colour::I420;

mod raw;
#[cfg(test)]
mod tests;

/// The code points of BT.709 in ITU-T H.264, tables E-3 to E-5.
const BT709: u8 = 1;
/// `video_format` 5: unspecified (table E-2).
const VIDEO_FORMAT_UNSPECIFIED: u8 = 5;

/// Why a picture could not be encoded.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum EncoderError {
    /// openh264 encodes from 16x16 to 3840x2160 (either way up), in even extents.
    #[error("H.264 pictures are even, from 16x16 to 3840x2160 or 2160x3840, not {0}")]
    Size(Size),
    /// The planes are not those of the size that the encoder was made for.
    #[error("the encoder was made for {expected}, the picture is {found} or its planes are short")]
    Planes {
        /// What the encoder was made for.
        expected: Size,
        /// What the picture says.
        found: Size,
    },
    /// openh264 refused.
    #[error("openh264: {call} returned {code}")]
    Codec {
        /// The C function.
        call: &'static str,
        /// What it returned.
        code: i32,
    },
    /// The operating system gave no thread.
    #[error("no thread for the encoder: {0}")]
    Thread(std::io::ErrorKind),
}

impl From<raw::Failure> for EncoderError {
    fn from(failure: raw::Failure) -> Self {
        Self::Codec { call: failure.call, code: failure.code }
    }
}

/// A quantiser of H.264, 0 (finest) to 51: six steps halve the rate, roughly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Qp(pub u8);

/// How one picture is to be encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order {
    /// The quantiser of the whole picture.
    pub qp: Qp,
    /// Whether it is to be an IDR.
    pub keyframe: bool,
    /// Whether the reconstruction's luma PSNR is wanted (about a millisecond at 1080p).
    pub measure: bool,
}

/// One encoded picture.
#[derive(Debug, Clone)]
pub struct Encoded {
    /// Annex B byte stream.
    pub data: Bytes,
    /// Whether it is an IDR with its parameter sets.
    pub keyframe: bool,
    /// Luma PSNR of what a viewer will see against the source, in dB, where it was asked for.
    pub luma_psnr: Option<f32>,
}

/// An encoder of one size; its first picture is an IDR.
pub struct H264Encoder {
    raw: raw::RawEncoder,
    size: Size,
}

impl H264Encoder {
    /// Starts an encoder for pictures of `size`; `bitrate` and `fps` only choose the level that is signalled.
    pub fn new(size: Size, bitrate: Bitrate, fps: u32) -> Result<Self, EncoderError> {
        check_size(size)?;
        let raw = raw::RawEncoder::new(|params| configure(params, size, bitrate, fps))?;
        Ok(Self { raw, size })
    }

    /// The size that it encodes.
    pub fn size(&self) -> Size {
        self.size
    }

    /// Encodes one picture; `None` where openh264 made nothing of it. After an error the encoder is to be dropped.
    pub fn encode(&mut self, planes: &I420, at: MediaTime, order: Order) -> Result<Option<Encoded>, EncoderError> {
        let luma = planes.size.width as usize * planes.size.height as usize;
        let whole = planes.y.len() >= luma && planes.u.len() >= luma / 4 && planes.v.len() >= luma / 4;
        if planes.size != self.size || !whole {
            return Err(EncoderError::Planes { expected: self.size, found: planes.size });
        }
        self.raw.set_qp(order.qp.0.min(51))?;
        if order.keyframe {
            self.raw.force_idr()?;
        }
        let milliseconds = i64::try_from(at.as_duration().as_millis()).unwrap_or(i64::MAX);
        let unit = self.raw.encode(planes, milliseconds, order.measure)?;
        Ok((!unit.data.is_empty()).then(|| Encoded {
            data: Bytes::from(unit.data),
            keyframe: unit.idr,
            luma_psnr: order.measure.then_some(unit.luma_psnr),
        }))
    }
}

/// Refuses sizes that openh264 doesn't encode.
pub fn check_size(size: Size) -> Result<(), EncoderError> {
    let (long, short) = (size.width.max(size.height), size.width.min(size.height));
    let even = size.width.is_multiple_of(2) && size.height.is_multiple_of(2);
    if short < 16 || short > 2160 || long > 3840 || !even { Err(EncoderError::Size(size)) } else { Ok(()) }
}

fn configure(params: &mut SEncParamExt, size: Size, bitrate: Bitrate, fps: u32) {
    let rate = i32::try_from(bitrate.0).unwrap_or(i32::MAX);
    params.iUsageType = if std::env::var("SCREEN").is_ok(){openh264_sys2::SCREEN_CONTENT_REAL_TIME}else{CAMERA_VIDEO_REAL_TIME};
    params.iPicWidth = size.width as i32;
    params.iPicHeight = size.height as i32;
    params.iTargetBitrate = rate;
    params.iRCMode = RC_OFF_MODE;
    params.fMaxFrameRate = fps as f32;
    params.iTemporalLayerNum = 1;
    params.iSpatialLayerNum = 1;
    params.iComplexityMode = LOW_COMPLEXITY;
    params.uiIntraPeriod = 0;
    params.iNumRefFrame = 1;
    params.eSpsPpsIdStrategy = CONSTANT_ID;
    params.iEntropyCodingModeFlag = 0;
    params.bEnableFrameSkip = false;
    params.bEnableLongTermReference = false;
    params.iMultipleThreadIdc = 1;
    params.bEnableDenoise = false;
    params.bEnableBackgroundDetection = false;
    params.bEnableAdaptiveQuant = false;
    params.bEnableSceneChangeDetect = false;

    let layer = &mut params.sSpatialLayers[0];
    layer.iVideoWidth = size.width as i32;
    layer.iVideoHeight = size.height as i32;
    layer.fFrameRate = fps as f32;
    layer.iSpatialBitrate = rate;
    layer.uiProfileIdc = PRO_BASELINE;
    layer.uiLevelIdc = level(size, fps) as _;
    layer.sSliceArgument.uiSliceMode = SM_SINGLE_SLICE;
    layer.sSliceArgument.uiSliceNum = 1;
    layer.bVideoSignalTypePresent = true;
    layer.uiVideoFormat = VIDEO_FORMAT_UNSPECIFIED;
    layer.bFullRange = false;
    layer.bColorDescriptionPresent = true;
    layer.uiColorPrimaries = BT709;
    layer.uiTransferCharacteristics = BT709;
    layer.uiColorMatrix = BT709;
}

/// The lowest level (times ten) from 3.1 whose frame size and macroblock rate suffice (ITU-T H.264, table A-1).
fn level(size: Size, fps: u32) -> u32 {
    const LEVELS: [(u32, u32, u32); 7] = [
        (31, 3_600, 108_000),
        (32, 5_120, 216_000),
        (40, 8_192, 245_760),
        (42, 8_704, 522_240),
        (50, 22_080, 589_824),
        (51, 36_864, 983_040),
        (52, 36_864, 2_073_600),
    ];
    let blocks = size.width.div_ceil(16) * size.height.div_ceil(16);
    let rate = blocks.saturating_mul(fps);
    LEVELS.iter().find(|(_, most, fastest)| blocks <= *most && rate <= *fastest).map_or(52, |(level, ..)| *level)
}
