//! Which recorded pictures may be sent as they are, and how: H.264 of the constrained baseline profile and VP8, in colours as browsers show them. Pure.
//!
//! Owns the row in which they follow each other. Packets go in as they are decoded, and each comes out again with the picture that was decoded of it. What
//! can't be sent so (another profile, other parameter sets than the stream began with, pictures in another order than they are coded in, pictures that are not
//! shown, damage) begins a new row.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use tracing::debug;

use super::colours::Told;
use crate::frame::coded::{Coded, Coding, Serial};

/// So many packets are in a decoder at most.
const MOST_INSIDE: usize = 64;
/// So many bytes parameter sets have at most: each keyframe has them.
const MOST_SETS: usize = 1024;
const START_CODE: [u8; 4] = [0, 0, 0, 1];

/// What is known of a stream before its first packet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stream<'a> {
    /// FFmpeg's name for its decoder.
    pub(super) codec: &'a str,
    /// FFmpeg's name for what it was demuxed by.
    pub(super) container: &'a str,
    /// What a decoder is set up by.
    pub(super) extradata: &'a [u8],
    /// What it says of its colours.
    pub(super) told: Told,
    /// The rows of its pictures, by which colours are guessed.
    pub(super) rows: usize,
}

/// The recorded pictures of one stream.
#[derive(Debug)]
pub(super) struct Passage {
    reader: Reader,
    next: Serial,
    /// When the last one is shown, in microseconds; `None` where the row has yet to begin, by a keyframe.
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
    /// The parameter sets.
    sets: Vec<Bytes>,
    /// Others came in between: nobody has looked at what they say.
    is_over: bool,
}

impl Passage {
    /// Of a stream of which this is known; `None` where nothing of it can be sent as it is.
    pub(super) fn new(stream: Stream<'_>) -> Option<Self> {
        let reader = match stream.codec {
            "h264" if !stream.told.is_shown_alike(stream.rows) => {
                debug!("H.264 is not passed on: browsers would show its colours otherwise ({:?})", stream.told);
                return None;
            }
            // Others may begin anew in the middle with parameter sets that no packet has.
            "h264" if ["mp4", "matroska"].iter().any(|known| stream.container.contains(known)) => {
                Reader::H264(Avc::read(stream.extradata)?)
            }
            "vp8" => Reader::Vp8,
            _ => return None,
        };
        Some(Self { reader, next: Serial::first(), last: None, inside: VecDeque::new() })
    }

    /// A packet goes to the decoder; its picture is shown at `at`.
    pub(super) fn handle_packet(&mut self, at: Option<i64>, data: &[u8]) {
        let coded = self.reader.read(data);
        let (Some(at), Some((data, keyframe))) = (at, coded) else { return self.handle_damage() };
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

impl Reader {
    /// The access unit of a packet as it is sent, and whether it is a keyframe.
    fn read(&mut self, data: &[u8]) -> Option<(Bytes, bool)> {
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
        let mut avc = Self { length: usize::from(length & 3) + 1, sets: Vec::new(), is_over: false };
        let rest = avc.take_sets(count & 31, rest, 7)?;
        let (count, rest) = rest.split_first()?;
        avc.take_sets(*count, rest, 8)?;
        let size: usize = avc.sets.iter().map(Bytes::len).sum();
        (size <= MOST_SETS).then_some(avc)
    }

    fn take_sets<'a>(&mut self, count: u8, mut rest: &'a [u8], kind: u8) -> Option<&'a [u8]> {
        for _ in 0..count {
            let (length, after) = rest.split_first_chunk::<2>()?;
            let (set, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
            if set.first()? & 31 != kind {
                return None;
            }
            self.sets.push(Bytes::copy_from_slice(set));
            rest = after;
        }
        (count > 0).then_some(rest)
    }

    /// The NAL units of a packet with start codes, those of a picture and of what it needs alone.
    fn annex_b(&mut self, mut packet: &[u8]) -> Option<(Bytes, bool)> {
        if self.is_over {
            return None;
        }
        let (mut units, mut keyframe, mut has_picture) = (BytesMut::with_capacity(packet.len() + 64), false, false);
        let put = |units: &mut BytesMut, unit: &[u8]| {
            units.put_slice(&START_CODE);
            units.put_slice(unit);
        };
        while !packet.is_empty() {
            let (length, rest) = packet.split_at_checked(self.length)?;
            let length = length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
            let (unit, rest) = rest.split_at_checked(length)?;
            packet = rest;
            match unit.first().map(|header| header & 31) {
                Some(kind @ (1 | 5)) => {
                    if kind == 5 && !keyframe {
                        keyframe = true;
                        self.sets.iter().for_each(|set| put(&mut units, set));
                    }
                    has_picture = true;
                    put(&mut units, unit);
                }
                // Many recorders repeat theirs.
                Some(7 | 8) if self.sets.iter().any(|set| set == unit) => {}
                Some(7 | 8) => {
                    debug!("H.264 is not passed on: it has other parameter sets than at its beginning");
                    self.is_over = true;
                    return None;
                }
                // Additional information, delimiters, filler: no decoder needs them.
                None | Some(6 | 9 | 10 | 11 | 12) => {}
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

    const SPS: &[u8] = &[0x67, 66, 0xc0, 31];
    const PPS: &[u8] = &[0x68, 3];
    const KEY: &[u8] = &[0x65, 0x88, 7];
    const DELTA: &[u8] = &[0x41, 0x9a, 5];

    /// A record with lengths of four bytes, an SPS and a PPS.
    fn record(profile: u8, constraints: u8) -> Vec<u8> {
        [&[1, profile, constraints, 31, 0xff, 0xe1, 0, 4][..], SPS, &[1, 0, 2], PPS].concat()
    }

    fn passage(codec: &str, container: &str, extradata: &[u8], rows: usize) -> Option<Passage> {
        Passage::new(Stream { codec, container, extradata, told: Told::default(), rows })
    }

    fn h264() -> Passage {
        passage("h264", "mov,mp4,m4a", &record(66, 0xc0), 180).unwrap()
    }

    fn packet(units: &[&[u8]]) -> Vec<u8> {
        units.iter().flat_map(|unit| [&(unit.len() as u32).to_be_bytes(), *unit].concat()).collect()
    }

    fn sent(units: &[&[u8]]) -> Vec<u8> {
        units.iter().flat_map(|unit| [&START_CODE, *unit].concat()).collect()
    }

    #[test]
    fn h264_gets_start_codes_and_parameter_sets_before_each_idr_picture() {
        let mut passage = h264();
        passage.handle_packet(Some(0), &packet(&[&[0x06, 9, 9], KEY, &[0x65, 8]]));
        passage.handle_packet(Some(40), &packet(&[&[0x09, 0xf0], DELTA]));
        passage.handle_packet(Some(80), &packet(&[SPS, PPS, KEY]));
        let key = passage.take(0).unwrap();
        assert_eq!(key.data, sent(&[SPS, PPS, KEY, &[0x65, 8]]));
        let delta = passage.take(40).unwrap();
        assert_eq!((key.keyframe, delta.keyframe), (true, false));
        assert_eq!(delta.data, sent(&[DELTA]));
        assert_eq!(delta.serial, key.serial.next());
        let again = passage.take(80).unwrap();
        assert_eq!((&again.data[..], again.serial), (&sent(&[SPS, PPS, KEY])[..], delta.serial.next()));
    }

    #[test]
    fn other_profiles_colours_containers_and_records_that_are_cut_off_are_not_passed_on() {
        let whole = record(66, 0x40);
        assert!(passage("h264", "matroska,webm", &whole, 719).is_some());
        // Many rows of which nothing is said are another matrix to us than to browsers.
        assert!(passage("h264", "matroska,webm", &whole, 720).is_none());
        for (codec, container) in [("hevc", "mp4"), ("h264", "flv"), ("h264", "mpegts"), ("av1", "mp4")] {
            assert!(passage(codec, container, &whole, 180).is_none(), "{codec} in {container}");
        }
        for (profile, constraints) in [(66, 0x80), (77, 0xc0), (100, 0)] {
            assert!(passage("h264", "mp4", &record(profile, constraints), 180).is_none(), "{profile}");
        }
        for length in 0..whole.len() {
            assert!(passage("h264", "mp4", &whole[..length], 180).is_none(), "{length} bytes");
        }
        let sets = [&[0, 0x04, 0x80, 0x67][..], &[1; 0x47f]].concat();
        let large = [&whole[..5], &[0xe1], &sets[1..], &[1, 0, 2], PPS].concat();
        assert!(passage("h264", "mp4", &large, 180).is_none(), "sets of 1154 bytes");
    }

    #[test]
    fn other_parameter_sets_in_between_are_the_end() {
        for other in [&[0x67, 66, 0xc0, 30][..], &[0x68, 4]] {
            let mut passage = h264();
            passage.handle_packet(Some(0), &packet(&[KEY]));
            assert!(passage.take(0).is_some());
            for (at, units) in [(40, &[other, KEY][..]), (80, &[KEY]), (120, &[SPS, PPS, KEY]), (160, &[DELTA])] {
                passage.handle_packet(Some(at), &packet(units));
                assert!(passage.take(at).is_none(), "{other:?}, at {at}");
            }
        }
    }

    #[test]
    fn what_breaks_a_row_begins_another() {
        let mut passage = h264();
        let breaks = [
            (50, packet(&[DELTA])),
            (160, packet(&[&[0x74, 1], DELTA])),
            (170, vec![0, 0, 0, 9, 1]),
            (180, packet(&[&[0x06, 1]])),
        ];
        for (broken_at, broken) in breaks {
            passage.handle_damage();
            passage.handle_packet(Some(100), &packet(&[KEY]));
            let first = passage.take(100).unwrap();
            passage.handle_packet(Some(broken_at), &broken);
            for (at, unit, begins) in [(200, DELTA, false), (240, KEY, true), (280, DELTA, true)] {
                passage.handle_packet(Some(at), &packet(&[unit]));
                let after = passage.take(at);
                assert_eq!(after.is_some(), begins, "break at {broken_at}, at {at}");
                assert!(after.is_none_or(|after| !after.serial.is_beside(first.serial)), "break at {broken_at}");
            }
        }
        passage.handle_packet(None, &packet(&[KEY]));
        assert!(passage.take(0).is_none());
    }

    #[test]
    fn a_picture_that_the_decoder_leaves_out_is_a_gap() {
        let mut passage = passage("vp8", "matroska,webm", &[], 720).unwrap();
        for at in [0, 40, 80] {
            let frame: &[u8] = if at == 0 { &[0x10, 0, 0, 0x9d, 0x01, 0x2a, 0x40, 1, 0x68, 1] } else { &[0x11] };
            passage.handle_packet(Some(at), frame);
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
