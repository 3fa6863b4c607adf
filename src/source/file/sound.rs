//! The sound of a file: decoded, and made 48 kHz, stereo and 16 bits.
//!
//! Owns decoder and resampler of one stream and counts its samples. Times of packets place the first samples and those behind a gap; in between samples are
//! counted, since containers round their times and a sample more or less each 20 ms is heard.

use ac_ffmpeg::codec::audio::frame::{ChannelLayout, get_channel_layout, get_sample_format};
use ac_ffmpeg::codec::audio::{AudioDecoder, AudioFrame, AudioResampler};
use ac_ffmpeg::codec::{AudioCodecParameters, AudioCodecParametersBuilder, Decoder as _};
use ac_ffmpeg::packet::Packet;
use ac_ffmpeg::time::{TimeBase, Timestamp};

use crate::audio::{CHANNELS, SAMPLE_RATE};

/// So far a packet's time may be from where the count of samples is, in samples: 50 ms.
const TOLERANCE: i64 = SAMPLE_RATE as i64 / 20;

/// The sound of one file.
pub(super) struct Sound {
    decoder: AudioDecoder,
    resampler: Option<Resampler>,
    /// The number of the next sample, by the file's beginning; negative before it.
    next: Option<i64>,
    interleaved: Vec<i16>,
}

struct Resampler {
    format: &'static str,
    rate: u32,
    channels: u32,
    inner: AudioResampler,
    /// Samples that were put in.
    count: i64,
}

impl Sound {
    /// # Errors
    /// Where FFmpeg has no decoder for it.
    pub(super) fn new(parameters: &AudioCodecParameters, time_base: TimeBase) -> Result<Self, ac_ffmpeg::Error> {
        let mut parameters = parameters.clone();
        // Raw sound often does not say where its speakers are, and is not resampled then.
        let channels = parameters.channel_layout().channels();
        if let Some(layout) = ChannelLayout::from_channels(channels).filter(|_| channels <= 2) {
            parameters = AudioCodecParametersBuilder::from(parameters).channel_layout(&layout).build();
        }
        let decoder = AudioDecoder::from_codec_parameters(&parameters)?.time_base(time_base).build()?;
        Ok(Self { decoder, resampler: None, next: None, interleaved: Vec::new() })
    }

    /// Where the samples so far end.
    pub(super) fn end(&self) -> u64 {
        self.next.and_then(|next| u64::try_from(next).ok()).unwrap_or_default()
    }

    /// Decodes a packet, or what is left at the end; `sink` gets interleaved samples with the number of the first one.
    ///
    /// # Errors
    /// Where a part of it can't be decoded; what follows may be.
    pub(super) fn decode(
        &mut self,
        packet: Option<Packet>,
        origin: i64,
        sink: &mut dyn FnMut(u64, &[i16]),
    ) -> Result<(), ac_ffmpeg::Error> {
        let is_end = packet.is_none();
        let pushed = match packet {
            Some(packet) => self.decoder.try_push(packet),
            None => self.decoder.try_flush(),
        };
        let mut result = pushed.map_err(|error| ac_ffmpeg::Error::new(error.to_string()));
        while let Some(frame) = self.decoder.take()? {
            let resampled = self.resample(frame, origin, sink);
            result = result.and(resampled);
        }
        if let Some(resampler) = self.resampler.as_mut().filter(|_| is_end) {
            resampler.inner.try_flush().map_err(|error| ac_ffmpeg::Error::new(error.to_string()))?;
            self.drain(sink)?;
            self.resampler = None;
        }
        result
    }

    fn resample(
        &mut self,
        frame: AudioFrame,
        origin: i64,
        sink: &mut dyn FnMut(u64, &[i16]),
    ) -> Result<(), ac_ffmpeg::Error> {
        let seemed = frame.pts().as_micros().map(|micros| (micros - origin) * i64::from(SAMPLE_RATE) / 1_000_000);
        let jumped = match (self.next, seemed) {
            (Some(next), Some(seemed)) => (seemed - next).abs() > TOLERANCE,
            (Some(_), None) => false,
            (None, _) => true,
        };
        if jumped {
            self.next = Some(seemed.unwrap_or_default());
            self.resampler = None;
        }
        let (format, rate) = (frame.sample_format().name(), frame.sample_rate());
        let (channels, samples) = (frame.channel_layout().channels(), frame.samples() as i64);
        let known = |known: &Resampler| known.format == format && known.rate == rate && known.channels == channels;
        let resampler = match self.resampler.take().filter(known) {
            Some(resampler) => resampler,
            None => Resampler { format, rate, channels, inner: resampler(&frame)?, count: 0 },
        };
        let resampler = self.resampler.insert(resampler);
        let base = TimeBase::new(1, rate.max(1) as i32);
        let frame = frame.with_time_base(base).with_pts(Timestamp::new(resampler.count, base));
        resampler.count += samples;
        resampler.inner.try_push(frame).map_err(|error| ac_ffmpeg::Error::new(error.to_string()))?;
        self.drain(sink)
    }

    fn drain(&mut self, sink: &mut dyn FnMut(u64, &[i16])) -> Result<(), ac_ffmpeg::Error> {
        let Some(resampler) = &mut self.resampler else { return Ok(()) };
        while let Some(frame) = resampler.inner.take()? {
            let planes = frame.planes();
            let length = frame.samples() * resampler.channels.min(2) as usize * 2;
            let bytes = planes.first().and_then(|plane| plane.data().get(..length)).unwrap_or_default();
            let samples = bytes.chunks_exact(2).map(|pair| i16::from_ne_bytes([pair[0], pair[1]]));
            self.interleaved.clear();
            if resampler.channels == 1 {
                // One voice is as loud on both sides, as browsers play it; the resampler would take 3 dB away.
                self.interleaved.extend(samples.flat_map(|sample| [sample; CHANNELS]));
            } else {
                self.interleaved.extend(samples);
            }
            let at = self.next.unwrap_or_default();
            self.next = Some(at + frame.samples() as i64);
            let before = (at.min(0).unsigned_abs() as usize * CHANNELS).min(self.interleaved.len());
            if before < self.interleaved.len() {
                sink(at.max(0).unsigned_abs(), &self.interleaved[before..]);
            }
        }
        Ok(())
    }
}

fn resampler(frame: &AudioFrame) -> Result<AudioResampler, ac_ffmpeg::Error> {
    let target = if frame.channel_layout().channels() == 1 { "mono" } else { "stereo" };
    AudioResampler::builder()
        .source_channel_layout(frame.channel_layout().to_owned())
        .source_sample_format(frame.sample_format())
        .source_sample_rate(frame.sample_rate())
        .target_channel_layout(get_channel_layout(target))
        .target_sample_format(get_sample_format("s16"))
        .target_sample_rate(SAMPLE_RATE)
        .build()
}
