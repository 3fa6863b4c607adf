//! The one place that calls openh264's C interface: owns the encoder's handle and its parameters.
//!
//! Decides nothing: every setting comes from the parent module. Never keeps a pointer to a caller's planes past a call.
#![expect(
    unsafe_code,
    reason = "openh264 is a C library, and the safe wrapper can't change the quantiser of a running encoder"
)]

use std::ffi::{c_int, c_void};
use std::ptr;

use openh264_sys2::{
    API, DynamicAPI, ENCODER_OPTION, ENCODER_OPTION_SVC_ENCODE_PARAM_EXT, ENCODER_OPTION_TRACE_LEVEL, ISVCEncoder,
    ISVCEncoderVtbl, SEncParamExt, SFrameBSInfo, SSourcePicture, VIDEO_CODING_LAYER, WELS_LOG_QUIET, videoFormatI420,
    videoFrameTypeIDR, videoFrameTypeInvalid, videoFrameTypeSkip,
};

use crate::frame::colour::I420;

/// A non-zero code that openh264 returned, and the call that returned it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Failure {
    /// The C function.
    pub(super) call: &'static str,
    /// What it returned (`CM_RETURN`).
    pub(super) code: c_int,
}

/// What one call of `EncodeFrame` gave.
pub(super) struct RawUnit {
    /// The Annex B byte stream; empty where the encoder made nothing.
    pub(super) data: Vec<u8>,
    /// Whether it is an IDR picture.
    pub(super) idr: bool,
    /// Luma PSNR of the reconstruction in dB, where it was asked for.
    pub(super) luma_psnr: f32,
}

/// An initialised encoder.
pub(super) struct RawEncoder {
    api: DynamicAPI,
    handle: *mut ISVCEncoder,
    params: Box<SEncParamExt>,
    info: Box<SFrameBSInfo>,
}

// SAFETY: the encoder has no thread affinity; `&mut self` keeps its calls apart, and it starts no thread with one slice.
unsafe impl Send for RawEncoder {}

impl RawEncoder {
    /// Creates and initialises an encoder; `set` fills in openh264's default parameters.
    pub(super) fn new(set: impl FnOnce(&mut SEncParamExt)) -> Result<Self, Failure> {
        let api = DynamicAPI::from_source();
        let mut handle = ptr::null_mut();
        // SAFETY: `handle` outlives the call, which writes it once.
        check("WelsCreateSVCEncoder", unsafe { api.WelsCreateSVCEncoder(&raw mut handle) })?;
        if handle.is_null() {
            return Err(Failure { call: "WelsCreateSVCEncoder", code: -1 });
        }
        let mut encoder = Self { api, handle, params: Box::default(), info: Box::default() };
        let mut level: c_int = WELS_LOG_QUIET as c_int;
        encoder.set_option("SetOption(TRACE_LEVEL)", ENCODER_OPTION_TRACE_LEVEL, (&raw mut level).cast())?;
        let defaults = encoder.entry("GetDefaultParams", |table| table.GetDefaultParams)?;
        // SAFETY: the handle is live, and `params` is a whole structure that the call fills.
        check("GetDefaultParams", unsafe { defaults(encoder.handle, &raw mut *encoder.params) })?;
        set(&mut encoder.params);
        let initialize = encoder.entry("InitializeExt", |table| table.InitializeExt)?;
        // SAFETY: the handle is live, and the call copies the parameters.
        check("InitializeExt", unsafe { initialize(encoder.handle, &raw const *encoder.params) })?;
        Ok(encoder)
    }

    /// Sets the quantiser of the pictures to come; neither resets the encoder nor makes an IDR.
    pub(super) fn set_qp(&mut self, qp: u8) -> Result<(), Failure> {
        if self.params.sSpatialLayers[0].iDLayerQp == c_int::from(qp) {
            return Ok(());
        }
        self.params.sSpatialLayers[0].iDLayerQp = c_int::from(qp);
        let params = (&raw mut *self.params).cast();
        self.set_option("SetOption(SVC_ENCODE_PARAM_EXT)", ENCODER_OPTION_SVC_ENCODE_PARAM_EXT, params)
    }

    /// Makes the next picture an IDR.
    pub(super) fn force_idr(&mut self) -> Result<(), Failure> {
        let force = self.entry("ForceIntraFrame", |table| table.ForceIntraFrame)?;
        // SAFETY: the handle is live and initialised.
        check("ForceIntraFrame", unsafe { force(self.handle, true) })
    }

    /// Encodes one picture; `milliseconds` is its timestamp.
    pub(super) fn encode(&mut self, planes: &I420, milliseconds: i64, measure: bool) -> Result<RawUnit, Failure> {
        let encode = self.entry("EncodeFrame", |table| table.EncodeFrame)?;
        let (width, height) = (planes.size.width as c_int, planes.size.height as c_int);
        let pointers = [planes.y.as_ptr(), planes.u.as_ptr(), planes.v.as_ptr()].map(<*const u8>::cast_mut);
        let source = SSourcePicture {
            iColorFormat: videoFormatI420,
            iStride: [width, width / 2, width / 2, 0],
            pData: [pointers[0], pointers[1], pointers[2], ptr::null_mut()],
            iPicWidth: width,
            iPicHeight: height,
            uiTimeStamp: milliseconds,
            bPsnrY: measure,
            bPsnrU: false,
            bPsnrV: false,
        };
        // SAFETY: the handle is live and initialised. The planes hold `height` and `height / 2` contiguous rows of these
        // widths (the parent checks their lengths); the encoder copies them into its own padded picture and writes none.
        check("EncodeFrame", unsafe { encode(self.handle, &raw const source, &raw mut *self.info) })?;
        Ok(self.collect())
    }

    /// Copies the byte stream of the last call out of the encoder's buffer.
    fn collect(&self) -> RawUnit {
        let mut unit = RawUnit { data: Vec::new(), idr: self.info.eFrameType == videoFrameTypeIDR, luma_psnr: 0.0 };
        if self.info.eFrameType == videoFrameTypeInvalid || self.info.eFrameType == videoFrameTypeSkip {
            return unit;
        }
        unit.data.reserve_exact(usize::try_from(self.info.iFrameSizeInBytes).unwrap_or(0));
        let layers = usize::try_from(self.info.iLayerNum).unwrap_or(0);
        for layer in self.info.sLayerInfo.iter().take(layers) {
            let count = usize::try_from(layer.iNalCount).unwrap_or(0);
            if count == 0 || layer.pNalLengthInByte.is_null() || layer.pBsBuf.is_null() {
                continue;
            }
            // SAFETY: the encoder gives `iNalCount` lengths, valid until its next call, which `&mut self` excludes.
            let lengths = unsafe { std::slice::from_raw_parts(layer.pNalLengthInByte, count) };
            let length = lengths.iter().map(|length| usize::try_from(*length).unwrap_or(0)).sum();
            // SAFETY: the NAL units of a layer lie one after another in its buffer, valid as long as the lengths.
            unit.data.extend_from_slice(unsafe { std::slice::from_raw_parts(layer.pBsBuf, length) });
            if i32::from(layer.uiLayerType) == VIDEO_CODING_LAYER {
                unit.luma_psnr = layer.rPsnr[0];
            }
        }
        unit
    }

    fn set_option(&mut self, call: &'static str, option: ENCODER_OPTION, value: *mut c_void) -> Result<(), Failure> {
        let set = self.entry(call, |table| table.SetOption)?;
        // SAFETY: the handle is live, and each caller passes a pointer to the type that its option takes.
        check(call, unsafe { set(self.handle, option, value) })
    }

    fn entry<F>(&self, call: &'static str, pick: impl FnOnce(&ISVCEncoderVtbl) -> Option<F>) -> Result<F, Failure> {
        // SAFETY: a live handle points to its table of functions, which is constant for the life of the library.
        let table = unsafe { (*self.handle).as_ref() };
        table.and_then(pick).ok_or(Failure { call, code: -1 })
    }
}

impl Drop for RawEncoder {
    fn drop(&mut self) {
        if let Ok(uninitialize) = self.entry("Uninitialize", |table| table.Uninitialize) {
            // SAFETY: the handle is live; the call does nothing to an encoder that was never initialised.
            unsafe { uninitialize(self.handle) };
        }
        // SAFETY: the handle came from the same library's constructor and is used by nobody after this.
        unsafe { self.api.WelsDestroySVCEncoder(self.handle) };
    }
}

fn check(call: &'static str, code: c_int) -> Result<(), Failure> {
    if code == 0 { Ok(()) } else { Err(Failure { call, code }) }
}
