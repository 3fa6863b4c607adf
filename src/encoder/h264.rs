//! H.264 by openh264: constrained baseline, one slice a picture, one reference (ITU-T H.264; RFC 6184).
//!
//! Owns how a picture is encoded; its quantiser, and whether it is an IDR, are the caller's (`schedule`). openh264's own
//! rate control is off: it counts frames where we count time, moves its quantiser by three to five a picture, and so
//! neither sharpens a still screen within a second nor bounds a new page. Never skips a picture; one in which nothing changes is written by `still`. `Tool::Screen` may make an
//! IDR of a picture that has little of the one before; no other comes unasked. Parameter sets precede each IDR (rule 7);
//! the colour signalled is sRGB's primaries with BT.601's matrix, limited range.

use openh264_sys2::{
    CAMERA_VIDEO_REAL_TIME, CONSTANT_ID, LOW_COMPLEXITY, PRO_BASELINE, RC_OFF_MODE, SCREEN_CONTENT_REAL_TIME,
    SEncParamExt, SM_SINGLE_SLICE,
};

use super::Bitrate;
use super::picture::{Encoded, EncoderError, Order, Tool, check_size};
use crate::clock::MediaTime;
use crate::frame::Size;
use crate::frame::colour::I420;

mod raw;
mod still;
#[cfg(test)]
mod tests;

use still::Stills;

const LIBRARY: &str = "openh264";
/// The code point of BT.709's (and sRGB's) primaries and transfer in ITU-T H.264, tables E-3 and E-4.
const BT709: u8 = 1;
/// The code point of BT.601's matrix in table E-5.
const BT601_MATRIX: u8 = 6;
/// `video_format` 5: unspecified (table E-2).
const VIDEO_FORMAT_UNSPECIFIED: u8 = 5;

impl From<raw::Failure> for EncoderError {
    fn from(failure: raw::Failure) -> Self {
        Self::Codec { library: LIBRARY, call: failure.call, code: failure.code }
    }
}

/// An encoder of one size; its first picture is an IDR.
pub struct H264Encoder {
    raw: raw::RawEncoder,
    size: Size,
    tool: Tool,
    /// Where the source is nudged; only for refinement with `Tool::Screen`.
    nudged: Option<I420>,
    nudge_up: bool,
    stills: Stills,
}

impl H264Encoder {
    /// Starts an encoder for pictures of `size`; `bitrate` and `fps` only choose the level that is signalled.
    pub fn new(size: Size, tool: Tool, bitrate: Bitrate, fps: u32) -> Result<Self, EncoderError> {
        check_size(size)?;
        let raw = raw::RawEncoder::new(|params| configure(params, tool, size, bitrate, fps))?;
        Ok(Self { raw, size, tool, nudged: None, nudge_up: false, stills: Stills::new(size) })
    }

    /// The size that it encodes.
    pub fn size(&self) -> Size {
        self.size
    }

    /// How it finds motion.
    pub fn tool(&self) -> Tool {
        self.tool
    }

    /// Encodes one picture; after an error the encoder is to be dropped.
    pub fn encode(&mut self, planes: &I420, at: MediaTime, order: Order) -> Result<Encoded, EncoderError> {
        let luma = planes.size.width as usize * planes.size.height as usize;
        let whole = planes.y.len() >= luma && planes.u.len() >= luma / 4 && planes.v.len() >= luma / 4;
        if planes.size != self.size || !whole {
            return Err(EncoderError::Planes { expected: self.size, found: planes.size });
        }
        let still = Some(order.qp).filter(|_| order.still && !order.keyframe);
        if let Some(data) = still.and_then(|qp| self.stills.next(qp)) {
            return Ok(Encoded { data, keyframe: false, luma_psnr: None });
        }
        self.raw.set_qp(order.qp.0.min(51))?;
        if order.keyframe {
            self.raw.force_idr()?;
        }
        let milliseconds = i64::try_from(at.as_duration().as_millis()).unwrap_or(i64::MAX);
        let nudged = (order.refine && self.tool == Tool::Screen).then(|| self.nudge(planes));
        let unit = self.raw.encode(nudged.as_ref().unwrap_or(planes), milliseconds, order.measure);
        self.nudged = nudged.or(self.nudged.take());
        let unit = unit?;
        if unit.data.is_empty() {
            return Err(EncoderError::Nothing(LIBRARY));
        }
        let luma_psnr = order.measure.then_some(unit.luma_psnr);
        let data = self.stills.handle_unit(unit.data, unit.idr, still).ok_or(EncoderError::Nothing(LIBRARY))?;
        Ok(Encoded { data, keyframe: unit.idr, luma_psnr })
    }

    /// A copy of `planes` that differs in every block from the one before it, by a bit that nobody sees: `Tool::Screen`
    /// skips blocks whose source has not changed, however coarsely they were encoded.
    fn nudge(&mut self, planes: &I420) -> I420 {
        let mut copy = match self.nudged.take() {
            Some(mut copy) => {
                copy.y.copy_from_slice(&planes.y);
                copy.u.copy_from_slice(&planes.u);
                copy.v.copy_from_slice(&planes.v);
                copy
            }
            None => planes.clone(),
        };
        self.nudge_up = !self.nudge_up;
        nudge(&mut copy, self.nudge_up);
        copy
    }
}

/// Sets or clears the lowest bit of one luma pixel in each block of eight by eight.
fn nudge(planes: &mut I420, up: bool) {
    let (width, height) = (planes.size.width as usize, planes.size.height as usize);
    for row in (3..height).step_by(8) {
        for pixel in planes.y[row * width..(row + 1) * width].iter_mut().skip(3).step_by(8) {
            *pixel = if up { *pixel | 1 } else { *pixel & !1 };
        }
    }
}

fn configure(params: &mut SEncParamExt, tool: Tool, size: Size, bitrate: Bitrate, fps: u32) {
    let rate = i32::try_from(bitrate.0).unwrap_or(i32::MAX);
    params.iUsageType = match tool {
        Tool::Camera => CAMERA_VIDEO_REAL_TIME,
        Tool::Screen => SCREEN_CONTENT_REAL_TIME,
    };
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
    layer.uiColorMatrix = BT601_MATRIX;
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
