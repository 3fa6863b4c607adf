//! libvpx's own VP8 decoder, for tests: what a viewer sees.
#![expect(unsafe_code, reason = "libvpx is a C library")]

use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::ptr;

use vpx_sys::{
    VPX_CODEC_OK, VPX_DECODER_ABI_VERSION, vpx_codec_ctx_t, vpx_codec_dec_init_ver, vpx_codec_decode,
    vpx_codec_destroy, vpx_codec_get_frame, vpx_codec_vp8_dx,
};

use crate::frame::Size;
use crate::frame::colour::I420;

/// A running decoder.
pub struct Vp8Decoder(Box<vpx_codec_ctx_t>);

impl Vp8Decoder {
    /// Makes a decoder that has seen nothing.
    pub fn start() -> Self {
        // SAFETY: all fields are valid as zeros.
        let mut context: Box<vpx_codec_ctx_t> = Box::new(unsafe { MaybeUninit::zeroed().assume_init() });
        // SAFETY: the context is writable; no configuration is needed.
        let code = unsafe {
            let version = VPX_DECODER_ABI_VERSION as c_int;
            vpx_codec_dec_init_ver(&raw mut *context, vpx_codec_vp8_dx(), ptr::null(), 0, version)
        };
        assert_eq!(code, VPX_CODEC_OK);
        Self(context)
    }

    /// Decodes one frame; `None` where it can't.
    pub fn decode(&mut self, data: &[u8]) -> Option<I420> {
        // SAFETY: the context is live, and the call only reads `data`.
        let code = unsafe { vpx_codec_decode(&raw mut *self.0, data.as_ptr(), data.len() as u32, ptr::null_mut(), 0) };
        if code != VPX_CODEC_OK {
            return None;
        }
        let mut position = ptr::null();
        // SAFETY: the context is live; the image is valid until the next call.
        let image = unsafe { vpx_codec_get_frame(&raw mut *self.0, &raw mut position).as_ref() }?;
        let plane = |index: usize, width: u32, height: u32| {
            let row = |row: u32| {
                // SAFETY: the plane has `height` rows of `width` bytes, `stride` apart.
                unsafe {
                    let start = image.planes[index].offset(row as isize * image.stride[index] as isize);
                    std::slice::from_raw_parts(start.cast_const(), width as usize)
                }
            };
            (0..height).flat_map(row).copied().collect()
        };
        let (width, height) = (image.d_w, image.d_h);
        let half = (width.div_ceil(2), height.div_ceil(2));
        Some(I420 {
            size: Size::new(width, height),
            y: plane(0, width, height),
            u: plane(1, half.0, half.1),
            v: plane(2, half.0, half.1),
        })
    }
}

impl Drop for Vp8Decoder {
    fn drop(&mut self) {
        // SAFETY: the context was initialised and is used by nobody after this.
        unsafe { vpx_codec_destroy(&raw mut *self.0) };
    }
}
