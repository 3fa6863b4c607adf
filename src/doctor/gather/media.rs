//! Facts of sound, codecs and the processor.

use std::sync::Arc;
use std::time::Instant;

use crate::alive::Watch;
use crate::audio::{AudioCapture, AudioError, AudioSpec};
use crate::clock::MediaTime;
use crate::doctor::media::{Encoding, Processor, SoundFacts};
use crate::encoder::picture::{EncoderError, Order, Qp, Tool};
use crate::encoder::video::VideoEncoder;
use crate::encoder::{Bitrate, Codec};
use crate::frame::Size;
use crate::frame::colour::I420;

/// Pictures with a small change that are encoded.
const CHANGES: usize = 9;
/// The extent of a change, in pixels.
const CHANGE: usize = 64;
const QUANTISER: Qp = Qp(28);

/// What would be heard; nothing is recorded.
pub(in crate::doctor) fn sound(asked: AudioSpec, with_lesson: bool) -> SoundFacts {
    let open = |spec: &AudioSpec| {
        let (watch, _ended) = Watch::new();
        let capture = AudioCapture::open(spec, Arc::new(|_| ()), &watch).map_err(|error| match error {
            AudioError::Unavailable { found, .. } => found,
            other => other.to_string(),
        })?;
        Ok(capture.describe())
    };
    // What `auto` lacks is told where what it means is asked for.
    let wanted = if asked == AudioSpec::Auto { AudioSpec::System } else { asked.clone() };
    let found = open(&wanted);
    let microphone = if asked == AudioSpec::Off { None } else { open(&AudioSpec::Mic(None)).ok() };
    SoundFacts { asked, found, microphone, with_lesson }
}

/// Encodes a page of noise, then small changes of it.
pub(in crate::doctor) fn codec(codec: Codec, size: Size, bitrate: Bitrate, fps: u32) -> Result<Encoding, String> {
    encode(codec, size, bitrate, fps).map_err(|error| error.to_string())
}

fn encode(codec: Codec, size: Size, bitrate: Bitrate, fps: u32) -> Result<Encoding, EncoderError> {
    let mut planes = I420::black(size);
    let mut noise = 1_u32;
    // Runs of eight pixels in two shades, as text has them.
    let mut shade = move || {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        if noise >> 30 == 0 { 16 } else { 235 }
    };
    planes.y.chunks_mut(8).for_each(|run| run.fill(shade()));
    VideoEncoder::check(codec, planes.size)?;
    let mut encoder = VideoEncoder::new(codec, planes.size, Tool::Camera, bitrate, fps)?;
    let mut times = Vec::with_capacity(CHANGES + 1);
    for number in 0..=CHANGES {
        let stride = planes.size.width as usize;
        for row in planes.y.chunks_mut(stride).take(CHANGE).filter(|_| number > 0) {
            let end = CHANGE.min(stride);
            row[..end].chunks_mut(8).for_each(|run| run.fill(shade()));
        }
        let order = Order { qp: QUANTISER, keyframe: number == 0, refine: false, still: false, measure: false };
        let at = MediaTime(number as u64 * 1_000_000_000 / u64::from(fps.max(1)));
        let begun = Instant::now();
        encoder.encode(&planes, at, Tool::Camera, order)?;
        times.push(begun.elapsed());
    }
    let keyframe = times.remove(0);
    times.sort_unstable();
    Ok(Encoding { keyframe, change: times[CHANGES / 2] })
}

/// What the processor has.
pub(in crate::doctor) fn processor() -> Processor {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Processor { cores, has_aes: has_aes() }
}

#[cfg(target_arch = "x86_64")]
fn has_aes() -> bool {
    std::arch::is_x86_feature_detected!("aes")
}

#[cfg(target_arch = "aarch64")]
fn has_aes() -> bool {
    std::arch::is_aarch64_feature_detected!("aes")
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn has_aes() -> bool {
    false
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn codecs_encode_pictures_smaller_than_a_change_too() {
        for size in [Size::new(16, 16), Size::new(320, 240)] {
            let encoding = codec(Codec::H264, size, Bitrate(1_000_000), 30).unwrap();
            assert!(encoding.keyframe.as_nanos() > 0 && encoding.change.as_nanos() > 0);
        }
        assert!(codec(Codec::H264, Size::new(8, 8), Bitrate(1_000_000), 30).is_err());
    }
}
