//! Which recorded pictures may be sent as they are, and how: H.264 of the constrained baseline profile and VP8. Pure.
//!
//! Owns the row in which they follow each other. Packets go in as they are decoded, and each comes out again with the picture that was decoded of it. What
//! can't be sent so (another profile, pictures in another order than they are coded in, pictures that are not shown, damage) begins a new row.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use tracing::debug;

use crate::frame::coded::{Coded, Coding, Serial};

/// So many packets are in a decoder at most.
const MOST_INSIDE: usize = 64;
const START_CODE: [u8; 4] = [0, 0, 0, 1];

/// The recorded pictures of one stream.
#[derive(Debug)]
pub(super) struct Passage {
    reader: Reader,
    next: Serial,
    /// When the last one is shown, in microseconds.
    last: Option<i64>,
    /// What is being decoded.
    inside: VecDeque<(i64, Arc<Coded>)>,
}

/// How a packet is read.
#[derive(Debug)]
enum Reader {
    H264(Avc),
    Vp8,
}

/// What an avcC record says (ISO/IEC 14496-15, 5.3.3.1).
#[derive(Debug)]
struct Avc {
    /// Bytes of a NAL unit's length.
    length: usize,
    /// The parameter sets, with start codes.
    sets: Vec<u8>,
}

impl Passage {
    /// Of a stream whose decoder FFmpeg calls `codec`; `None` where nothing of it can be sent as it is.
    pub(super) fn new(codec: &str, extradata: &[u8]) -> Option<Self> {
        let reader = match codec {
            "h264" => Reader::H264(Avc::read(extradata)?),
            "vp8" => Reader::Vp8,
            _ => return None,
        };
        Some(Self { reader, next: Serial::first(), last: None, inside: VecDeque::new() })
    }

    /// A packet goes to the decoder; its picture is shown at `at`.
    pub(super) fn handle_packet(&mut self, at: Option<i64>, data: &[u8]) {
        let coded = self.reader.read(data);
        let (Some(at), Some((data, keyframe))) = (at, coded) else { return self.handle_damage() };
        if self.last.replace(at).is_some_and(|last| last >= at) || self.inside.len() >= MOST_INSIDE {
            self.handle_damage();
        }
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

impl Reader {
    /// The access unit of a packet as it is sent, and whether it is a keyframe.
    fn read(&self, data: &[u8]) -> Option<(Bytes, bool)> {
        match self {
            Self::H264(avc) => avc.annex_b(data),
            Self::Vp8 => vp8_keyframe(data).map(|keyframe| (Bytes::copy_from_slice(data), keyframe)),
        }
    }
}

impl Avc {
    /// Reads the record; `None` where its profile is not the one that viewers have agreed to.
    fn read(record: &[u8]) -> Option<Self> {
        let [1, profile, constraints, _, length, count, rest @ ..] = record else { return None };
        // Constrained baseline: no B pictures, no arbitrary order of slices (ITU-T H.264, A.2.1.1).
        if *profile != 66 || constraints & 0x40 == 0 {
            debug!("H.264 of profile {profile}/{constraints:#x} is not passed on");
            return None;
        }
        let mut avc = Self { length: usize::from(length & 3) + 1, sets: Vec::new() };
        let rest = avc.take_sets(count & 31, rest, 7)?;
        let (count, rest) = rest.split_first()?;
        avc.take_sets(*count, rest, 8)?;
        Some(avc)
    }

    fn take_sets<'a>(&mut self, count: u8, mut rest: &'a [u8], kind: u8) -> Option<&'a [u8]> {
        for _ in 0..count {
            let (length, after) = rest.split_first_chunk::<2>()?;
            let (set, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
            if set.first()? & 31 != kind {
                return None;
            }
            self.sets.extend(START_CODE);
            self.sets.extend(set);
            rest = after;
        }
        (count > 0).then_some(rest)
    }

    /// The NAL units of a packet with start codes, those of a picture and of what it needs alone.
    fn annex_b(&self, mut packet: &[u8]) -> Option<(Bytes, bool)> {
        let (mut units, mut keyframe, mut has_picture) = (BytesMut::with_capacity(packet.len() + 64), false, false);
        while !packet.is_empty() {
            let (length, rest) = packet.split_at_checked(self.length)?;
            let length = length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
            let (unit, rest) = rest.split_at_checked(length)?;
            packet = rest;
            match unit.first().map(|header| header & 31) {
                Some(kind @ (1 | 5)) => {
                    if kind == 5 && !keyframe {
                        keyframe = true;
                        units.put_slice(&self.sets);
                    }
                    has_picture = true;
                    units.put_slice(&START_CODE);
                    units.put_slice(unit);
                }
                // Additional information, delimiters, filler: no decoder needs them.
                None | Some(6 | 9 | 10 | 11 | 12) => {}
                // Parameter sets in between would be of a profile that nobody has looked at.
                Some(_) => return None,
            }
        }
        has_picture.then(|| (units.freeze(), keyframe))
    }
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
    use super::*;

    /// A record with lengths of four bytes, an SPS and a PPS.
    fn record(profile: u8, constraints: u8) -> Vec<u8> {
        vec![1, profile, constraints, 31, 0xff, 0xe1, 0, 3, 0x67, 1, 2, 1, 0, 2, 0x68, 3]
    }

    fn packet(units: &[&[u8]]) -> Vec<u8> {
        units
            .iter()
            .flat_map(|unit| (unit.len() as u32).to_be_bytes().into_iter().chain(unit.iter().copied()))
            .collect()
    }

    #[test]
    fn h264_gets_start_codes_and_parameter_sets_before_each_idr_picture() {
        let mut passage = Passage::new("h264", &record(66, 0xc0)).unwrap();
        passage.handle_packet(Some(0), &packet(&[&[0x06, 9, 9], &[0x65, 7], &[0x65, 8]]));
        passage.handle_packet(Some(40), &packet(&[&[0x09, 0xf0], &[0x41, 5]]));
        let key = passage.take(0).unwrap();
        let sent: [&[u8]; 4] = [&[0x67, 1, 2], &[0x68, 3], &[0x65, 7], &[0x65, 8]];
        assert_eq!(key.data, sent.map(|unit| [&START_CODE, unit].concat()).concat());
        let delta = passage.take(40).unwrap();
        assert_eq!((key.keyframe, delta.keyframe, &delta.data[..]), (true, false, &[0, 0, 0, 1, 0x41, 5][..]));
        assert_eq!(delta.serial, key.serial.next());
    }

    #[test]
    fn other_profiles_and_records_that_are_cut_off_are_not_passed_on() {
        for (profile, constraints) in [(66, 0x80), (77, 0xc0), (100, 0)] {
            assert!(Passage::new("h264", &record(profile, constraints)).is_none(), "{profile}");
        }
        let whole = record(66, 0xc0);
        for length in 0..whole.len() {
            assert!(Passage::new("h264", &whole[..length]).is_none(), "{length} bytes");
        }
        assert!(Passage::new("hevc", &whole).is_none());
    }

    #[test]
    fn what_breaks_a_row_begins_another() {
        let mut passage = Passage::new("h264", &record(66, 0x40)).unwrap();
        let (key, delta) = (packet(&[&[0x65, 7]]), packet(&[&[0x41, 7]]));
        let mut last = None;
        let breaks: [(i64, Vec<u8>); 4] =
            [(50, delta.clone()), (60, packet(&[&[0x67, 1], &[0x65, 7]])), (70, vec![0, 0, 0, 9, 1]), (80, vec![])];
        for (at, (time, data)) in breaks.into_iter().enumerate() {
            passage.handle_damage();
            passage.handle_packet(Some(100), &key);
            let first = passage.take(100).unwrap();
            assert_ne!(last, Some(first.serial));
            passage.handle_packet(Some(time), &data);
            passage.handle_packet(Some(200), &delta);
            let after = passage.take(200).unwrap();
            assert!(after.serial != first.serial.next() && after.serial != first.serial.next().next(), "break {at}");
            last = Some(after.serial);
        }
        passage.handle_packet(None, &delta);
        assert!(passage.take(0).is_none());
    }

    #[test]
    fn a_picture_that_the_decoder_leaves_out_is_a_gap() {
        let mut passage = Passage::new("vp8", &[]).unwrap();
        for at in [0, 40, 80] {
            passage.handle_packet(Some(at), &[0x11]);
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
