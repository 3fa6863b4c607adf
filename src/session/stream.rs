//! The video stream of one viewer: RTP headers, sequence numbers, timestamps, retransmissions (RFC 3550, RFC 4588, RFC 8285).
//!
//! A pure core. Packets are written and sealed where the [`PacketSink`] has room for them; nothing is copied for a viewer but its header.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::engine::feedback::SenderInfo;
use super::engine::{Engine, Path};
use super::history::{History, SentPacket};
use super::sdp::{LocalStreams, VideoParameters};
use crate::clock::Clock;
use crate::encoder::{Bitrate, Codec};
use crate::fanout::Unit;
use crate::id::random_bytes;

/// RTP clock of video.
const VIDEO_RATE: u32 = 90_000;
/// Least step between two units' timestamps: a millisecond.
const LEAST_STEP: u32 = VIDEO_RATE / 1000;

/// The bits of a picture id (RFC 7741, section 4.2).
const PICTURES: u16 = 0x7fff;

/// Takes packets that are written in place.
pub trait PacketSink {
    /// Makes room for `length` bytes along `path` and has `write` fill them; where it returns false, nothing is sent.
    fn push(&mut self, path: Path, length: usize, write: &mut dyn FnMut(&mut [u8]) -> bool);
}

/// The sending side of one video stream.
#[derive(Debug)]
pub struct VideoStream {
    parameters: VideoParameters,
    streams: LocalStreams,
    rate: Bitrate,
    clock: Clock,
    sequence: u64,
    rtx_sequence: u64,
    transport_number: u64,
    timestamp_offset: u32,
    /// In units of the RTP clock since the start of the media line, before it is cut to 32 bits.
    last_timestamp: Option<u64>,
    /// The id of the next picture; 15 bits of it are sent, and consecutive whatever was given up in between.
    picture: u16,
    packets: u32,
    octets: u32,
    /// What was sent.
    pub history: History,
}

impl VideoStream {
    /// Makes a stream that has sent nothing yet.
    pub fn new(now: Instant, clock: Clock, parameters: VideoParameters, streams: LocalStreams, rate: Bitrate) -> Self {
        Self {
            parameters,
            streams,
            rate,
            clock,
            sequence: first_sequence(),
            rtx_sequence: first_sequence(),
            transport_number: 0,
            timestamp_offset: u32::from_be_bytes(random_bytes()),
            last_timestamp: None,
            picture: u16::from_be_bytes(random_bytes()),
            packets: 0,
            octets: 0,
            history: History::new(now, rate),
        }
    }

    /// Goes on with another rate of the rung.
    pub fn set_rate(&mut self, now: Instant, rate: Bitrate) {
        self.rate = rate;
        self.history.set_rate(now, rate);
    }

    /// Goes on as a renegotiation says; where the codec is another one, nothing that was sent is repeated.
    pub fn set_parameters(&mut self, now: Instant, parameters: VideoParameters) {
        if parameters.codec != self.parameters.codec {
            self.history = History::new(now, self.rate);
        }
        self.parameters = parameters;
    }

    /// The codec of its pictures.
    pub fn codec(&self) -> Codec {
        self.parameters.codec
    }

    /// SSRC of the media.
    pub fn ssrc(&self) -> u32 {
        self.streams.video_ssrc
    }

    /// Sends a unit whose picture was taken at `taken` (or is to be shown as if it were: joiners get old units in quick order).
    pub fn send<E: Engine>(
        &mut self,
        now: Instant,
        taken: Instant,
        unit: &Arc<Unit>,
        engine: &mut E,
        sink: &mut dyn PacketSink,
    ) {
        let timestamp = self.timestamp(taken);
        let last = unit.payloads.len().saturating_sub(1);
        let picture = self.picture & PICTURES;
        self.picture = self.picture.wrapping_add(1);
        for index in 0..unit.payloads.len() {
            let sequence = self.sequence;
            self.sequence += 1;
            let mut packet =
                SentPacket { sequence, unit: unit.clone(), payload: index, timestamp, picture, sealed: None };
            let header = Header {
                marker: index == last,
                payload_type: self.parameters.payload_type,
                sequence,
                timestamp,
                ssrc: self.streams.video_ssrc,
            };
            let keep = self.parameters.rtx.is_none();
            packet.sealed = self.write(header, None, &packet, keep, engine, sink);
            self.packets = self.packets.wrapping_add(1);
            self.octets = self.octets.wrapping_add(unit.payloads[index].len() as u32);
            self.history.record(now, packet);
        }
    }

    /// Sends a packet again: by RTX where the viewer has it, else the identical ciphertext.
    pub fn repeat<E: Engine>(&mut self, packet: &SentPacket, engine: &mut E, sink: &mut dyn PacketSink) {
        match (self.parameters.rtx, &packet.sealed) {
            (Some(payload_type), _) => {
                let header = Header {
                    marker: packet.payload + 1 == packet.unit.payloads.len(),
                    payload_type,
                    sequence: self.rtx_sequence,
                    timestamp: packet.timestamp,
                    ssrc: self.streams.rtx_ssrc,
                };
                self.rtx_sequence += 1;
                self.write(header, Some(packet.sequence as u16), packet, false, engine, sink);
            }
            (None, Some(sealed)) => {
                if let Some(path) = engine.path() {
                    sink.push(path, sealed.len(), &mut |out| {
                        out.copy_from_slice(sealed);
                        true
                    });
                }
            }
            (None, None) => {}
        }
    }

    /// The figures of a sender report at `now`: extrapolated to the moment of sending (rule 10).
    pub fn sender_info(&self, now: Instant) -> SenderInfo {
        SenderInfo {
            ssrc: self.streams.video_ssrc,
            ntp: self.clock.ntp(now),
            rtp: self.clock.media_time(now).rtp(VIDEO_RATE).wrapping_add(self.timestamp_offset),
            packets: self.packets,
            octets: self.octets,
        }
    }

    /// The round trip time that a report block shows (RFC 3550, section 6.4.1).
    pub fn round_trip(&self, now: Instant, last_sender_report: u32, delay: u32) -> Option<Duration> {
        if last_sender_report == 0 {
            return None;
        }
        let middle = (self.clock.ntp(now) >> 16) as u32;
        let units = middle.wrapping_sub(last_sender_report).wrapping_sub(delay);
        // A viewer's arithmetic can be a little off; a negative time is none.
        (units < 1 << 31).then(|| Duration::from_secs_f64(f64::from(units) / 65_536.0))
    }

    fn timestamp(&mut self, taken: Instant) -> u32 {
        let wanted = self.clock.media_time(taken).ticks(VIDEO_RATE);
        let ticks = self.last_timestamp.map_or(wanted, |last| wanted.max(last + u64::from(LEAST_STEP)));
        self.last_timestamp = Some(ticks);
        (ticks as u32).wrapping_add(self.timestamp_offset)
    }

    /// Writes and seals one packet; returns its bytes where they are to be kept.
    fn write<E: Engine>(
        &mut self,
        header: Header,
        original: Option<u16>,
        packet: &SentPacket,
        keep: bool,
        engine: &mut E,
        sink: &mut dyn PacketSink,
    ) -> Option<Bytes> {
        let (path, payload) = (engine.path()?, packet.unit.payloads.get(packet.payload)?);
        let extensions = Extensions {
            transport: self.parameters.transport_cc.map(|id| (id, self.transport_number as u16)),
            playout: self.parameters.playout_delay,
        };
        let header_length = Header::LENGTH + extensions.length();
        let body = if original.is_some() { 2 } else { 0 };
        let length = header_length + body + payload.len() + engine.tag_length();
        let mut kept = None;
        sink.push(path, length, &mut |out| {
            header.write_with(&extensions, &mut out[..header_length]);
            if let Some(original) = original {
                out[header_length..header_length + 2].copy_from_slice(&original.to_be_bytes());
            }
            payload.write(&mut out[header_length + body..], packet.picture);
            let sealed = engine.seal(out, header_length, header.sequence);
            if sealed && keep {
                kept = Some(Bytes::copy_from_slice(out));
            }
            sealed
        });
        if extensions.transport.is_some() {
            self.history.record_number(self.transport_number, packet.sequence);
            self.transport_number += 1;
        }
        kept
    }
}

/// Draws a stream's first sequence number.
///
/// Half of the space is left before the first rollover, so that no receiver guesses it wrong (RFC 3711, section 3.3.1).
pub(super) fn first_sequence() -> u64 {
    u64::from(u16::from_be_bytes(random_bytes()) >> 1)
}

/// The header of an RTP packet (RFC 3550, section 5.1).
pub(super) struct Header {
    pub(super) marker: bool,
    pub(super) payload_type: u8,
    /// With its cycles; the lower 16 bits are sent.
    pub(super) sequence: u64,
    pub(super) timestamp: u32,
    pub(super) ssrc: u32,
}

impl Header {
    /// Bytes of a header without extensions.
    pub(super) const LENGTH: usize = 12;

    /// Writes it without extensions to `out`, which has [`Header::LENGTH`] bytes.
    pub(super) fn write(&self, out: &mut [u8]) {
        self.write_with(&Extensions { transport: None, playout: None }, out);
    }

    fn write_with(&self, extensions: &Extensions, out: &mut [u8]) {
        let (fixed, rest) = out.split_at_mut(Self::LENGTH);
        fixed[0] = if rest.is_empty() { 0x80 } else { 0x90 };
        fixed[1] = self.payload_type | if self.marker { 0x80 } else { 0 };
        fixed[2..4].copy_from_slice(&(self.sequence as u16).to_be_bytes());
        fixed[4..8].copy_from_slice(&self.timestamp.to_be_bytes());
        fixed[8..12].copy_from_slice(&self.ssrc.to_be_bytes());
        extensions.write(rest);
    }
}

/// The fixed set of header extensions, in the one-byte form (RFC 8285, section 4.2).
struct Extensions {
    transport: Option<(u8, u16)>,
    playout: Option<u8>,
}

impl Extensions {
    fn length(&self) -> usize {
        let elements = self.transport.map_or(0, |_| 3) + self.playout.map_or(0, |_| 4);
        if elements == 0 { 0 } else { 4 + usize::next_multiple_of(elements, 4) }
    }

    fn write(&self, out: &mut [u8]) {
        if out.is_empty() {
            return;
        }
        out.fill(0);
        let words = (out.len() / 4 - 1) as u16;
        out[..2].copy_from_slice(&[0xbe, 0xde]);
        out[2..4].copy_from_slice(&words.to_be_bytes());
        let mut at = 4;
        if let Some((id, number)) = self.transport {
            out[at] = id << 4 | 1;
            out[at + 1..at + 3].copy_from_slice(&number.to_be_bytes());
            at += 3;
        }
        if let Some(id) = self.playout {
            // Least and most delay of 0: show each picture as soon as it is decoded.
            out[at] = id << 4 | 2;
        }
    }
}
