//! The fanout: the access units since the last keyframe, packetised once, that all sessions read (rules 1, 5 and 8).
//!
//! It holds a whole group of pictures or nothing: a joiner either gets all that it needs to decode, or a keyframe is asked for.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::encoder::{AccessUnit, Codec};

pub mod h264;
pub mod vp8;

/// Most bytes of an RTP payload.
///
/// 1200 bytes of UDP payload pass every network that WebRTC meets; of these 12 are the RTP header, 12 the fixed set of header extensions,
/// 16 the SRTP tag and 2 the original sequence number of a retransmission.
pub const MOST_PAYLOAD: usize = 1200 - 12 - 12 - 16 - 2;

/// Bounds of what is kept for joiners (rule 5).
const MOST_UNITS: usize = 300;
const MOST_BYTES: usize = 2_000_000;

/// What joiners at once may cost, and how much more than their keyframe, before another keyframe is the better way.
const MOST_AT_ONCE: usize = 8_000_000;
const DEAR_RATIO: usize = 3;

/// One RTP payload: a few bytes of its own, then a slice of the access unit.
#[derive(Debug, Clone)]
pub struct Payload {
    head: Head,
    body: Bytes,
}

/// What precedes the slice of the access unit.
#[derive(Debug, Clone, Copy)]
enum Head {
    /// The same bytes for each viewer, and how many of them.
    Fixed([u8; 2], u8),
    /// A descriptor of VP8 with the viewer's picture id.
    Vp8 { start: bool },
}

impl Payload {
    /// A payload of `head` (at most two bytes) and `body`.
    pub fn new(head: &[u8], body: Bytes) -> Self {
        let mut own = [0; 2];
        let length = head.len().min(own.len());
        own[..length].copy_from_slice(&head[..length]);
        Self { head: Head::Fixed(own, length as u8), body }
    }

    /// Bytes in all.
    pub fn len(&self) -> usize {
        let head = match self.head {
            Head::Fixed(_, length) => usize::from(length),
            Head::Vp8 { .. } => vp8::DESCRIPTOR,
        };
        head + self.body.len()
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes it to the front of `out`, which must be at least [`Payload::len`] long.
    ///
    /// `picture` is the viewer's id of the picture (15 bits), which VP8 carries and the others do not.
    pub fn write(&self, out: &mut [u8], picture: u16) {
        let (head, body) = out.split_at_mut(self.len() - self.body.len());
        match self.head {
            Head::Fixed(bytes, length) => head.copy_from_slice(&bytes[..usize::from(length)]),
            Head::Vp8 { start } => head.copy_from_slice(&vp8::descriptor(start, picture)),
        }
        body[..self.body.len()].copy_from_slice(&self.body);
    }
}

/// An access unit with its payloads.
#[derive(Debug)]
pub struct Unit {
    /// The access unit itself.
    pub access_unit: AccessUnit,
    /// Its RTP payloads in order; the marker bit belongs to the last.
    pub payloads: Vec<Payload>,
}

impl Unit {
    /// Packetises an access unit.
    pub fn new(access_unit: AccessUnit) -> Self {
        let payloads = match access_unit.codec {
            Codec::H264 => h264::packetise(&access_unit.data, MOST_PAYLOAD),
            Codec::Vp8 => vp8::packetise(&access_unit.data, MOST_PAYLOAD),
            Codec::Opus => vec![Payload::new(&[], access_unit.data.clone())],
        };
        Self { access_unit, payloads }
    }
}

/// The units of one codec since the last keyframe, numbered from the first that was ever taken.
#[derive(Debug, Default)]
pub struct Fanout {
    units: VecDeque<Arc<Unit>>,
    /// The number of the next unit to come; the front one has it less the length.
    end: u64,
    bytes: usize,
    /// Whether a unit was taken that `units` can't be decoded up to.
    broken: bool,
}

/// What comes next for a joiner.
#[derive(Debug)]
pub enum Next<'a> {
    /// This unit, of this number.
    Unit(u64, &'a Arc<Unit>),
    /// It has all units: the next one that comes is for it too.
    Live,
    /// The encoder has made nothing yet: its first unit will be a keyframe.
    Nothing,
    /// Too much came since the last keyframe: another one is needed.
    NeedsKeyframe,
}

impl Fanout {
    /// Takes the next unit.
    pub fn push(&mut self, unit: Arc<Unit>) {
        if unit.access_unit.keyframe {
            self.clear();
        }
        self.end += 1;
        if self.broken {
            return;
        }
        self.bytes += unit.access_unit.data.len();
        self.units.push_back(unit);
        if self.units.len() > MOST_UNITS || self.bytes > MOST_BYTES {
            self.units.clear();
            self.broken = true;
        }
    }

    /// Forgets all: the encoder stopped, or starts anew.
    pub fn clear(&mut self) {
        self.units.clear();
        self.bytes = 0;
        self.broken = false;
    }

    /// Whether `joiners` are served with fewer bytes by another keyframe than by what is held.
    ///
    /// A few are not: a keyframe costs everybody, and they would have to wait for it.
    pub fn is_dear_for(&self, joiners: usize) -> bool {
        let keyframe = self.units.front().map_or(0, |unit| unit.access_unit.data.len());
        self.bytes > DEAR_RATIO * keyframe && self.bytes * joiners > MOST_AT_ONCE
    }

    /// The number that the next unit will have.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// What comes next for a joiner who has all units before the number `next`; `None` for one who has nothing.
    ///
    /// Where the group of pictures that it was in has ended, it goes on at the keyframe that ended it.
    pub fn next(&self, next: Option<u64>) -> Next<'_> {
        if next == Some(self.end) {
            return Next::Live;
        }
        let first = self.end - self.units.len() as u64;
        match self.units.front() {
            // What comes before the first keyframe, or after a gap, decodes to nothing.
            Some(front) if front.access_unit.keyframe => {
                let number = next.unwrap_or(first).max(first);
                match self.units.get((number - first) as usize) {
                    Some(unit) => Next::Unit(number, unit),
                    None => Next::Live,
                }
            }
            None if !self.broken => Next::Nothing,
            _ => Next::NeedsKeyframe,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn unit(keyframe: bool, size: usize) -> Arc<Unit> {
        let mut data = vec![0, 0, 0, 1, if keyframe { 0x65 } else { 0x41 }];
        data.resize(size.max(6), 7);
        Arc::new(Unit::new(AccessUnit {
            codec: Codec::H264,
            data: data.into(),
            keyframe,
            captured: Instant::now(),
            sample: 0,
        }))
    }

    /// What a joiner at `next` gets before it is live, or why it gets nothing.
    fn catchup(fanout: &Fanout, mut next: Option<u64>) -> Result<usize, &'static str> {
        for count in 0.. {
            match fanout.next(next) {
                Next::Unit(number, _) => next = Some(number + 1),
                Next::Live => return Ok(count),
                Next::Nothing => return Err("nothing"),
                Next::NeedsKeyframe => return Err("keyframe"),
            }
        }
        unreachable!()
    }

    #[test]
    fn joiners_get_a_whole_group_or_none() {
        let mut fanout = Fanout::default();
        assert_eq!(catchup(&fanout, None), Err("nothing"));
        fanout.push(unit(true, 1000));
        for _ in 0..MOST_UNITS - 1 {
            fanout.push(unit(false, 100));
        }
        assert_eq!(catchup(&fanout, None), Ok(MOST_UNITS));
        fanout.push(unit(false, 100));
        assert_eq!(catchup(&fanout, None), Err("keyframe"));
        fanout.push(unit(false, 100));
        assert_eq!(catchup(&fanout, None), Err("keyframe"), "a group without its head is of no use");
        fanout.push(unit(true, 100));
        assert_eq!(catchup(&fanout, None), Ok(1));
        for _ in 0..3 {
            fanout.push(unit(false, MOST_BYTES / 2));
        }
        assert_eq!(catchup(&fanout, None), Err("keyframe"));
        fanout.clear();
        assert_eq!(catchup(&fanout, None), Err("nothing"));
    }

    #[test]
    fn a_storm_of_joiners_long_after_a_keyframe_is_better_served_by_another() {
        let mut fanout = Fanout::default();
        fanout.push(unit(true, 100_000));
        assert!(!fanout.is_dear_for(500), "nothing is smaller than the keyframe itself");
        for _ in 0..100 {
            fanout.push(unit(false, 10_000));
        }
        assert_eq!([1, 7, 8].map(|joiners| fanout.is_dear_for(joiners)), [false, false, true]);
    }

    #[test]
    fn a_joiner_overtaken_by_a_keyframe_goes_on_there() {
        let mut fanout = Fanout::default();
        fanout.push(unit(true, 100));
        fanout.push(unit(false, 100));
        fanout.push(unit(false, 100));
        assert_eq!(catchup(&fanout, Some(1)), Ok(2));
        fanout.push(unit(true, 100));
        fanout.push(unit(false, 100));
        assert_eq!(catchup(&fanout, Some(1)), Ok(2), "from the keyframe on");
        assert_eq!(catchup(&fanout, Some(5)), Ok(0));
        fanout.clear();
        assert_eq!(catchup(&fanout, Some(2)), Err("nothing"));
        assert_eq!(catchup(&fanout, Some(5)), Ok(0), "who has all is live whatever was forgotten");
        for _ in 0..=MOST_UNITS {
            fanout.push(unit(false, 100));
        }
        assert_eq!(catchup(&fanout, Some(4)), Err("keyframe"));
    }
}
