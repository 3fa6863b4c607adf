//! The one place that calls libvpx's C interface: owns the encoder's context and its configuration.
//!
//! Decides nothing: every setting comes from the parent module. Never keeps a pointer to a caller's planes past a call.
#![expect(
    unsafe_code,
    reason = "libvpx is a C library, and no safe wrapper changes the quantiser of a running encoder"
)]

use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::{ptr, slice};

use vpx_sys::vp8e_enc_control_id::{self, VP8E_SET_ACTIVEMAP};
use vpx_sys::vpx_codec_cx_pkt_kind::VPX_CODEC_CX_FRAME_PKT;
use vpx_sys::{
    VPX_CODEC_OK, VPX_DL_REALTIME, VPX_ENCODER_ABI_VERSION, VPX_FRAME_IS_KEY, vpx_active_map_t, vpx_codec_control_,
    vpx_codec_ctx_t, vpx_codec_destroy, vpx_codec_enc_cfg_t, vpx_codec_enc_config_default, vpx_codec_enc_config_set,
    vpx_codec_enc_init_ver, vpx_codec_encode, vpx_codec_err_t, vpx_codec_get_cx_data, vpx_codec_get_preview_frame,
    vpx_codec_vp8_cx, vpx_image_t, vpx_img_fmt, vpx_img_wrap,
};

use crate::frame::colour::I420;

/// A code other than success that libvpx returned, and the call that returned it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Failure {
    /// The C function.
    pub(super) call: &'static str,
    /// What it returned (`vpx_codec_err_t`).
    pub(super) code: c_int,
}

/// What one call of `vpx_codec_encode` gave.
#[derive(Default)]
pub(super) struct RawUnit {
    /// The frame; empty where the encoder made nothing.
    pub(super) data: Vec<u8>,
    /// Whether it is a keyframe.
    pub(super) keyframe: bool,
}

/// An initialised encoder.
pub(super) struct RawEncoder {
    context: Box<vpx_codec_ctx_t>,
    config: vpx_codec_enc_cfg_t,
    pictures: i64,
}

// SAFETY: the encoder has no thread affinity; `&mut self` keeps its calls apart, and it starts no thread where `g_threads` is 1.
unsafe impl Send for RawEncoder {}

impl RawEncoder {
    /// Creates an encoder; `set` fills in libvpx's default configuration, and `controls` are applied after that.
    pub(super) fn new(
        set: impl FnOnce(&mut vpx_codec_enc_cfg_t),
        controls: &[(vp8e_enc_control_id, c_int)],
    ) -> Result<Self, Failure> {
        // SAFETY: a call without arguments that returns a pointer to a constant.
        let interface = unsafe { vpx_codec_vp8_cx() };
        let mut config = MaybeUninit::<vpx_codec_enc_cfg_t>::zeroed();
        // SAFETY: `config` is writable for the whole structure.
        check("vpx_codec_enc_config_default", unsafe {
            vpx_codec_enc_config_default(interface, config.as_mut_ptr(), 0)
        })?;
        // SAFETY: the call above succeeded, and so has filled the structure.
        let mut config = unsafe { config.assume_init() };
        set(&mut config);
        // SAFETY: all of its fields are valid as zeros: pointers, integers, and an enum whose zero is `VPX_CODEC_OK`.
        let mut context: Box<vpx_codec_ctx_t> = Box::new(unsafe { MaybeUninit::zeroed().assume_init() });
        // SAFETY: the context is writable and stays where it is; the call copies the configuration.
        check("vpx_codec_enc_init", unsafe {
            vpx_codec_enc_init_ver(&raw mut *context, interface, &raw const config, 0, VPX_ENCODER_ABI_VERSION as c_int)
        })?;
        let mut encoder = Self { context, config, pictures: 0 };
        for (control, value) in controls {
            encoder.control(*control, *value)?;
        }
        Ok(encoder)
    }

    /// Sets an option of the pictures to come; not one that takes a map.
    pub(super) fn control(&mut self, control: vp8e_enc_control_id, value: c_int) -> Result<(), Failure> {
        // SAFETY: the context is live, and all options but maps take an int.
        check("vpx_codec_control", unsafe { vpx_codec_control_(self.context(), control as c_int, value) })
    }

    /// Sets the quantiser (0 to 63) of the pictures to come; neither resets the encoder nor makes a keyframe.
    pub(super) fn set_quantiser(&mut self, quantiser: u8) -> Result<(), Failure> {
        let quantiser = u32::from(quantiser);
        if self.config.rc_min_quantizer == quantiser && self.config.rc_max_quantizer == quantiser {
            return Ok(());
        }
        self.config.rc_min_quantizer = quantiser;
        self.config.rc_max_quantizer = quantiser;
        let config = &raw const self.config;
        // SAFETY: the context is live, and the call copies the configuration.
        check("vpx_codec_enc_config_set", unsafe { vpx_codec_enc_config_set(self.context(), config) })
    }

    /// Says which macroblocks may differ from those of the picture before: `rows` of `columns` bytes, 0 where not.
    pub(super) fn set_active(&mut self, active: &mut [u8], columns: usize) -> Result<(), Failure> {
        let mut map = vpx_active_map_t {
            active_map: active.as_mut_ptr(),
            rows: (active.len() / columns) as u32,
            cols: columns as u32,
        };
        // SAFETY: the context is live; the map has as many bytes as it says, and the call copies them if these are as many as the
        // picture has macroblocks, else it fails.
        let code = unsafe { vpx_codec_control_(self.context(), VP8E_SET_ACTIVEMAP as c_int, &raw mut map) };
        check("vpx_codec_control(ACTIVEMAP)", code)
    }

    /// Encodes one picture of the configured size, whose planes are whole.
    pub(super) fn encode(&mut self, planes: &I420, flags: u32) -> Result<RawUnit, Failure> {
        let (width, height) = (planes.size.width, planes.size.height);
        let pointers = [planes.y.as_ptr(), planes.u.as_ptr(), planes.v.as_ptr()].map(<*const u8>::cast_mut);
        let mut image = MaybeUninit::<vpx_image_t>::zeroed();
        // SAFETY: the call fills the structure and reads no pixel.
        let wrapped =
            unsafe { vpx_img_wrap(image.as_mut_ptr(), vpx_img_fmt::VPX_IMG_FMT_I420, width, height, 1, pointers[0]) };
        if wrapped.is_null() {
            return Err(Failure { call: "vpx_img_wrap", code: -1 });
        }
        // SAFETY: the call above succeeded, and so has filled the structure.
        let mut image = unsafe { image.assume_init() };
        image.planes[..3].copy_from_slice(&pointers);
        image.stride[..3].copy_from_slice(&[width as c_int, (width / 2) as c_int, (width / 2) as c_int]);
        let time = self.pictures;
        self.pictures += 1;
        let deadline = u64::from(VPX_DL_REALTIME);
        // SAFETY: the context is live. The planes hold `height` and `height / 2` contiguous rows of these widths (the parent checks
        // their lengths); the encoder copies them into its own picture and writes none.
        check("vpx_codec_encode", unsafe {
            vpx_codec_encode(self.context(), &raw const image, time, 1, flags.into(), deadline)
        })?;
        Ok(self.collect())
    }

    /// Copies the frame of the last call out of the encoder's buffer.
    fn collect(&mut self) -> RawUnit {
        let mut unit = RawUnit::default();
        let mut position = ptr::null();
        loop {
            // SAFETY: the context is live, and `position` is null or what the last call made of it.
            let packet = unsafe { vpx_codec_get_cx_data(self.context(), &raw mut position) };
            // SAFETY: the call gives null or a packet that is valid until the next call of `vpx_codec_encode`.
            let Some(packet) = (unsafe { packet.as_ref() }) else { return unit };
            if packet.kind != VPX_CODEC_CX_FRAME_PKT {
                continue;
            }
            // SAFETY: packets of this kind hold this member of the union.
            let frame = unsafe { packet.data.frame };
            if !frame.buf.is_null() {
                // SAFETY: the encoder's buffer holds `sz` bytes, valid as long as the packet.
                unit.data.extend_from_slice(unsafe { slice::from_raw_parts(frame.buf.cast(), frame.sz as usize) });
            }
            unit.keyframe |= frame.flags & VPX_FRAME_IS_KEY != 0;
        }
    }

    /// Has `read` look at the luma rows of what a viewer sees of the last picture.
    pub(super) fn reconstruction<T>(&mut self, read: impl FnOnce(&mut dyn Iterator<Item = &[u8]>) -> T) -> Option<T> {
        // SAFETY: the context is live; the call gives null or an image that is valid until the next call.
        let image = unsafe { vpx_codec_get_preview_frame(self.context()).as_ref() }?;
        let (start, width, stride) = (image.planes[0], image.d_w as usize, image.stride[0] as isize);
        if start.is_null() {
            return None;
        }
        // SAFETY: a picture has `d_h` rows of `d_w` bytes, `stride` apart, and nothing writes them while `self` is borrowed.
        let row = |row: u32| unsafe { slice::from_raw_parts(start.offset(row as isize * stride).cast_const(), width) };
        Some(read(&mut (0..image.d_h).map(row)))
    }

    fn context(&mut self) -> *mut vpx_codec_ctx_t {
        &raw mut *self.context
    }
}

impl Drop for RawEncoder {
    fn drop(&mut self) {
        // SAFETY: the context was initialised and is used by nobody after this.
        unsafe { vpx_codec_destroy(self.context()) };
    }
}

fn check(call: &'static str, code: vpx_codec_err_t) -> Result<(), Failure> {
    if code == VPX_CODEC_OK { Ok(()) } else { Err(Failure { call, code: code as c_int }) }
}
