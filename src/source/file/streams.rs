//! Which streams of a file are played, and how its bytes are read.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

use ac_ffmpeg::format::stream::Stream;
use tracing::warn;

use super::sound::Sound;
use super::turn::Turn;

/// The first video that is no cover picture, else the first one.
pub(super) fn best_video(streams: &[Stream]) -> Option<(usize, &Stream)> {
    let videos = || streams.iter().enumerate().filter(|(_, stream)| stream.codec_parameters().is_video_codec());
    let is_cover = |stream: &Stream| {
        let codec = stream.codec_parameters().decoder_name();
        codec.is_some_and(|codec| ["mjpeg", "png", "bmp", "gif", "webp", "tiff"].contains(&codec))
    };
    videos().find(|(_, stream)| !is_cover(stream)).or_else(|| videos().next())
}

/// The first sound that can be decoded; of a file that `is_known` nothing is logged.
pub(super) fn sound_of(streams: &[Stream], name: &str, is_known: bool) -> Option<(usize, &'static str, Sound)> {
    for (index, stream) in streams.iter().enumerate() {
        let parameters = stream.codec_parameters();
        let Some(codec) = parameters.decoder_name().filter(|_| parameters.is_audio_codec()) else { continue };
        let Some(parameters) = parameters.into_audio_codec_parameters() else { continue };
        match Sound::new(&parameters, stream.time_base()) {
            Ok(sound) => return Some((index, codec, sound)),
            Err(_) if is_known => {}
            Err(error) => warn!("the sound of {name} can't be decoded ({codec}: {error})"),
        }
    }
    None
}

/// What people call the codec of FFmpeg's decoder `decoder`.
pub(super) fn codec_name(decoder: &str) -> &str {
    match decoder {
        "h264" => "H.264",
        "hevc" => "HEVC",
        "vp8" | "libvpx" => "VP8",
        "vp9" | "libvpx-vp9" => "VP9",
        "av1" | "libdav1d" | "libaom-av1" => "AV1",
        "mpeg4" => "MPEG-4",
        "mpeg2video" => "MPEG-2",
        "mjpeg" => "MJPEG",
        "aac" | "libfdk_aac" => "AAC",
        "opus" | "libopus" => "Opus",
        "vorbis" | "libvorbis" => "Vorbis",
        "mp3" | "mp3float" => "MP3",
        "flac" => "FLAC",
        other => other,
    }
}

/// How its pictures are to be turned.
pub(super) fn turn_of(stream: &Stream) -> Turn {
    let matrix = stream.side_data().find(|data| data.data_type().name() == "Display Matrix");
    matrix.map_or(Turn::None, |data| Turn::of_matrix(data.data()))
}

/// A file for FFmpeg to read.
pub(super) struct Input(BufReader<File>);

impl Input {
    pub(super) fn new(file: File) -> Self {
        Self(BufReader::with_capacity(1 << 16, file))
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }
}

impl Seek for Input {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }

    fn stream_position(&mut self) -> io::Result<u64> {
        self.0.stream_position()
    }
}
