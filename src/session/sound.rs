//! The sound of one viewer: Opus in RTP (RFC 7587), one packet each 20 ms, made once for all and only sealed here.
//!
//! A pure core. Its timestamps count samples, so they have no jitter; its reports say which moment of the one clock they belong to.

use std::time::Instant;

use super::engine::Engine;
use super::engine::feedback::SenderInfo;
use super::sdp::AudioParameters;
use super::stream::{Header, PacketSink, first_sequence};
use crate::audio::{BLOCK_SAMPLES, SAMPLE_RATE};
use crate::clock::{Clock, MediaTime};
use crate::fanout::Unit;
use crate::id::random_bytes;

/// The sending side of one viewer's sound.
#[derive(Debug)]
pub struct SoundStream {
    payload_type: u8,
    ssrc: u32,
    clock: Clock,
    sequence: u64,
    offset: u32,
    last: Option<Sent>,
    packets: u32,
    octets: u32,
}

/// The packet that was sent last.
#[derive(Debug, Clone, Copy)]
struct Sent {
    captured: Instant,
    /// Its first sample's number.
    sample: u64,
}

impl SoundStream {
    /// Makes a stream that has sent nothing yet.
    pub fn new(clock: Clock, parameters: &AudioParameters, ssrc: u32) -> Self {
        Self {
            payload_type: parameters.payload_type,
            ssrc,
            clock,
            sequence: first_sequence(),
            offset: u32::from_be_bytes(random_bytes()),
            last: None,
            packets: 0,
            octets: 0,
        }
    }

    /// Goes on as a renegotiation says.
    pub fn set_parameters(&mut self, parameters: &AudioParameters) {
        self.payload_type = parameters.payload_type;
    }

    /// Whether anything was sent.
    pub fn has_sent(&self) -> bool {
        self.last.is_some()
    }

    /// Sends one packet of sound.
    pub fn send<E: Engine>(&mut self, unit: &Unit, engine: &mut E, sink: &mut dyn PacketSink) {
        let (Some(path), Some(payload)) = (engine.path(), unit.payloads.first()) else { return };
        let captured = unit.access_unit.captured;
        let sample = unit.access_unit.sample;
        if let Some(last) = self.last {
            self.offset = self.offset.wrapping_add(shift(last, Sent { captured, sample }));
        }
        // The first packet of a talk spurt has the marker (RFC 3551, section 4.1): here, what follows a gap.
        let follows = self.last.is_some_and(|last| sample == last.sample + BLOCK_SAMPLES as u64);
        let header = Header {
            marker: !follows,
            payload_type: self.payload_type,
            sequence: self.sequence,
            timestamp: (sample as u32).wrapping_add(self.offset),
            ssrc: self.ssrc,
        };
        let length = Header::LENGTH + payload.len() + engine.tag_length();
        sink.push(path, length, &mut |out| {
            header.write(&mut out[..Header::LENGTH]);
            payload.write(&mut out[Header::LENGTH..], 0);
            engine.seal(out, Header::LENGTH, header.sequence)
        });
        self.sequence += 1;
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(payload.len() as u32);
        self.last = Some(Sent { captured, sample });
    }

    /// The figures of a sender report at `now`; `None` before the first packet.
    pub fn sender_info(&self, now: Instant) -> Option<SenderInfo> {
        let last = self.last?;
        // Sound is packed before it is sent, so the sample of `now` is always ahead of the last one sent.
        // RTP's clock is that of the samples (RFC 7587, section 4.1).
        let since = now.saturating_duration_since(last.captured);
        let since = MediaTime(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX));
        let sample = last.sample + since.ticks(SAMPLE_RATE);
        Some(SenderInfo {
            ssrc: self.ssrc,
            ntp: self.clock.ntp(now),
            rtp: (sample as u32).wrapping_add(self.offset),
            packets: self.packets,
            octets: self.octets,
        })
    }
}

/// What is added to all timestamps from `next` on, so that they go on as the clock does: nothing, unless `next` counts its samples from elsewhere, as the
/// sound of another source does.
fn shift(last: Sent, next: Sent) -> u32 {
    let since = next.captured.saturating_duration_since(last.captured);
    let since = MediaTime(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)).ticks(SAMPLE_RATE);
    let expected = last.sample + since.max(BLOCK_SAMPLES as u64);
    let goes_on = next.sample > last.sample && next.sample.abs_diff(expected) <= u64::from(SAMPLE_RATE) / 2;
    if goes_on { 0 } else { expected.wrapping_sub(next.sample) as u32 }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn sound_that_counts_from_elsewhere_goes_on_where_the_clock_is() {
        let start = Instant::now();
        let at = |millis, sample| Sent { captured: start + Duration::from_millis(millis), sample };
        for (last, next, expected) in [
            (at(0, 0), at(20, 960), 0),
            // Drift, and a gap of the same timeline.
            (at(0, 96_000), at(21, 96_960), 0),
            (at(0, 960), at(10_000, 960 + 480_000), 0),
            // Another source begins at its own sample, after a pause or at once.
            (at(0, 960_000), at(22_000, 0), 960_000 + 22 * 48_000),
            (at(0, 960_000), at(5, 0), 960_000 + 960),
            (at(0, 0), at(20, 9_600_000), (960_u32).wrapping_sub(9_600_000)),
        ] {
            assert_eq!(shift(last, next), expected, "{last:?} {next:?}");
        }
    }
}
