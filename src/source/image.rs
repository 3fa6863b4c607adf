//! Images that stand still: read and decoded once.
//!
//! Whatever FFmpeg reads as a picture: PNG, JPEG, WebP, BMP, the first picture of a GIF. What shines through is black. Nothing is read again.

use std::io::{self, Cursor, Read as _};
use std::path::Path;
use std::sync::Arc;

use ac_ffmpeg::codec::video::{VideoDecoder, VideoFrame, VideoFrameScaler, frame::get_pixel_format};
use ac_ffmpeg::codec::{Decoder as _, VideoCodecParameters};
use ac_ffmpeg::format::demuxer::Demuxer;
use ac_ffmpeg::format::io::IO;

use super::file::picture::{MOST_AREA, MOST_PIXELS};
use super::file::playlist::{self, Wrong};
use super::file::{quieten, turn::Turn};
use super::{FrameSink, Kind, Source, SourceError, still};
use crate::alive::Watch;
use crate::frame::{Picture, Size};

mod exif;
#[cfg(test)]
mod tests;

/// The most bytes of a file that are read.
const MOST_BYTES: u64 = 256 << 20;

/// Opens an image.
///
/// # Errors
/// [`SourceError`] where it can't be read, is no image or is too large.
pub(super) fn open(path: &Path, sink: FrameSink, watch: &Watch) -> Result<Source, SourceError> {
    quieten();
    let spec = Kind::Image(path.to_owned()).to_string();
    let picture = picture(path).map_err(|(found, advice)| SourceError::unavailable(&spec, found, advice))?;
    let description = format!("image {} {}", playlist::name(path), picture.size());
    still::open(&spec, "capture-image", picture, description, sink, watch)
}

/// Reads an image.
fn picture(path: &Path) -> Result<Picture, Wrong> {
    let too_large = |what: String| {
        let found = format!("it is too large ({what}; {MOST_PIXELS} pixels on each side and 256 MB are the most)");
        (found, "make it smaller: ffmpeg -i IMAGE -vf scale=1920:-1 slide.png".to_owned())
    };
    let unreadable = |why: String| {
        let found = format!("it is no image that FFmpeg can read ({why})");
        (found, "convert it to PNG".to_owned())
    };
    let file = playlist::open(path)?;
    let mut bytes = Vec::new();
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(|error: io::Error| unreadable(error.to_string()))?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(too_large("more than 256 MB".to_owned()));
    }
    let turn = Turn::of_orientation(exif::orientation(&bytes));
    let ffmpeg = |error: ac_ffmpeg::Error| unreadable(error.to_string());
    let builder = Demuxer::builder().set_option("protocol_whitelist", "none");
    let demuxer = builder.build(IO::from_seekable_read_stream(Cursor::new(bytes))).map_err(ffmpeg)?;
    let demuxer = demuxer.find_stream_info(None).map_err(|(_, error)| ffmpeg(error))?;
    // Formats of images alone; whatever follows the first one in some is none.
    let of_images = demuxer.input_format().name().ends_with("_pipe");
    let found = demuxer.streams().iter().enumerate().find_map(|(index, stream)| {
        Some((index, stream.time_base(), stream.codec_parameters().into_video_codec_parameters()?))
    });
    let Some((index, time_base, parameters)) = found else { return Err(unreadable("no picture in it".to_owned())) };
    let check = |width: usize, height: usize| {
        let side = MOST_PIXELS as usize;
        let fits = width <= side && height <= side && (width * height) as u64 <= MOST_AREA;
        if fits { Ok(()) } else { Err(too_large(format!("{width}x{height}"))) }
    };
    check(parameters.width(), parameters.height())?;
    let may_move = of_images || moves_at_times(&parameters);
    let decoder = VideoDecoder::from_codec_parameters(&parameters);
    let mut decoder = decoder.and_then(|builder| builder.time_base(time_base).build()).map_err(ffmpeg)?;
    let mut demuxer = demuxer.into_demuxer();
    let mut packets = 0;
    let frame = loop {
        let packet = demuxer.take().map_err(ffmpeg)?;
        let is_end = packet.is_none();
        let pushed = match packet {
            Some(packet) if packet.stream_index() != index => continue,
            Some(packet) => {
                packets += 1;
                decoder.try_push(packet)
            }
            None => decoder.try_flush(),
        };
        pushed.map_err(|error| unreadable(error.to_string()))?;
        match decoder.take().map_err(ffmpeg)? {
            Some(frame) => break frame,
            None if is_end => return Err(unreadable("no picture in it".to_owned())),
            None => {}
        }
    };
    check(frame.width(), frame.height())?;
    while let (0..2, Ok(Some(packet))) = (packets, demuxer.take()) {
        packets += u32::from(packet.stream_index() == index);
    }
    if packets > 1 && !may_move {
        let found = "it is no picture that stands still but a video".to_owned();
        return Err((found, "write file:PATH for a recorded lesson".to_owned()));
    }
    let (bgrx, size) = opaque(&frame).map_err(ffmpeg)?;
    let turned = turn.turned(size);
    let upright = match turn {
        Turn::None => bgrx,
        turn => {
            let mut upright = vec![0; bgrx.len()];
            turn.apply(&bgrx, size, &mut upright);
            upright
        }
    };
    Picture::new(Arc::new(upright), turned, turned.width as usize * 4)
        .ok_or_else(|| unreadable("it is empty".to_owned()))
}

/// Whether images of this codec may have several pictures, of which the first is shown.
fn moves_at_times(parameters: &VideoCodecParameters) -> bool {
    matches!(parameters.decoder_name(), Some("gif" | "png" | "apng" | "webp" | "libwebp" | "mjpeg" | "tiff"))
}

/// The pixels in rows of BGRX without a gap, over black.
fn opaque(frame: &VideoFrame) -> Result<(Vec<u8>, Size), ac_ffmpeg::Error> {
    let (width, height) = (frame.width(), frame.height());
    let mut scaler = VideoFrameScaler::builder()
        .source_pixel_format(frame.pixel_format())
        .source_width(width)
        .source_height(height)
        .target_pixel_format(get_pixel_format("bgra"))
        .target_width(width)
        .target_height(height)
        .build()?;
    let scaled = scaler.scale(frame)?;
    let planes = scaled.planes();
    let mut bgrx = Vec::with_capacity(width * height * 4);
    for line in planes[0].lines() {
        bgrx.extend_from_slice(line.get(..width * 4).unwrap_or_default());
    }
    for pixel in bgrx.chunks_exact_mut(4).filter(|pixel| pixel[3] != u8::MAX) {
        let alpha = u16::from(pixel[3]);
        for value in pixel.iter_mut() {
            *value = ((u16::from(*value) * alpha + 127) / 255) as u8;
        }
    }
    Ok((bgrx, Size::new(width as u32, height as u32)))
}
