//! Which recorded pictures may be sent as they are, and how: H.264 of the constrained baseline profile and VP8, in colours as browsers show them.
//!
//! Owns the row in which they follow each other, and the filter that writes parameter sets before keyframes, also where a file has new ones in its middle.
//! Packets go in as they are decoded, and each comes out again with the picture that was decoded of it. What can't be sent so (another profile, pictures in
//! another order than they are coded in, pictures that are not shown, damage) begins a new row.

use std::collections::VecDeque;
use std::sync::Arc;

use ac_ffmpeg::codec::CodecParameters;
use ac_ffmpeg::codec::bsf::BitstreamFilter;
use ac_ffmpeg::packet::Packet;
use bytes::{BufMut, Bytes, BytesMut};
use tracing::debug;

use super::colours;
use crate::frame::coded::{Coded, Coding, Serial, nal_units};

/// So many packets are in a decoder at most.
const MOST_INSIDE: usize = 64;
/// So many bytes parameter sets have at most: each keyframe has them.
const MOST_SETS: usize = 1024;
const START_CODE: [u8; 4] = [0, 0, 0, 1];

/// The recorded pictures of one stream.
pub(super) struct Passage {
    reader: Reader,
    next: Serial,
    /// When the last one is shown, in microseconds; `None` where the row has yet to begin, by a keyframe.
    last: Option<i64>,
    /// What is being decoded.
    inside: VecDeque<(i64, Arc<Coded>)>,
}

/// How a packet is read.
enum Reader {
    H264(H264),
    Vp8,
}

/// H.264 as files have it, with its parameter sets apart.
struct H264 {
    /// FFmpeg's, which writes start codes and the parameter sets that hold at a keyframe.
    filter: BitstreamFilter,
    /// The rows of its pictures, by which colours are guessed.
    rows: usize,
    /// What was found to be in the way.
    hindrance: Option<Hindrance>,
}

/// Why an access unit is not sent as it is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Hindrance {
    #[error("its profile is {0}/{1:#x}, not constrained baseline")]
    Profile(u8, u8),
    #[error("browsers would show its colours otherwise")]
    Colours,
    #[error("its parameter sets are too many or too large, or not before a keyframe")]
    Sets,
    #[error("it has parts that only other profiles have, or is damaged")]
    Parts,
}

impl Passage {
    /// Of a stream with such parameters, whose pictures have `rows` rows; `None` where nothing of it can be sent as it is.
    pub(super) fn new(parameters: &CodecParameters, rows: usize) -> Option<Self> {
        let reader = match parameters.decoder_name()? {
            "h264" => Reader::H264(H264::new(parameters, rows)?),
            "vp8" => Reader::Vp8,
            _ => return None,
        };
        Some(Self { reader, next: Serial::first(), last: None, inside: VecDeque::new() })
    }

    /// A packet goes to the decoder.
    pub(super) fn handle_packet(&mut self, packet: &Packet) {
        let coded = match &mut self.reader {
            Reader::H264(h264) => h264.read(packet),
            Reader::Vp8 => {
                vp8_keyframe(packet.data()).map(|keyframe| (Bytes::copy_from_slice(packet.data()), keyframe))
            }
        };
        let (Some(at), Some((data, keyframe))) = (packet.pts().as_micros(), coded) else { return self.handle_damage() };
        if self.last.is_some_and(|last| last >= at) || self.inside.len() >= MOST_INSIDE {
            self.handle_damage();
        }
        if self.last.is_none() && !keyframe {
            return;
        }
        self.last = Some(at);
        let coding = if matches!(self.reader, Reader::Vp8) { Coding::Vp8 } else { Coding::H264 };
        self.inside.push_back((at, Arc::new(Coded { coding, data, keyframe, serial: self.next })));
        self.next = self.next.next();
    }

    /// How the decoded picture that is shown at `at` was recorded.
    pub(super) fn take(&mut self, at: i64) -> Option<Arc<Coded>> {
        while self.inside.front().is_some_and(|(first, _)| *first < at) {
            // The decoder has left it out, and who gets it nevertheless could too.
            self.inside.pop_front();
        }
        if self.inside.front().is_none_or(|(first, _)| *first != at) {
            return None;
        }
        self.inside.pop_front().map(|(_, coded)| coded)
    }

    /// What follows is not made of what was before.
    pub(super) fn handle_damage(&mut self) {
        (self.next, self.last) = (Serial::first(), None);
        self.inside.clear();
    }
}

impl H264 {
    fn new(parameters: &CodecParameters, rows: usize) -> Option<Self> {
        let filter = BitstreamFilter::builder("h264_mp4toannexb")
            .and_then(|builder| builder.input_codec_parameters(parameters).build())
            .inspect_err(|error| debug!("H.264 without parameter sets is not passed on: {error}"));
        Some(Self { filter: filter.ok()?, rows, hindrance: None })
    }

    /// The access unit of a packet as it is sent, and whether it is a keyframe.
    fn read(&mut self, packet: &Packet) -> Option<(Bytes, bool)> {
        let filtered = self.filter.push(packet.clone()).and_then(|()| self.filter.take());
        let unit = filtered.inspect_err(|error| debug!("H.264 is not passed on: {error}")).ok()??;
        let sendable = sendable(Bytes::copy_from_slice(unit.data()), self.rows);
        let hindrance = sendable.as_ref().err().copied();
        if self.hindrance != hindrance
            && let Some(hindrance) = hindrance
        {
            debug!("H.264 is not passed on: {hindrance}");
        }
        self.hindrance = hindrance;
        sendable.ok()
    }
}

/// What is sent of an access unit with start codes (the picture and what it needs), and whether it is a keyframe.
fn sendable(unit: Bytes, rows: usize) -> Result<(Bytes, bool), Hindrance> {
    let (mut sets, mut pictures) = (Vec::new(), Vec::new());
    let mut keyframe = false;
    for nal in nal_units(&unit) {
        match nal[0] & 31 {
            kind @ (1 | 5) => {
                keyframe |= kind == 5;
                pictures.push(nal);
            }
            7 => {
                let (profile, constraints) = (nal.get(1).copied().unwrap_or(0), nal.get(2).copied().unwrap_or(0));
                // Constrained baseline: no B pictures, no arbitrary order of slices (ITU-T H.264, A.2.1.1).
                if profile != 66 || constraints & 0x40 == 0 {
                    return Err(Hindrance::Profile(profile, constraints));
                }
                if !colours::told("h264", &[&START_CODE[..], &nal].concat(), &[]).is_shown_alike(rows) {
                    return Err(Hindrance::Colours);
                }
                sets.push(nal);
            }
            8 => sets.push(nal),
            // Additional information, delimiters, filler: no decoder needs them.
            6 | 9..=12 => {}
            _ => return Err(Hindrance::Parts),
        }
    }
    let first = sets.first().is_some_and(|set: &Bytes| set[0] & 31 == 7);
    let size: usize = sets.iter().map(Bytes::len).sum();
    match (pictures.is_empty(), keyframe) {
        (true, _) => return Err(Hindrance::Parts),
        (false, true) if first && sets.len() > 1 && size <= MOST_SETS => {}
        (false, false) if sets.is_empty() => {}
        _ => return Err(Hindrance::Sets),
    }
    let mut sent = BytesMut::with_capacity(unit.len() + START_CODE.len());
    for nal in sets.iter().chain(&pictures) {
        sent.put_slice(&START_CODE);
        sent.put_slice(nal);
    }
    Ok((sent.freeze(), keyframe))
}

/// Whether a frame is a keyframe (RFC 6386, section 9.1); `None` where it is not shown, or is to be scaled.
fn vp8_keyframe(frame: &[u8]) -> Option<bool> {
    let (first, rest) = frame.split_first()?;
    let (keyframe, version, shown) = (first & 1 == 0, first >> 1 & 7, first >> 4 & 1 == 1);
    let is_plain =
        !keyframe || matches!(rest, [_, _, 0x9d, 0x01, 0x2a, _, width, _, height, ..] if (width | height) >> 6 == 0);
    (shown && version <= 3 && is_plain).then_some(keyframe)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use ac_ffmpeg::codec::VideoCodecParameters;
    use ac_ffmpeg::packet::PacketMut;
    use ac_ffmpeg::time::Timestamp;

    use super::*;

    /// The parameter sets of a 320x180 picture, of which nothing is said of colours.
    const SPS: &[u8] = &[
        0x67, 0x42, 0xc0, 0x0b, 0xd9, 0x01, 0x41, 0x9f, 0x9f, 0x01, 0x10, 0x00, 0x00, 0x03, 0x00, 0x10, 0x00, 0x00,
        0x03, 0x01, 0x40, 0xf1, 0x42, 0xa4, 0x80,
    ];
    const PPS: &[u8] = &[0x68, 0xcb, 0x83, 0xcb, 0x20];

    /// An avcC record with lengths of four bytes (ISO/IEC 14496-15, 5.3.3.1).
    fn record(sps: &[u8], pps: &[u8]) -> Vec<u8> {
        let mut record = vec![1, sps[1], sps[2], sps[3], 0xff, 0xe1, 0, sps.len() as u8];
        record.extend(sps);
        record.extend([1, 0, pps.len() as u8]);
        record.extend(pps);
        record
    }

    fn parameters(codec: &str, record: Option<&[u8]>) -> CodecParameters {
        let parameters = VideoCodecParameters::builder(codec).unwrap().width(320).height(180).extradata(record);
        parameters.build().into()
    }

    fn h264() -> Passage {
        Passage::new(&parameters("h264", Some(&record(SPS, PPS))), 180).unwrap()
    }

    fn packet(at: i64, data: &[u8]) -> Packet {
        PacketMut::from(data).with_pts(Timestamp::from_micros(at)).freeze()
    }

    fn units(at: i64, units: &[&[u8]]) -> Packet {
        let framed = units.iter().flat_map(|unit| [&(unit.len() as u32).to_be_bytes(), *unit].concat());
        packet(at, &framed.collect::<Vec<_>>())
    }

    fn sent(units: &[&[u8]]) -> Vec<u8> {
        units.iter().flat_map(|unit| [&START_CODE, *unit].concat()).collect()
    }

    /// The same set of another profile.
    fn profiled(profile: u8, constraints: u8) -> Vec<u8> {
        let mut sps = SPS.to_vec();
        (sps[1], sps[2]) = (profile, constraints);
        sps
    }

    #[test]
    fn h264_gets_start_codes_and_parameter_sets_before_each_idr_picture() {
        let mut passage = h264();
        passage.handle_packet(&units(0, &[&[0x06, 9, 9], &[0x65, 0x88, 7], &[0x65, 0x48, 8]]));
        passage.handle_packet(&units(40, &[&[0x09, 0xf0], &[0x41, 0x9a, 5]]));
        let key = passage.take(0).unwrap();
        assert_eq!(key.data, sent(&[SPS, PPS, &[0x65, 0x88, 7], &[0x65, 0x48, 8]]));
        let delta = passage.take(40).unwrap();
        assert_eq!((key.keyframe, delta.keyframe), (true, false));
        assert_eq!(delta.data, sent(&[&[0x41, 0x9a, 5]]));
        assert_eq!(delta.serial, key.serial.next());
    }

    #[test]
    fn parameter_sets_of_the_stream_hold_where_they_fit_and_no_others_do() {
        let key: &[u8] = &[0x65, 0x88, 7];
        let pps: &[u8] = &[0x68, 0xcb, 0x83, 0xcb, 0x21];
        let mut passage = h264();
        passage.handle_packet(&units(0, &[SPS, pps, key]));
        assert_eq!(passage.take(0).unwrap().data, sent(&[SPS, pps, key]));
        for (at, sps) in [profiled(77, 0x40), profiled(66, 0x80), profiled(100, 0)].iter().enumerate() {
            passage.handle_packet(&units(100, &[sps, PPS, key]));
            assert!(passage.take(100).is_none(), "{at}");
            let mut whole = Passage::new(&parameters("h264", Some(&record(sps, PPS))), 180).unwrap();
            whole.handle_packet(&units(0, &[key]));
            assert!(whole.take(0).is_none(), "{at}");
        }
        let large = [PPS, &[1; MOST_SETS]].concat();
        for wrong in [&[SPS, &large[..], key][..], &[SPS, PPS, &[0x41, 0x9a, 5]], &[PPS, &[0x41, 0x9a]]] {
            passage.handle_packet(&units(200, wrong));
            assert!(passage.take(200).is_none(), "{wrong:?}");
        }
    }

    #[test]
    fn what_is_no_such_stream_is_not_passed_on() {
        assert!(Passage::new(&parameters("hevc", None), 180).is_none());
        let whole = record(SPS, PPS);
        for length in 0..whole.len() {
            let passage = Passage::new(&parameters("h264", Some(&whole[..length])), 180);
            let taken = passage.and_then(|mut passage| {
                passage.handle_packet(&units(0, &[&[0x65, 0x88, 7]]));
                passage.take(0)
            });
            assert!(taken.is_none(), "{length} bytes");
        }
        // Many rows of which nothing is said are another matrix to us than to browsers.
        assert_eq!(sendable(sent(&[SPS, PPS, &[0x65, 0x88]]).into(), 720), Err(Hindrance::Colours));
    }

    #[test]
    fn what_breaks_a_row_begins_another() {
        let mut passage = h264();
        let (key, delta): (&[u8], &[u8]) = (&[0x65, 0x88, 7], &[0x41, 0x9a, 7]);
        let breaks = [
            units(50, &[delta]),
            units(160, &[&[0x74, 1], delta]),
            packet(170, &[0, 0, 0, 9, 1]),
            packet(180, &[0, 0, 0, 0]),
        ];
        for (at, broken) in breaks.iter().enumerate() {
            passage.handle_damage();
            passage.handle_packet(&units(100, &[key]));
            let first = passage.take(100).unwrap();
            passage.handle_packet(broken);
            for (time, unit, begins) in [(200, delta, false), (240, key, true), (280, delta, true)] {
                passage.handle_packet(&units(time, &[unit]));
                let after = passage.take(time);
                assert_eq!(after.is_some(), begins, "break {at}, at {time}");
                assert!(after.is_none_or(|after| !after.serial.is_beside(first.serial)), "break {at}");
            }
        }
        passage.handle_packet(&PacketMut::from(delta).freeze());
        assert!(passage.take(0).is_none());
    }

    #[test]
    fn a_picture_that_the_decoder_leaves_out_is_a_gap() {
        let mut passage = Passage::new(&parameters("vp8", None), 180).unwrap();
        for at in [0, 40, 80] {
            let frame: &[u8] = if at == 0 { &[0x10, 0, 0, 0x9d, 0x01, 0x2a, 0x40, 1, 0x68, 1] } else { &[0x11] };
            passage.handle_packet(&packet(at, frame));
        }
        let first = passage.take(0).unwrap();
        assert!(passage.take(20).is_none());
        assert_eq!(passage.take(80).unwrap().serial, first.serial.next().next());
    }

    #[test]
    fn vp8_is_passed_on_where_it_is_shown_and_not_scaled() {
        let keyframe = |width: u8| vp8_keyframe(&[0x10, 0, 0, 0x9d, 0x01, 0x2a, 0x40, width, 0x68, 0x01]);
        assert_eq!([keyframe(1), keyframe(0x41)], [Some(true), None]);
        assert_eq!([&[0x11_u8][..], &[0x01], &[0x10, 0, 0], &[]].map(vp8_keyframe), [Some(false), None, None, None]);
    }
}
