//! Opus (RFC 6716): a block of 20 ms in, at most one packet out, the same for all viewers.
//!
//! Owns the codec and the pause in silence. No in-band FEC: at this rate Opus encodes by CELT, which has none.

use bytes::Bytes;
use opus::{Application, Bitrate, Channels, Encoder};

use super::{CHANNELS, SAMPLE_RATE};

/// Bits per second: music in stereo without artefacts that anybody hears.
const BITRATE: i32 = 96_000;
/// Of 10: 0.3 % of a core, where 10 costs 0.5 and 0 costs 0.2 (`cargo test --release cost_of_encoding -- --ignored --nocapture`).
const COMPLEXITY: i32 = 5;
/// No packet of 20 ms is larger (RFC 6716, section 3.4).
const LARGEST_PACKET: usize = 1275;
/// Blocks of digital silence that are still encoded, so that the sound before them fades out: 200 ms, as libopus's own DTX.
const FADE: u32 = 10;
/// In a pause each so many blocks a packet is sent all the same, so that the viewers' ends know that they are heard: 400 ms.
const PULSE: u32 = 20;

/// Why a block was not encoded.
#[derive(Debug, thiserror::Error)]
#[error("opus can't {what}: {error}")]
pub struct OpusError {
    what: &'static str,
    error: opus::Error,
}

/// The encoder of one capture.
pub struct OpusEncoder {
    encoder: Encoder,
    packet: Vec<u8>,
    /// Blocks of digital silence since the last sound.
    silent: u32,
}

impl OpusEncoder {
    /// Makes an encoder for 48 kHz stereo.
    ///
    /// # Errors
    /// Where libopus refuses its settings.
    pub fn new() -> Result<Self, OpusError> {
        let failed = |what| move |error| OpusError { what, error };
        let mut encoder =
            Encoder::new(SAMPLE_RATE, Channels::Stereo, Application::Audio).map_err(failed("make an encoder"))?;
        encoder.set_bitrate(Bitrate::Bits(BITRATE)).map_err(failed("set its rate"))?;
        encoder.set_complexity(COMPLEXITY).map_err(failed("set its complexity"))?;
        encoder.set_inband_fec(false).map_err(failed("leave out FEC"))?;
        Ok(Self { encoder, packet: vec![0; LARGEST_PACKET], silent: 0 })
    }

    /// Encodes 20 ms of interleaved samples; `None` where digital silence lasts and nothing need be sent.
    ///
    /// # Errors
    /// Where `samples` are not 20 ms of stereo.
    pub fn encode(&mut self, samples: &[i16]) -> Result<Option<Bytes>, OpusError> {
        self.silent = if samples.iter().all(|sample| *sample == 0) { self.silent.saturating_add(1) } else { 0 };
        if let Some(pause) = self.silent.checked_sub(FADE + 1) {
            // A packet of its first byte alone is a frame that is not transmitted (RFC 6716, section 3.2.1), here a mono
            // or stereo frame of 20 ms; decoders go on with the silence that they have.
            return Ok(pause.is_multiple_of(PULSE).then(|| Bytes::copy_from_slice(&[self.packet[0] & !3])));
        }
        let failed = |error| OpusError { what: "encode 20 ms", error };
        let length = self.encoder.encode(samples, &mut self.packet).map_err(failed)?;
        debug_assert_eq!(samples.len() % CHANNELS, 0);
        Ok(Some(Bytes::copy_from_slice(&self.packet[..length])))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::f64::consts::TAU;
    use std::time::{Duration, Instant};

    use opus::Decoder;

    use super::*;
    use crate::audio::BLOCK_SAMPLES;

    /// 20 ms of a sine of `frequency` at a tenth of full scale, the block with this number.
    fn sine(frequency: f64, number: usize) -> Vec<i16> {
        let at = |n: usize| (3276.7 * (TAU * frequency * n as f64 / 48_000.0).sin()).round() as i16;
        (0..BLOCK_SAMPLES).flat_map(|n| [at(number * BLOCK_SAMPLES + n); CHANNELS]).collect()
    }

    /// Decodes as a receiver does: what did not come is concealed.
    fn decode(decoder: &mut Decoder, packet: Option<&Bytes>) -> Vec<f64> {
        let mut out = vec![0; BLOCK_SAMPLES * CHANNELS];
        let empty = Bytes::new();
        let count = decoder.decode(packet.unwrap_or(&empty), &mut out, false).unwrap();
        assert_eq!(count, BLOCK_SAMPLES);
        out.iter().step_by(CHANNELS).map(|sample| f64::from(*sample)).collect()
    }

    /// The largest part of `signal` that is not a sine of `frequency`, and that sine's amplitude.
    fn residue(signal: &[f64], frequency: f64) -> (f64, f64) {
        let phase = |n: usize| TAU * frequency * n as f64 / 48_000.0;
        let sum = |f: fn(f64) -> f64| signal.iter().enumerate().map(|(n, s)| s * f(phase(n))).sum::<f64>();
        let scale = 2.0 / signal.len() as f64;
        let (sine, cosine) = (sum(f64::sin) * scale, sum(f64::cos) * scale);
        let rest = |(n, s): (usize, &f64)| (s - sine * phase(n).sin() - cosine * phase(n).cos()).abs();
        (signal.iter().enumerate().map(rest).fold(0.0, f64::max), sine.hypot(cosine))
    }

    #[test]
    fn a_tone_comes_back_with_its_frequency_and_level_and_without_a_break() {
        let mut decoder = Decoder::new(SAMPLE_RATE, Channels::Stereo).unwrap();
        let mut encoder = OpusEncoder::new().unwrap();
        let mut signal = Vec::new();
        for number in 0..100 {
            let packet = encoder.encode(&sine(1000.0, number)).unwrap().unwrap();
            assert!(packet.len() <= 400, "{} bytes in 20 ms", packet.len());
            signal.extend(decode(&mut decoder, Some(&packet)));
        }
        let (rest, amplitude) = residue(&signal[24_000..], 1000.0);
        assert!((amplitude / 3276.7 - 1.0).abs() < 0.02, "amplitude {amplitude}");
        assert!(rest < 0.1 * amplitude, "{rest} of {amplitude} is no tone");
    }

    #[test]
    fn silence_pauses_with_a_pulse_and_sound_after_it_is_whole() {
        let mut decoder = Decoder::new(SAMPLE_RATE, Channels::Stereo).unwrap();
        let mut encoder = OpusEncoder::new().unwrap();
        for number in 0..50 {
            decode(&mut decoder, encoder.encode(&sine(1000.0, number)).unwrap().as_ref());
        }
        let quiet = vec![0; BLOCK_SAMPLES * CHANNELS];
        let packets: Vec<_> = (0..100).map(|_| encoder.encode(&quiet).unwrap()).collect();
        let sent: Vec<_> = (0..100).filter(|number| packets[*number].is_some()).collect();
        assert_eq!(sent, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 30, 50, 70, 90]);
        let heard: Vec<_> = packets.iter().map(|packet| decode(&mut decoder, packet.as_ref())).collect();
        let loudest = heard[10..].iter().flatten().fold(0.0, |loudest: f64, sample| loudest.max(sample.abs()));
        assert!(loudest <= 2.0, "a pause is heard at {loudest}");
        let mut signal = Vec::new();
        for number in 0..50 {
            let packet = encoder.encode(&sine(1000.0, number)).unwrap();
            signal.extend(decode(&mut decoder, packet.as_ref()));
        }
        // The codec looks 6.5 ms ahead; from there on, the tone is what it was.
        let (rest, amplitude) = residue(&signal[960..], 1000.0);
        assert!((amplitude / 3276.7 - 1.0).abs() < 0.02, "amplitude {amplitude}");
        assert!(rest < 0.15 * amplitude, "{rest} of {amplitude} is no tone");
    }

    #[test]
    fn the_quietest_sound_is_no_silence() {
        let mut encoder = OpusEncoder::new().unwrap();
        let mut quiet = vec![0; BLOCK_SAMPLES * CHANNELS];
        quiet[17] = 1;
        assert!((0..100).all(|_| encoder.encode(&quiet).unwrap().is_some()));
    }

    #[test]
    #[ignore = "a measurement: prints what each complexity costs"]
    #[allow(clippy::print_stdout)]
    fn cost_of_encoding() {
        let mut noise = 1_u64;
        let blocks: Vec<Vec<i16>> = (0..500)
            .map(|number| {
                let tone = sine(440.0, number);
                let noisy = |sample: &i16| {
                    noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    sample + (noise >> 54) as i16 - 512
                };
                tone.iter().map(noisy).collect()
            })
            .collect();
        for complexity in [0, 3, 5, 6, 8, 9, 10] {
            let mut encoder = OpusEncoder::new().unwrap();
            encoder.encoder.set_complexity(complexity).unwrap();
            let start = Instant::now();
            let bytes: usize = blocks.iter().map(|block| encoder.encode(block).unwrap().unwrap().len()).sum();
            let each = start.elapsed() / 500;
            let share = each.as_secs_f64() / Duration::from_millis(20).as_secs_f64() * 100.0;
            println!(
                "complexity {complexity}: {each:.1?} for 20 ms, {share:.2} % of a core, {} kbit/s",
                bytes * 8 / 10_000
            );
        }
    }
}
