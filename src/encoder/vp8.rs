//! VP8 by libvpx: profile 0, one partition, the last picture as the only reference (RFC 6386).
//!
//! Owns how a picture is encoded; its quantiser, and whether it is a keyframe, are the caller's (`schedule`). libvpx's own rate
//! control is off in effect: the least and the most quantiser are the same. Never skips a picture, never makes a keyframe
//! unasked but the first. Macroblocks that would not gain are told apart beforehand (`blocks`): a key typed and a pulse cost
//! little time and few bytes.

use bytes::Bytes;
use vpx_sys::vp8e_enc_control_id::{
    VP8E_SET_CPUUSED, VP8E_SET_ENABLEAUTOALTREF, VP8E_SET_NOISE_SENSITIVITY, VP8E_SET_SCREEN_CONTENT_MODE,
    VP8E_SET_STATIC_THRESHOLD, VP8E_SET_TOKEN_PARTITIONS,
};
use vpx_sys::{
    VP8_EFLAG_NO_REF_ARF, VP8_EFLAG_NO_REF_GF, VP8_EFLAG_NO_UPD_ARF, VP8_EFLAG_NO_UPD_GF, VPX_EFLAG_FORCE_KF,
    vpx_codec_enc_cfg_t, vpx_enc_pass, vpx_kf_mode, vpx_rc_mode,
};

use super::picture::{Encoded, EncoderError, Order, Qp, Tool, check_size};
use crate::frame::Size;
use crate::frame::colour::I420;

mod blocks;
#[cfg(test)]
pub mod decoder;
mod raw;
#[cfg(test)]
mod tests;

use blocks::Blocks;

/// libvpx's coarsest quantiser.
const MOST_QUANTISER: u8 = 63;
/// libvpx's cpu-used for either tool. From -4 on it loses text that moves by 60 rows a picture (48 to 124 kB a step at
/// 1080p instead of 12 to 16), which -3 finds in 26 ms and -1 in 38; past -6 little is gained in time.
const QUICK: i32 = -6;
const FAR: i32 = -3;
/// The squared error of a macroblock below which it is left as it is: 52 dB. From 400 on refinement to 45 dB takes longer.
const STATIC_THRESHOLD: i32 = 100;
/// The last picture is the only reference: others cost time and gain nothing on a screen.
const LAST_ONLY: u32 = VP8_EFLAG_NO_REF_GF | VP8_EFLAG_NO_REF_ARF | VP8_EFLAG_NO_UPD_GF | VP8_EFLAG_NO_UPD_ARF;
const LIBRARY: &str = "libvpx";

impl From<raw::Failure> for EncoderError {
    fn from(failure: raw::Failure) -> Self {
        Self::Codec { library: LIBRARY, call: failure.call, code: failure.code }
    }
}

/// An encoder of one size; its first picture is a keyframe.
pub struct Vp8Encoder {
    raw: raw::RawEncoder,
    blocks: Blocks,
    size: Size,
    tool: Option<Tool>,
    fresh: bool,
}

impl Vp8Encoder {
    /// Starts an encoder for pictures of `size`.
    pub fn new(size: Size) -> Result<Self, EncoderError> {
        check_size(size)?;
        let controls = [
            (VP8E_SET_STATIC_THRESHOLD, STATIC_THRESHOLD),
            (VP8E_SET_SCREEN_CONTENT_MODE, 1),
            (VP8E_SET_NOISE_SENSITIVITY, 0),
            (VP8E_SET_TOKEN_PARTITIONS, 0),
            (VP8E_SET_ENABLEAUTOALTREF, 0),
        ];
        let raw = raw::RawEncoder::new(|config| configure(config, size), &controls)?;
        Ok(Self { raw, blocks: Blocks::new(size), size, tool: None, fresh: true })
    }

    /// Encodes one picture; after an error the encoder is to be dropped.
    pub fn encode(&mut self, planes: &I420, tool: Tool, order: Order) -> Result<Encoded, EncoderError> {
        let luma = self.size.width as usize * self.size.height as usize;
        let whole = planes.y.len() == luma && planes.u.len() == luma / 4 && planes.v.len() == luma / 4;
        if planes.size != self.size || !whole {
            return Err(EncoderError::Planes { expected: self.size, found: planes.size });
        }
        let keyframe = order.keyframe || self.fresh;
        let quantiser = quantiser(order.qp);
        let active = self.blocks.observe(planes, quantiser, keyframe);
        // Where nothing is encoded, the quantiser only says how strongly the loop filter smooths, which it shall not.
        self.raw.set_quantiser(if active == 0 { 0 } else { quantiser })?;
        self.set_tool(tool)?;
        let columns = self.blocks.columns();
        self.raw.set_active(self.blocks.active(), columns)?;
        let unit = self.raw.encode(planes, if keyframe { VPX_EFLAG_FORCE_KF } else { LAST_ONLY })?;
        if unit.data.is_empty() {
            return Err(EncoderError::Nothing(LIBRARY));
        }
        self.fresh = false;
        let luma_psnr = if order.measure { self.raw.reconstruction(|rows| luma_psnr(planes, rows)) } else { None };
        Ok(Encoded { data: Bytes::from(unit.data), keyframe: unit.keyframe, luma_psnr })
    }

    fn set_tool(&mut self, tool: Tool) -> Result<(), EncoderError> {
        if self.tool != Some(tool) {
            let speed = match tool {
                Tool::Camera => QUICK,
                Tool::Screen => FAR,
            };
            self.raw.control(VP8E_SET_CPUUSED, speed)?;
            self.tool = Some(tool);
        }
        Ok(())
    }
}

/// libvpx's quantiser (0 to 63) at which luma is about as true as with H.264's `qp`, on pages of text at 1080p.
///
/// From 24 to 42 the two differ by at most 1.3 dB (keyframes of two pages), at a size that is smaller by a fifth. Towards `SHARP` it
/// is finer by 1 to 2 dB: refining text in steps leaves more error than encoding it once, and at 17 instead of 13 it stays
/// below 45 dB. Past the points the coarsest is used: openh264 goes 5 dB further down.
fn quantiser(qp: Qp) -> u8 {
    const POINTS: [(u8, u8); 18] = [
        (0, 0),
        (12, 2),
        (14, 4),
        (16, 7),
        (18, 10),
        (20, 13),
        (22, 17),
        (24, 21),
        (26, 25),
        (28, 29),
        (30, 33),
        (32, 38),
        (34, 42),
        (36, 45),
        (38, 49),
        (40, 52),
        (42, 56),
        (46, 63),
    ];
    let above = POINTS.iter().position(|(at, _)| *at >= qp.0);
    match above {
        Some(0) => POINTS[0].1,
        Some(index) => {
            let ((from, low), (to, high)) = (POINTS[index - 1], POINTS[index]);
            low + (high - low) * (qp.0 - from) / (to - from)
        }
        None => MOST_QUANTISER,
    }
}

/// Luma PSNR, in dB, of the rows `seen` against the source.
fn luma_psnr(source: &I420, seen: &mut dyn Iterator<Item = &[u8]>) -> f32 {
    let width = source.size.width as usize;
    let difference = |(a, b): (&u8, &u8)| u32::from(a.abs_diff(*b)).pow(2);
    // The sum of a row of the widest picture fits 32 bits, which the compiler turns into SIMD.
    let row = |(a, b): (&[u8], &[u8])| u64::from(a.iter().zip(b).map(difference).sum::<u32>());
    let error: u64 = source.y.chunks_exact(width).zip(seen).map(row).sum();
    (10.0 * (255.0f64.powi(2) * source.y.len() as f64 / (error as f64).max(1.0)).log10()) as f32
}

fn configure(config: &mut vpx_codec_enc_cfg_t, size: Size) {
    config.g_w = size.width;
    config.g_h = size.height;
    config.g_threads = 1;
    config.g_profile = 0;
    config.g_timebase.num = 1;
    config.g_timebase.den = 30;
    config.g_pass = vpx_enc_pass::VPX_RC_ONE_PASS;
    config.g_lag_in_frames = 0;
    config.g_error_resilient = 0;
    // Not CBR: its cyclic refresh moves the quantiser of macroblocks and sends a map of them with each picture.
    config.rc_end_usage = vpx_rc_mode::VPX_VBR;
    config.rc_dropframe_thresh = 0;
    config.rc_resize_allowed = 0;
    config.kf_mode = vpx_kf_mode::VPX_KF_DISABLED;
}
